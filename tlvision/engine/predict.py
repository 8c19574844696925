"""Predict on any images and videos with a trained run: pictures, and predictions.json or label maps."""

from __future__ import annotations

import math
import shutil
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.progress import track
from rich.text import Text

from tlvision.data.images import read_image, write_image
from tlvision.engine.downloads import download_images
from tlvision.engine.operating_point import shown_thresholds
from tlvision.engine.predict_video import VideoOptions, predict_video
from tlvision.engine.prediction_folder import PredictionFolder
from tlvision.engine.prediction_plan import PredictionPlan, Problem, make_plan, split_addresses
from tlvision.engine.predictor import Predictor, open_predictor
from tlvision.engine.sources import existing, find_inputs
from tlvision.files.outputs import check_folder, output_folder
from tlvision.formats.preannotations import LABEL_FORMATS, PreAnnotations, write_labels
from tlvision.report import draw_prediction
from tlvision.terminal import console, note
from tlvision.types import InputError, counted, nearest

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
    every: int = 1,
    frames: bool = False,
    allow_download: bool = False,
    log: Path | None = None,
    log_images: float | None = None,
) -> None:
    """Write a picture of each image with its objects, a video of each video, and `predictions.json`.

    Of a model for label maps: pictures with the classes in colour, and `label_maps/<name>.png`, also for each frame.

    run:            folder of a trained run, or of a bundle that `tlvision export` wrote.
    images:         image and video files, folders (with the folders below), patterns, or addresses. What cannot be read
                    is named at the end, and the others are predicted.
    out:            a new or empty folder, or one that `tlvision predict` wrote; see `tlvision.files.outputs`. Pictures
                    have the path of their image relative to the folder that holds all inputs; videos are MP4 of the
                    size and frame rate of their source. Downloads are kept in `downloads/<host>/`.
    min_score:      0..1, lowest score of an object in the result; None for the thresholds of the run, for each class
                    (thresholds.json), or 0.25 if it has none. Average precision needs all objects: 0.
    max_detections: objects of an image at most; None for the limit of the run.
    device:         "cpu", "cuda" …; None as the run was trained.
    tiles:          as for `tlvision.load`.
    label_format:   one of `tlvision.formats.preannotations.LABEL_FORMATS`, in which the objects are written as well.
                    Frames of videos are then also written as they are, to `frames/<name>/<number>.jpg`.
    every:          from 1 on; of videos, every n-th frame. The video written has as many frames per second less.
    frames:         write `<name>/<number>.jpg` for each frame, instead of a video.
    allow_download: download images of http and https addresses; False refuses them.
    log:            of a bundle: file to which a record of each image is appended, for `tlvision monitor`.
    log_images:     share of the images, 0..1, that are copied to `<log>.images`; None for 0.

    predictions.json is a COCO results list, with "segmentation" (run lengths) where the model finds masks; `image_id`
    counts images and then frames from 1 in the order given, `file_name` (relative to that folder) and `category` name
    file and class. Rows of a video have `frame` (its number, from 0) and `time` (seconds).

    Raises InputError if nothing can be read, or `out` may not be written.
    """
    _check(min_score, label_format, every)
    addresses, local = split_addresses(images, allow_download=allow_download)
    check_folder(out, COMMAND, inputs=[run, *existing(local)])
    inputs = find_inputs(local, leave_out=out)
    check_folder(out, COMMAND, inputs=[*inputs.images, *inputs.videos, run])
    model = open_predictor(run, device=device, max_detections=max_detections, tiles=tiles)
    labels = None if label_format is None else _label_file(model, label_format)
    model = _logged(model, log, log_images, out)
    with TemporaryDirectory() as folder:
        downloads, failed = download_images(addresses, Path(folder))
        plan = make_plan(inputs, downloads, Path(folder), bits=model.bits)
        problems: list[Problem] = [*failed, *plan.problems]
        notes = plan.notes
        if plan.samples or plan.videos:
            with output_folder(out, COMMAND, inputs=[*inputs.images, *inputs.videos, run]):
                if downloads:
                    shutil.copytree(folder, out / plan.downloads)
                output = PredictionFolder(model, out, min_score=min_score, labels=labels, frames=plan.frames)
                problems += _predict(model, plan, output, VideoOptions(every, frames), notes)
                if labels is not None and labels.images and label_format is not None:
                    path, left_out = write_labels(labels, label_format, out)
                    console().print(f"labels         {path}", soft_wrap=True)
                    notes += left_out
    _report(notes, problems, len(inputs.images) + len(inputs.videos) + len(addresses))


