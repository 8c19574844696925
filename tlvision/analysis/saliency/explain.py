"""Explain predictions of a trained run on images: a picture with a heat map for each, and explain.json."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn
from rich.text import Text

from tlvision.analysis.saliency.methods import DEFAULT_MASKS, METHODS, Method, choose_method
from tlvision.analysis.saliency.sanity import BOUND, RandomTwin
from tlvision.analysis.saliency.subject import Subject, View, find_class, find_objects
from tlvision.data.batches import eval_batches, normalise
from tlvision.data.dataset import EvalImages
from tlvision.data.images import read_image, write_image
from tlvision.data.settings import MAX_SEED
from tlvision.engine.model import LoadedModel, load
from tlvision.engine.sources import existing, find_images
from tlvision.files.json_files import write_json
from tlvision.files.names import common_folder, relative_names, unique_stems
from tlvision.files.outputs import check_folder, output_folder
from tlvision.formats.coco import read_readable
from tlvision.inference.finite import check_weights
from tlvision.plugin import HasDenseLogits
from tlvision.report import draw_prediction
from tlvision.report.heat import draw_heat, draw_outline, with_scale
from tlvision.terminal import console, note
from tlvision.types import InputError, Json, Pixels, Prediction, Sample, counted, nearest
from tlvision.types.shown import clip, shown

COMMAND = "explain"


@dataclass(frozen=True, slots=True, kw_only=True)
class ExplainSettings:
    """Settings of `explain_images`.

    method:     one of `METHODS`; None for grad_cam on label maps, hires_cam on detections, or d_rise if their scores
                have no gradients.
    tap:        name of a tap. None for the coarsest; of a gradient of a detection, for the last that it depends on.
    class_name: the class to explain; all its detections together, or its pixels.
    detection:  the number of the detection to explain, by score from 1; None for the first, or for the class.
    seed:       of random masks and of the shuffled weights.
    masks:      number of random masks of d_rise.
    sanity:     whether maps are compared with those of shuffled weights.
    device:     "cpu", "cuda" or "auto"; None as the run was trained.
    """

    method: str | None = None
    tap: str | None = None
    class_name: str | None = None
    detection: int | None = None
    seed: int = 0
    masks: int = DEFAULT_MASKS
    sanity: bool = True
    device: str | None = None


def explain_images(
    run: Path, images: Sequence[str | Path], out: Path, settings: ExplainSettings = ExplainSettings()
) -> list[dict[str, Any]]:
    """Write a picture with a heat map for each image, and explain.json; print a sentence for each.

    images: files, folders or patterns, as for `tlvision predict`.
    out:    a new or empty folder, or one that `tlvision explain` wrote.

    Returns the rows of explain.json; docs/explain.md describes them. An image without a detection that counts has a
    row without a map.

    Raises InputError for settings that do not fit the model, and if no image can be read.
    """
    _check(settings)
    check_folder(out, COMMAND, inputs=[run, *existing(images)])
    files, notes = find_images(images, leave_out=out)
    check_folder(out, COMMAND, inputs=[*files, run])
    model = load(run, device=settings.device)
    check_weights(model.adapter.module)
    method = _method(model, settings)
    samples, problems, bit_notes = read_readable(files, bits=model.config.data.bits)
    rows: list[dict[str, Any]] = []
    if samples:
        with output_folder(out, COMMAND, inputs=[*files, run]):
            rows, damaged = _explain_all(model, method, settings, _named(files, samples), out)
            problems += damaged
    for sentence in (*notes, *bit_notes):
        note(console(), sentence)
    for path, problem in problems:
        console().print(Text("not explained", "yellow"), Text(f"{path}: {problem}"), soft_wrap=True)
    if not rows:
        raise InputError(f"explain: none of {counted(len(files), 'image')} can be read; the first: {problems[0][1]}")
    console().print(f"pictures       {out}\nnumbers        {out / 'explain.json'}", soft_wrap=True)
    return rows


def _check(settings: ExplainSettings) -> None:
    if not 0 <= settings.seed <= MAX_SEED:
        raise InputError(f"explain: --seed: expected an integer from 0 to {MAX_SEED}, got {shown(settings.seed)}")
    if settings.detection is not None and settings.detection < 1:
        raise InputError(
            f"explain: --detection: expected 1 (the highest score) or more, got {shown(settings.detection)}"
        )
    if settings.method is not None and settings.method not in METHODS:
        near = nearest(settings.method, METHODS)
        raise InputError(f"explain: --method: unknown method '{clip(settings.method)}'.{near}")
    if settings.masks < 10:
        raise InputError(f"explain: --masks: expected 10 or more, got {shown(settings.masks)}")


def _method(model: LoadedModel, settings: ExplainSettings) -> Method:
    """Return the method; InputError if method, tap, class or detection do not fit the model."""
    names = model.classes.names
    if settings.class_name is not None and settings.class_name not in names:
        near = nearest(settings.class_name, names)
        raise InputError(f"explain: --class: the run has no class '{clip(settings.class_name)}'.{near}")
    if settings.detection is not None and isinstance(model.adapter, HasDenseLogits):
        raise InputError("explain: --detection: this model predicts label maps, without detections. Use --class.")
    chosen = choose_method(model.adapter, settings.method, settings.tap)
    return replace(chosen, masks=settings.masks, seed=settings.seed)


def _named(files: Sequence[Path], samples: Sequence[Sample]) -> list[tuple[Sample, str, str]]:
    """Return each sample with its name in explain.json, and that of its picture without ending."""
    names = relative_names(files, common_folder(files))
    stems = unique_stems(names)
    return [(sample, names[sample.image_id - 1], stems[sample.image_id - 1]) for sample in samples]


def _explain_all(
    model: LoadedModel,
    method: Method,
    settings: ExplainSettings,
    named: Sequence[tuple[Sample, str, str]],
    out: Path,
) -> tuple[list[dict[str, Any]], list[tuple[Path, InputError]]]:
    """Explain and write everything; return the rows, and the images that could not be decoded."""
    model.adapter.module.eval()
    twin = RandomTwin(model.run, settings.device, settings.seed) if settings.sanity else None
    rows: list[dict[str, Any]] = []
    problems = []
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=console(), transient=True, disable=method.name != "d_rise") as progress:
        bar = progress.add_task("random masks")
        for sample, name, stem in named:
            try:
                view = _view(model, sample, name)
            except InputError as error:
                problems.append((sample.path, error))
                continue
            row, picture = _explain(model, _watched(method, progress, bar), settings, view, twin)
            if picture is not None:
                row["picture"] = f"{stem}.jpg"
                write_image(out / row["picture"], picture)
            rows.append(row)
            _print(row, progress.console)
            if method.name == "d_rise" and "sanity_correlation" in row:
                twin = None  # it takes as long as the map itself: once is enough
    document = {"run": str(model.run), "method": method.name, "seed": settings.seed, "sanity_bound": BOUND}
    if method.name == "d_rise":
        document["masks"] = method.masks
    write_json(out / "explain.json", {**document, "images": rows}, indent=1)
    return rows, problems


def _watched(method: Method, progress: Progress, bar: TaskID) -> Method:
    progress.reset(bar, total=method.masks)
    return replace(method, progress=lambda done: progress.advance(bar, done))


def _print(row: dict[str, Any], to: Console) -> None:
    to.print(Text(row["sentence"]), soft_wrap=True)
    if (row.get("sanity_correlation") or 0) > BOUND:
        note(
            to,
            f"{row['file_name']}: the map hardly changes when the weights are random: it shows the image, not the "
            "model.",
        )


def _explain(
    model: LoadedModel, method: Method, settings: ExplainSettings, view: View, twin: RandomTwin | None
) -> tuple[dict[str, Any], Pixels | None]:
    """Return the row of explain.json, and the picture if there is a map."""
    row: dict[str, Any] = {"file_name": view.name}
    subject = _find(model, method, settings, view)
    if isinstance(subject, str):
        return {**row, "sentence": f"{view.name}: not explained, because {subject}."}, None
    heat, tap = method.heat(model.adapter, view, subject)
    row |= {"tap": None if tap is None else tap.name, **_about(subject)}
    if heat is None or not heat.any():
        at = "" if tap is None else f" at tap '{tap.name}'"
        return {**row, "sentence": f"{view.name}: {subject.text} has no heat{at}, so there is no map."}, None
    if subject.region is not None:
        row["heat_inside"] = float(heat[subject.region].sum(dtype=np.float64) / heat.sum(dtype=np.float64))
        row["area_inside"] = float(subject.region.mean())
    if twin is not None:
        row["sanity_correlation"] = twin.correlation(heat, method, view, subject)
    row["sentence"] = _sentence(replace(method, tap=tap), subject, row)
    picture = draw_heat(view.pixels, heat)
    if subject.objects is None and subject.region is not None:
        picture = draw_outline(picture, subject.region)
    picture = draw_prediction(picture, subject.shown, model.classes.names, min_score=0)
    return row, with_scale(picture, row["sentence"])


def _view(model: LoadedModel, sample: Sample, name: str) -> View:
    size = model.config.data.image_size
    images = EvalImages([sample], model.adapter.input_spec, size, cache_bytes=0)
    (batch,) = eval_batches(images, batch_size=1)
    inputs = normalise(batch.to(model.fabric.device).images, model.adapter.input_spec)
    pixels, _ = read_image(sample.path, sample.width, sample.height, sample.exif, bits=sample.bits)
    return View(name=name, pixels=pixels, inputs=inputs, matrix=batch.matrices.numpy()[0])


def _find(model: LoadedModel, method: Method, settings: ExplainSettings, view: View) -> Subject | str:
    if isinstance(model.adapter, HasDenseLogits):
        return find_class(model, view, settings.class_name)
    found = find_objects(model, view, settings.class_name, settings.detection)
    asked = settings.class_name is not None or settings.detection is not None
    if isinstance(found, str) and method.name == "eigen_cam" and not asked:
        return Subject(text="the whole image", shown=Prediction.empty())
    return found


def _about(subject: Subject) -> dict[str, Any]:
    about: dict[str, Any] = {"class": subject.class_name, "detection": subject.detection}
    boxes: list[Json] = [
        {"box": [round(value, 2) for value in box], "score": round(score, 4)}
        for box, score in zip(subject.shown.boxes.tolist(), subject.shown.scores.tolist(), strict=True)
    ]
    return {**about, "detections": boxes} if subject.objects is not None else about


def _sentence(method: Method, subject: Subject, row: dict[str, Any]) -> str:
    at = "" if method.tap is None else f" at {method.tap.name} (stride {method.tap.stride})"
    parts = [f"{row['file_name']}: {subject.text}: {method.name}{at}"]
    if "heat_inside" in row:
        inside = "its pixels" if subject.objects is None else "its box" if len(subject.shown) == 1 else "their boxes"
        parts.append(f"{row['heat_inside']:.0%} of the heat in {inside}, {row['area_inside']:.0%} of the image")
    if "sanity_correlation" in row:
        value = row["sanity_correlation"]
        parts.append("no map with random weights" if value is None else f"correlation with random weights {value:.2f}")
    return "; ".join(parts) + "."
