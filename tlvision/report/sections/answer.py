"""Answer in one sentence how good the model is, what it gained, and what to fix first."""

from __future__ import annotations

import math
from typing import Any

from tlvision.evaluation.summary import format_number, headlines
from tlvision.report.page import spaced
from tlvision.report.run_files import RunFiles, main_kind, mapping, number, pick
from tlvision.types import counted, listing

_PREFERRED = ("AP", "AP50", "AP75", "AR100", "mean_class_iou", "pixel_accuracy")
_KINDS = {"bbox": "box ", "segm": "mask ", "semantic": ""}
_REMEDIES = {
    "localisation": "Objects are found, but their boxes or masks do not fit: check how tightly they are labelled. A "
    "larger data.image_size helps small objects.",
    "classification": "Objects are found with the wrong class: see the confusion, and check their labels.",
    "both": "Detections near objects have the wrong class and the wrong place: see the worst images.",
    "duplicate": "Objects are found several times: lower model.nms_iou.",
    "background": "Detections lie where nothing is labelled: look in the worst images for objects without a label, and "
    "add images without objects.",
    "missed": "Objects are not found: look in the worst images for what they have in common, and label more of them.",
}


def answer(files: RunFiles) -> tuple[str, list[str]]:
    """Return the answer, "" without metrics, and sentences that explain it."""
    metrics, kind = files.metrics, main_kind(files)
    name = next((key for key in (*_PREFERRED, *mapping(metrics, kind)) if key in mapping(metrics, kind)), "")
    value = number(mapping(metrics, kind).get(name))
    if math.isnan(value):
        return "", []
    shown = f"{_KINDS.get(kind, f'{kind} ')}{spaced(name)}"
    images = number(pick(metrics, "counts.images"))
    on = "" if math.isnan(images) else f" on {counted(int(images), 'image')}"
    sentence = f"{shown[0].upper()}{shown[1:]} is {value:.3f}{_interval(metrics, kind, name)}{on}"
    gained = _gain(files, f"{kind}/{name}", value)
    first, remedy = _fix_first(files, kind)
    sentence += ", ".join(["", *(part for part in (gained,) if part)])
    return f"{sentence}; {first}." if first else f"{sentence}.", [remedy] if remedy else []


def _interval(metrics: Any, kind: str, name: str) -> str:
    """Return the 95 % interval that metrics.json has in `intervals`, {"bbox/AP": [low, high]}; "" without one."""
    found = mapping(metrics, "intervals").get(f"{kind}/{name}")
    if not isinstance(found, list) or len(found) != 2:
        return ""
    return f" (95 % interval {number(found[0]):.3f} to {number(found[1]):.3f})"


def _gain(files: RunFiles, name: str, value: float) -> str:
    """Return how much the metric rose since the first evaluation of the run."""
    domain = files.metrics.get("domain")
    key = f"{domain}/{name}" if isinstance(domain, str) else name
    first = next(iter(files.evaluations), {})
    start = number(mapping(first, "metrics").get(key))
    if math.isnan(start) or len(files.evaluations) < 2:
        return ""
    since = "before training" if first.get("step") == 0 else f"at the first evaluation (epoch {first.get('epoch')})"
    return f"{abs(value - start):.3f} {'more' if value >= start else 'less'} than {since}"


def _fix_first(files: RunFiles, kind: str) -> tuple[str, str]:
    """Return what costs most and how to repair it: a kind of error, or of label maps a class."""
    kinds = mapping(files.metrics, f"analysis.{kind}.error_kinds")
    costs = {name: number(pick(kinds, f"{name}.AP50_lost")) for name in _REMEDIES}
    costs = {name: cost for name, cost in costs.items() if cost > 0}
    if costs:
        worst = max(costs, key=costs.__getitem__)
        thing = "missed objects" if worst == "missed" else f"{_ERRORS.get(worst, worst)} errors"
        return f"fix {thing} first, which cost {costs[worst]:.3f} AP50", _REMEDIES[worst]
    rows = mapping(files.metrics, "per_class")
    ious = {name: number(pick(row, "iou")) for name, row in rows.items() if isinstance(row, dict)}
    ious = {name: iou for name, iou in ious.items() if not math.isnan(iou)}
    if not ious:
        return "", ""
    worst = min(ious, key=ious.__getitem__)
    return f"fix class {worst} first, whose IoU is {ious[worst]:.3f}", _label_map_remedy(files, worst)


_ERRORS = {"both": "class-and-place"}


def _label_map_remedy(files: RunFiles, name: str) -> str:
    cells = pick(files.metrics, "analysis.semantic.confusion")
    cells = [cell for cell in cells if isinstance(cell, dict)] if isinstance(cells, list) else []
    wrong = [cell for cell in cells if cell.get("truth") == name and cell.get("predicted") != name]
    total = sum(number(cell.get("count")) for cell in cells if cell.get("truth") == name)
    if not wrong or not total > 0:
        return ""
    most = max(wrong, key=lambda cell: number(cell.get("count")))
    return f"{100 * number(most.get('count')) / total:.0f} % of its pixels are predicted as {most.get('predicted')}."


def tiles(files: RunFiles) -> list[tuple[str, str]]:
    """Return the numbers that matter most, of each kind."""
    result = []
    kinds, main = headlines(files.metrics), main_kind(files)
    for kind, numbers in sorted(kinds.items(), key=lambda item: item[0] != main):
        chosen = [key for key in _PREFERRED if key in numbers] or list(numbers)[:4]
        prefix = f"{kind} " if len(kinds) > 1 else ""
        result += [(f"{prefix}{spaced(key)}", format_number(numbers[key])) for key in chosen]
    return result


def facts(files: RunFiles) -> list[tuple[str, str]]:
    """Return task, model, classes and data."""
    config, names = files.config, files.classes.get("names")
    data = [pick(config, f"data.train.{key}") for key in ("json", "masks", "images")]
    return [
        ("task", str(files.metrics.get("task") or "")),
        ("model", " ".join(str(pick(config, f"model.{key}") or "") for key in ("plugin", "arch")).strip()),
        ("classes", f"{len(names)} ({listing(names, 6)})" if isinstance(names, list) else ""),
        ("training data", str(next((path for path in data if path), ""))),
        ("domain", str(files.metrics.get("domain") or "")),
        ("checkpoint chosen by", str(pick(files.metrics, "selection.by") or "")),
    ]