def _check(min_score: float | None, label_format: str | None, every: int) -> None:
    if min_score is not None and not (math.isfinite(min_score) and 0 <= min_score <= 1):
        raise InputError(f"predict: --min-score must be a number from 0 to 1, got {min_score}")
    if every < 1:
        raise InputError(f"predict: --every must be a whole number from 1 on, got {every}")
    if label_format is not None and label_format not in LABEL_FORMATS:
        raise InputError(f"predict: --format '{label_format}' is not known.{nearest(label_format, LABEL_FORMATS)}")


def _logged(model: Predictor, log: Path | None, rate: float | None, out: Path) -> Predictor:
    """Return the model, which appends to a log if there is one."""
    if log is None:
        if rate is not None:
            raise InputError("predict: --log-images has no effect without --log FILE")
        return model
    from tlvision.runtime.model import RuntimeModel

    if not isinstance(model, RuntimeModel):
        raise InputError("predict: --log is for bundles, which have a reference to compare with. Export the run first")
    if log.resolve().is_relative_to(out.resolve()):
        raise InputError(f"predict: --log '{log}' lies in the output folder, which is emptied. Give another file")
    from tlvision.monitoring.logged import LoggedModel
    from tlvision.monitoring.records import RecordLog

    return LoggedModel(model, RecordLog(log, model, image_rate=rate or 0.0))


def _label_file(model: Predictor, label_format: str) -> PreAnnotations:
    if "boxes" not in model.task.labels:
        raise InputError(
            f"predict: --format {label_format} is for objects, and the model predicts {model.task.noun}; label_maps/ "
            "holds them as PNG, which label tools read"
        )
    return PreAnnotations(model.classes, model.name)


def _predict(
    model: Predictor, plan: PredictionPlan, output: PredictionFolder, options: VideoOptions, notes: list[str]
) -> list[Problem]:
    """Predict and write everything; return what could not be read, and add to `notes`."""
    problems = _predict_images(model, plan, output) if plan.samples else []
    done = [counted(len(plan.samples) - len(problems), "image")] if plan.samples else []
    lines = [f"pictures       {output.folder}"] if plan.samples else []
    first_id = len(plan.names) + 1
    for path, name, stem in zip(plan.videos, plan.video_names, plan.video_stems, strict=True):
        try:
            result = predict_video(model, path, output, options, name=name, stem=stem, first_id=first_id)
        except InputError as error:
            problems.append((path, error))
            continue
        first_id += result.num_frames
        notes += result.notes
        done.append(f"{counted(result.num_frames, 'frame')} of {path.name}")
        lines.append(f"{'pictures' if options.pictures else 'video':<14} {result.file}")
    if not done:
        return problems
    output.results.write()
    what = ", ".join(done)
    if "boxes" in model.task.labels:
        least = shown_thresholds(model.selection.counts_from(output.min_score), model.classes.names)
        what = f"{counted(output.objects, 'object')} {least} in {what}"
    lines = [what, *lines, f"{output.results.title:<14} {output.results.path}"]
    console().print("\n".join(lines), soft_wrap=True)
    return problems


def _predict_images(model: Predictor, plan: PredictionPlan, output: PredictionFolder) -> list[Problem]:
    """Predict and write the images; return those that could not be decoded."""
    problems: list[Problem] = []
    for sample, found in track(
        model.predict_files(plan.samples, least=output.least),
        total=len(plan.samples),
        description="predicting",
        console=console(),
    ):
        if isinstance(found, InputError):
            problems.append((sample.path, found))
            continue
        name, stem = plan.names[sample.image_id - 1], plan.stems[sample.image_id - 1]
        counting = output.add(sample, found, name=name, stem=stem, label_file=(name, sample.path))
        pixels, _ = read_image(sample.path, sample.width, sample.height, sample.exif, bits=sample.bits)
        picture = draw_prediction(pixels, counting, model.classes.names, min_score=0)
        write_image(output.folder / f"{stem}.jpg", picture)
    return problems


def _report(notes: Sequence[str], problems: Sequence[Problem], total: int) -> None:
    """Print what is odd and what failed; InputError if nothing could be predicted."""
    for sentence in notes:
        note(console(), sentence)
    for source, problem in problems:
        console().print(Text("not predicted", "yellow"), Text(f"{source}: {problem}"), soft_wrap=True)
    if len(problems) == total:
        raise InputError(f"predict: none of {counted(total, 'input')} can be read; the first: {problems[0][1]}")
