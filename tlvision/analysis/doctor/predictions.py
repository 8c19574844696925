"""Predictions of a trained run, or of a file, for the labelled images of a dataset."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tlvision.analysis.doctor.findings import Part
from tlvision.engine.datasets import label_options, read_dataset
from tlvision.engine.model import LoadedModel
from tlvision.evaluation.read import read_ground_truth, read_predictions
from tlvision.formats.coco.duplicates import same_content
from tlvision.types import InputError, Json, Prediction, Sample, counted

SCORE_FLOOR = 0.01
"""A label without an object has no prediction at all, so predictions with low scores are needed."""
MAX_DETECTIONS = 300
_OUT_OF_FOLD = "Use predictions of models that were not trained on them (tlvision cross-validate, --predictions)"


@dataclass(frozen=True, slots=True)
class Found:
    """Predictions for one dataset.

    rows:    {"image_id", "category_id": class index of the dataset, "bbox", "score"} of each.
    classes: class indices of the dataset that could be predicted.
    about:   a sentence on what the predictions are worth, empty if there is nothing to say.
    """

    rows: list[Json]
    classes: frozenset[int]
    about: str = ""


def of_file(path: Path, part: Part) -> Found:
    """Return the predictions of a COCO results list for a dataset with a COCO json.

    Raises InputError as `tlvision.evaluation.read.read_predictions`.
    """
    if path.is_dir():
        raise InputError(
            f"doctor: --predictions '{path}' is a folder. Give a COCO results list; label maps need --run."
        )
    rows = read_predictions(path, read_ground_truth(part.data.path))
    kept = {sample.image_id for sample in part.data.samples}
    index = {number: part.data.classes.names.index(name) for number, name in _own_categories(part).items()}
    found = [
        {**row, "category_id": index[row["category_id"]]}
        for row in rows
        if row["category_id"] in index and row["image_id"] in kept
    ]
    return Found(found, frozenset(index.values()))


def of_run(model: LoadedModel, part: Part, trained_on: Sequence[Path] | None) -> Found:
    """Return the predictions of a run for the objects of a dataset, with scores from SCORE_FLOOR on.

    trained_on: images that the run was trained on, None if that is not known.
    """
    names = part.data.classes.names
    index = {label: names.index(name) for label, name in enumerate(model.classes.names) if name in names}
    if not index:
        raise InputError(
            f"doctor: --run '{model.run}' predicts none of the classes of data.{part.name}. Give a run of these."
        )
    rows = []
    for sample, found in _predictions(model, part.data.samples):
        for box, score, label in zip(found.boxes.tolist(), found.scores.tolist(), found.labels.tolist(), strict=True):
            if label in index:
                x, y, right, bottom = box
                rows.append(
                    {
                        "image_id": sample.image_id,
                        "category_id": index[label],
                        "bbox": [x, y, right - x, bottom - y],
                        "score": score,
                    }
                )
    return Found(rows, frozenset(index.values()), seen_sentence(model, part, trained_on, _OUT_OF_FOLD))


def training_images(model: LoadedModel) -> list[Path] | None:
    """Return the paths of the images that a run was trained on; None if its data cannot be read any more."""
    config = model.config
    try:
        data = read_dataset(model.task, config.data.train, "train", label_options(config.data))
    except InputError:
        return None
    return [sample.path for sample in data.samples]


def seen_sentence(model: LoadedModel, part: Part, trained_on: Sequence[Path] | None, remedy: str) -> str:
    """Return how many images of a dataset the run was trained on, compared by content, and a remedy; empty if none."""
    if trained_on is None:
        return f"whether {model.run} was trained on these images is unknown: its training data cannot be read"
    seen = len(same_content([sample.path for sample in part.data.samples], trained_on))
    if not seen:
        return ""
    return (
        f"{model.run} was trained on {seen} of these {counted(len(part.data.samples), 'image')} and has memorised "
        f"their labels, so few errors show. {remedy}"
    )


def _own_categories(part: Part) -> dict[int, str]:
    names = part.data.classes.names
    return {number: name for number, name in part.categories.items() if name in names}


def _predictions(model: LoadedModel, samples: Sequence[Sample]) -> Iterator[tuple[Sample, Prediction]]:
    from tlvision.inference.predict import predict_files

    size, window = model.config.data.image_size, model.config.evaluate.window
    for sample, found in predict_files(model.adapter, samples, fabric=model.fabric, image_size=size, window=window):
        if not isinstance(found, InputError):  # reported as an image that cannot be decoded
            yield sample, model.selection.select(found, 0.0)
