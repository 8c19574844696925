"""Write chosen images with the model's predictions as labels to correct."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tlvision.data.images import write_image
from tlvision.files.json_files import write_json
from tlvision.formats.coco import read_readable
from tlvision.formats.label_maps import write_label_map
from tlvision.formats.preannotations import PreAnnotations, write_labels
from tlvision.monitoring.choose import Choice
from tlvision.monitoring.record import Record
from tlvision.runtime.model import RuntimeModel
from tlvision.types import InputError, Prediction, Sample

_COLOURS = 256


def write_collection(
    folder: Path, model: RuntimeModel, chosen: Sequence[tuple[Choice, Record, Path]]
) -> tuple[int, list[str]]:
    """Copy images to `folder`/images, predict them, and write the predictions; return the number of images, and notes.

    chosen: the choice, its record, and the file of the image.

    Of models of objects `labels.json` is a COCO json with the ids of the training data, with polygons if there are
    masks; of others `masks/<name>.png` has the values, or colours, of the training data. `chosen.json` has the order,
    with the name in the log, uncertainty and distance.
    """
    (folder / "images").mkdir(parents=True)
    files: dict[Path, tuple[Choice, Record]] = {}
    for number, (choice, record, source) in enumerate(chosen, start=1):
        path = folder / "images" / f"{number:04d}{source.suffix.lower()}"
        shutil.copyfile(source, path)
        files[path] = choice, record
    samples, problems, _ = read_readable(list(files), bits=model.bits)
    found: list[tuple[Sample, Prediction]] = []
    for sample, prediction in model.predict_files(samples, least=model.selection.least()):
        if isinstance(prediction, InputError):
            problems.append((sample.path, prediction))
        else:
            found.append((sample, model.selection.select(prediction)))
    notes = []
    for path, error in problems:
        path.unlink()
        notes.append(f"{files.pop(path)[1].name}: not collected, {error}")
    found.sort(key=lambda pair: pair[0].path)
    _write_labels(folder, model, found)
    write_json(folder / "chosen.json", [_row(path, *why) for path, why in files.items()], indent=1)
    return len(files), notes


def _write_labels(folder: Path, model: RuntimeModel, found: Sequence[tuple[Sample, Prediction]]) -> None:
    if "boxes" in model.task.labels:
        labels = PreAnnotations(model.classes, model.name)
        for sample, prediction in found:
            labels.add(sample.path.name, sample.path, sample.width, sample.height, prediction)
        write_labels(labels, "coco", folder)
        return
    values = np.array(model.classes.source_ids, np.int64)
    for sample, prediction in found:
        assert prediction.semantic is not None
        path = folder / "masks" / f"{sample.path.stem}.png"
        path.parent.mkdir(exist_ok=True)
        labelled = values[prediction.semantic]
        if values.max() < _COLOURS:
            write_label_map(path, labelled)
        else:  # ids of a colour table: red + 256 * green + 65536 * blue
            write_image(path, np.stack([labelled >> 8 * place & 255 for place in range(3)], axis=2).astype(np.uint8))


def _row(path: Path, choice: Choice, record: Record) -> dict[str, Any]:
    return {
        "file": path.name,
        "name": record.name,
        "time": record.time.isoformat(),
        "uncertainty": round(choice.uncertainty, 4),
        "distance": round(choice.distance, 4),
    }
