"""Metrics as aligned plain text for a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tlvision.types import counted

NOT_HEADLINES = frozenset(
    {"analysis", "intervals", "per_class", "counts", "protocol", "source", "unlabelled", "selection"}
)
"""Objects in metrics.json that are not overall numbers; every other one is a kind of those, such as "bbox"."""


def headlines(metrics: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the overall numbers in the content of metrics.json, by kind: boxes, masks, label maps or another task's.

    >>> headlines({"task": "detect", "bbox": {"AP": 0.5}, "per_class": {}})
    {'bbox': {'AP': 0.5}}
    """
    return {
        kind: numbers for kind, numbers in metrics.items() if isinstance(numbers, dict) and kind not in NOT_HEADLINES
    }


LOW_SCORE = 0.1
"""A detector has detections below it; a file without any has been cut."""
ENOUGH_PREDICTIONS = 50
"""Fewer may all have high scores by chance."""


def format_table(metrics: Mapping[str, Any]) -> str:
    """Return the overall numbers and the table per class, aligned with spaces.

    metrics: what `coco_map`, `instance_map` or `class_iou` returns, or `metrics.json` of a run. Fractions are shown
             with four digits, counts as integers, and "-" stands where there was nothing to measure.

    Raises KeyError if `metrics` has no overall numbers.

    >>> print(format_table({"semantic": {"mean_class_iou": 0.5, "pixel_accuracy": None}, "per_class": {}}))
    semantic
      mean_class_iou  0.5000
      pixel_accuracy       -
    """
    overall = headlines(metrics)
    if not overall:
        raise KeyError(f"metrics: expected overall numbers such as 'bbox' or 'semantic', got {sorted(metrics)}")
    intervals = metrics.get("intervals") or {}
    blocks = [_overall(kind, numbers, intervals) for kind, numbers in overall.items()]
    per_class = metrics.get("per_class") or {}
    if per_class:
        blocks.append(_per_class(per_class))
    notes = _notes(metrics)
    return "\n\n".join(blocks + ([notes] if notes else []))


def format_number(value: object) -> str:
    """Return a count as it is, a fraction with four digits, None as "-".

    >>> format_number(3), format_number(0.25), format_number(None)
    ('3', '0.2500', '-')
    """
    if value is None:
        return "-"
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def _overall(kind: str, numbers: Mapping[str, Any], intervals: Mapping[str, Any]) -> str:
    rows = [(name, format_number(value), "") for name, value in numbers.items()]
    for place, (name, value, _) in enumerate(rows):
        if (interval := intervals.get(f"{kind}/{name}")) is not None:
            rows[place] = name, value, f"{interval[0]:.4f} to {interval[1]:.4f} (95 % interval over images)"
    return kind + "\n" + align(rows if any(row[2] for row in rows) else [row[:2] for row in rows])


def _per_class(per_class: Mapping[str, Mapping[str, Any]]) -> str:
    columns = list(next(iter(per_class.values())))
    rows = [("class", *(column.replace("_", " ") for column in columns))]
    rows += [(name, *(format_number(row.get(column)) for column in columns)) for name, row in per_class.items()]
    return "per class\n" + align(rows)


def align(rows: Sequence[Sequence[str]]) -> str:
    """Return rows as lines of cells of equal width, the first column to the left and the others to the right.

    >>> print(align([("name", "n"), ("a", "10")]))
      name   n
      a     10
    """
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [row[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        lines.append("  " + "  ".join(cells).rstrip())
    return "\n".join(lines)


def _notes(metrics: Mapping[str, Any]) -> str:
    lines = []
    if metrics.get("absent_classes"):
        lines.append(f"excluded from the mean (nothing to measure): {', '.join(metrics['absent_classes'])}")
    counts = metrics.get("counts") or {}
    if counts:
        shown = {name: value for name, value in counts.items() if name not in _WARNED}
        lines.append(", ".join(f"{value} {name.replace('_', ' ')}" for name, value in shown.items()))
    lines += warnings_of(metrics)
    if "hash" in metrics.get("protocol", {}):
        lines.append(f"protocol {format_hash(metrics['protocol']['hash'])}")
    return "\n".join(lines)


# Counts that have a sentence of their own.
_WARNED = {
    "lowest_score",
    "unusable",
    "empty_masks",
    "repeated",
    "images_above_max_detections",
    "objects_above_max_detections",
    "most_objects",
}


def warnings_of(metrics: Mapping[str, Any]) -> list[str]:
    """Return sentences about what bends the numbers of an evaluation: limits, repeated and unusable ground truth.

    metrics: as for `format_table`.

    >>> warnings_of({"counts": {"ground_truths": 0}})
    ['warning: there is no ground truth, so nothing was measured']
    """
    from tlvision.formats.coco.duplicates import repeated_sentence  # not with the module: it brings OpenCV along

    counts, lines = metrics.get("counts") or {}, []
    if counts.get("ground_truths") == 0:
        lines.append("warning: there is no ground truth, so nothing was measured")
    unmeasured = [kind for kind, numbers in headlines(metrics).items() if set(numbers.values()) == {None}]
    if unmeasured and "ignored" in counts:  # counts of pixels, which have neither objects nor predictions
        lines.append(
            "warning: fewer than two classes have a pixel of ground truth, so nothing was measured "
            f"({counts.get('ignored', 0)} pixels have the value 255, which means unknown)"
        )
    if counts.get("unusable"):
        noun = counted(counts["unusable"], "annotation")
        lines.append(f"warning: {noun} without a usable box (no size, not finite, outside the image), left out")
    if counts.get("empty_masks"):
        lines.append(
            f"warning: {counted(counts['empty_masks'], 'annotation')} whose mask has no pixel in the image, left out "
            "of the figures of masks"
        )
    lowest = counts.get("lowest_score")
    if lowest is not None and lowest >= LOW_SCORE and counts.get("predictions", 0) >= ENOUGH_PREDICTIONS:
        lines.append(
            f"warning: no prediction has a score below {lowest:.3g}, as if a threshold had been applied. AP needs all "
            "predictions, and is too low without them (tlvision predict --min-score 0)"
        )
    if counts.get("repeated"):
        lines.append(f"warning: {repeated_sentence(counts['repeated'])}")
    if counts.get("images_above_max_detections"):
        most = metrics.get("protocol", {}).get("max_detections", [100])[-1]
        lines.append(
            f"warning: {counted(counts['images_above_max_detections'], 'image')} with more than {most} objects of a "
            f"class (up to {counts['most_objects']}). COCO counts {most} detections for an image and class, so "
            f"{counts['objects_above_max_detections']} objects cannot be found; set max_detections to "
            f"{counts['most_objects']} (--max-detections, evaluate.max_detections)"
        )
    return lines


def format_hash(value: object) -> str:
    """Return the hash of a protocol, or, where boxes and masks have one each, both.

    >>> format_hash("0a1b"), format_hash({"bbox": "0a1b", "segm": "2c3d"})
    ('0a1b', 'bbox 0a1b, segm 2c3d')
    """
    if isinstance(value, Mapping):
        return ", ".join(f"{kind} {number}" for kind, number in value.items())
    return str(value)
