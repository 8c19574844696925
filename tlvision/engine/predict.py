"""Predict on any images with a trained run: pictures, and predictions.json or label maps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.progress import track
from rich.text import Text

from tlvision.data.images import read_image, write_image
from tlvision.engine.limits import tiling
from tlvision.engine.model import LoadedModel, load
from tlvision.engine.operating_point import shown_thresholds
from tlvision.engine.sources import existing, find_images
from tlvision.files.json_files import write_text
from tlvision.files.names import common_folder, relative_names, unique_stems
from tlvision.files.outputs import check_folder, output_folder
from tlvision.formats.coco import read_readable
from tlvision.formats.preannotations import FORMATS, PreAnnotations
from tlvision.inference.predict import predict_files
from tlvision.report import draw_prediction
from tlvision.terminal import console, note
from tlvision.types import InputError, Sample, counted

COMMAND = "predict"


def predict_images(
    run: Path,
    images: Sequence[str | Path],
    out: Path,
    *,
    min_score: float | None = None,
    max_detections: int | None = None,
    device: str | None = None,
    label_format: str | None = None,
    tiles: int | None = None,
) -> None:
    """Write a picture of each image with its objects, and `predictions.json`.

    Of a model for label maps: a picture with the classes in colour, and `label_maps/<name>.png`.

    images:         files, folders (with the folders below), or patterns. Files that cannot be read are named at the
                    end, and the others are predicted.
    out:            a new or empty folder, or one that `tlvision predict` wrote; see `tlvision.files.outputs`. Pictures
                    have the path of their image relative to the folder that holds all images.
    min_score:      0..1, lowest score of an object in the result; None for the thresholds of the run, for each class
                    (thresholds.json), or 0.25 if it has none. Average precision needs all objects: 0.
    max_detections: objects of an image at most; None for the limit of the run.
    device:         "cpu", "cuda" …; None as the run was trained.
    tiles:          as for `tlvision.load`.
    label_format:   a format of `tlvision.formats.preannotations.FORMATS`, in which the objects are written as well.

    predictions.json is a COCO results list, with "segmentation" (run lengths) where the model finds masks; `image_id`
    counts the images from 1 in the order given, `file_name` (relative to that folder) and `category` name image and
    class.

    Raises InputError if nothing can be read, or `out` may not be written.
    """
    if min_score is not None and not (math.isfinite(min_score) and 0 <= min_score <= 1):
        raise InputError(f"predict: --min-score must be a number from 0 to 1, got {min_score}")
    check_folder(out, COMMAND, inputs=[run, *existing(images)])
    files, notes = find_images(images, leave_out=out)
    check_folder(out, COMMAND, inputs=[*files, run])
    model = load(run, device=device, max_detections=max_detections, tiles=tiles)
    labels = None if label_format is None else _label_file(model, label_format)
    samples, problems, bit_notes = read_readable(files, bits=model.config.data.bits)
    if samples:
        with output_folder(out, COMMAND, inputs=[*files, run]):
            problems += _write(model, files, samples, _Output(out, min_score, labels))
            if labels is not None and label_format is not None:
                path = out / FORMATS[label_format][0]
                write_text(path, labels.text(label_format))
                console().print(f"labels         {path}", soft_wrap=True)
    for sentence in (*notes, *bit_notes):
        note(console(), sentence)
    for path, problem in problems:
        console().print(Text("not predicted", "yellow"), Text(f"{path}: {problem}"), soft_wrap=True)
    if len(problems) == len(files):
        raise InputError(f"predict: none of {counted(len(files), 'image')} can be read; the first: {problems[0][1]}")


@dataclass(frozen=True, slots=True)
class _Output:
    """Where predictions go, from which scores on, and labels for a label tool to add them to."""

    folder: Path
    min_score: float | None
    labels: PreAnnotations | None


def _label_file(model: LoadedModel, label_format: str) -> PreAnnotations:
    if "boxes" not in model.task.labels:
        raise InputError(
            f"predict: --format {label_format} is for objects, and the model predicts {model.task.noun}; label_maps/ "
            "holds them as PNG, which label tools read"
        )
    return PreAnnotations(model.classes, model.run.name)


def _write(
    model: LoadedModel, files: Sequence[Path], samples: Sequence[Sample], output: _Output
) -> list[tuple[Path, InputError]]:
    """Predict and write everything; return the images that could not be decoded."""
    out = output.folder
    names = relative_names(files, common_folder(files))
    stems = unique_stems(names)
    by_id = {sample.image_id: names[sample.image_id - 1] for sample in samples}
    results = model.task.named_results(out, model.classes, by_id, {image_id: stems[image_id - 1] for image_id in by_id})
    results.prepare()
    problems = []
    objects = 0
    for sample, found in track(
        predict_files(
            model.adapter,
            samples,
            fabric=model.fabric,
            image_size=model.config.data.image_size,
            window=model.config.evaluate.window,
            tiles=tiling(model.config, model.task),
        ),
        total=len(samples),
        description="predicting",
        console=console(),
    ):
        if isinstance(found, InputError):
            problems.append((sample.path, found))
            continue
        stem = stems[sample.image_id - 1]
        pixels, _ = read_image(sample.path, sample.width, sample.height, sample.exif, bits=sample.bits)
        counting = model.select(found, output.min_score)
        write_image(out / f"{stem}.jpg", draw_prediction(pixels, counting, model.classes.names, min_score=0))
        results.add(sample, counting)
        if output.labels is not None:
            output.labels.add(by_id[sample.image_id], sample.width, sample.height, counting)
        objects += len(counting)
    results.write()
    what = counted(len(samples) - len(problems), "image")
    if "boxes" in model.task.labels:
        least = shown_thresholds(model.counts_from(output.min_score), model.classes.names)
        what = f"{counted(objects, 'object')} {least} in {what}"
    console().print(f"{what}\npictures       {out}\n{results.title:<14} {results.path}", soft_wrap=True)
    return problems
