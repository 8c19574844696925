"""One image of a log as a line of JSON: statistics of the image, of the network's features, and of the predictions."""

from __future__ import annotations

import json
import math
from base64 import b64decode, b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import numpy.typing as npt

from tlvision.evaluation.selection import Selection
from tlvision.runtime.observe import Observation
from tlvision.types import Prediction

Floats = npt.NDArray[np.float32]
UNCERTAINTY = "uncertainty"
"""The number of an image that `--collect` sorts by; it is not tested."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One image.

    time:      UTC. name: of the image, as the caller knows it.
    bundle:    hash of the bundle that has predicted; "" in the bundle's own reference.
    file:      path of the image; "" if it is not known. copy: file of its copy, relative to the folder of the log.
    size:      width and height in pixels.
    colours, sharpness, taps: as for `Observation`.
    classes:   {class index: number of objects, or share of the pixels}; classes that are absent are left out.
    numbers:   of objects: "objects", "mean score", "mean box side / image side"; of label maps: "mean confidence",
               "entropy"; and `UNCERTAINTY`, 0..1. What an image without objects lacks is left out.
    """

    time: datetime
    name: str
    bundle: str
    size: tuple[int, int]
    colours: Floats
    sharpness: float
    taps: Mapping[str, Floats]
    classes: Mapping[int, float]
    numbers: Mapping[str, float]
    file: str = ""
    copy: str = ""


def make_record(
    name: str,
    found: Prediction,
    observation: Observation,
    size: tuple[int, int],
    selection: Selection,
    *,
    bundle: str,
    time: datetime | None = None,
) -> Record:
    """Return the record of one image.

    found:     all that the model has found, numpy, in pixels of the image. selection: chooses the objects that count.
    size:      width and height of the image in pixels.
    time:      None for now.
    """
    if found.semantic is not None:
        classes, numbers = _of_label_map(found.semantic, observation)
    else:
        classes, numbers = _of_objects(selection.select(found), size, selection)
    return Record(
        time=time or datetime.now(UTC),
        name=name,
        bundle=bundle,
        size=size,
        colours=observation.colours,
        sharpness=observation.sharpness,
        taps=observation.taps,
        classes=classes,
        numbers=numbers,
    )


def _of_label_map(labels: npt.NDArray[np.int64], observation: Observation) -> tuple[dict[int, float], dict[str, float]]:
    indices, counts = np.unique(labels, return_counts=True)
    shares = {int(index): float(count) / labels.size for index, count in zip(indices, counts, strict=True)}
    confidence, entropy = observation.confidence or 0.0, observation.entropy or 0.0
    return shares, {"mean confidence": confidence, "entropy": entropy, UNCERTAINTY: entropy}


def _of_objects(
    found: Prediction, size: tuple[int, int], selection: Selection
) -> tuple[dict[int, float], dict[str, float]]:
    """Return counts of classes, and numbers; an object is as uncertain as its score is near its class's threshold."""
    indices, counts = np.unique(found.labels, return_counts=True)
    classes = {int(index): float(count) for index, count in zip(indices, counts, strict=True)}
    if not len(found):
        return classes, {"objects": 0.0}
    sides = np.sqrt((found.boxes[:, 2] - found.boxes[:, 0]) * (found.boxes[:, 3] - found.boxes[:, 1]))
    thresholds = selection.counts_from().of(selection.classes.names)[found.labels]
    uncertain = (1 - found.scores) / np.maximum(1 - thresholds, 1e-6)
    return classes, {
        "objects": float(len(found)),
        "mean score": float(found.scores.mean()),
        "mean box side / image side": float(sides.mean() / math.sqrt(size[0] * size[1])),
        UNCERTAINTY: float(np.clip(uncertain.max(), 0, 1)),
    }


def encode(record: Record) -> bytes:
    """Return a record as one line of JSON, with its line break.

    Vectors of taps are float32 in base64, little-endian; other numbers have four digits.
    """
    values: dict[str, Any] = {
        "time": record.time.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "bundle": record.bundle,
        "name": record.name,
        **({"file": record.file} if record.file else {}),
        **({"copy": record.copy} if record.copy else {}),
        "size": list(record.size),
        "colours": [_short(value) for value in record.colours],
        "sharpness": _short(record.sharpness),
        "classes": {str(index): _short(value) for index, value in record.classes.items()},
        "numbers": {name: _short(value) for name, value in record.numbers.items()},
        "taps": {name: b64encode(vector.astype("<f4").tobytes()).decode() for name, vector in record.taps.items()},
    }
    return json.dumps(values, separators=(",", ":")).encode() + b"\n"


def decode(line: bytes) -> Record:
    """Return the record of one line.

    Raises ValueError if the line is cut or holds anything else.

    >>> decode(b'{"time":')
    Traceback (most recent call last):
    ...
    ValueError: no record
    """
    try:
        values = json.loads(line)
        record = _parse(values)
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise ValueError("no record") from error
    vectors = [record.colours, *record.taps.values()]
    numbers = [record.sharpness, *record.classes.values(), *record.numbers.values()]
    if not all(np.isfinite(vector).all() for vector in vectors) or not all(map(math.isfinite, numbers)):
        raise ValueError("no record")
    return record


def _parse(values: Mapping[str, Any]) -> Record:
    time = datetime.fromisoformat(values["time"])
    width, height = values["size"]
    colours = np.array(values["colours"], np.float32)
    if time.tzinfo is None or colours.shape != (6,):
        raise ValueError("no record")
    return Record(
        time=time,
        name=_text(values["name"]),
        bundle=_text(values["bundle"]),
        size=(int(width), int(height)),
        colours=colours,
        sharpness=float(values["sharpness"]),
        taps={
            name: np.frombuffer(b64decode(text, validate=True), "<f4").astype(np.float32)
            for name, text in values["taps"].items()
        },
        classes={int(index): float(value) for index, value in values["classes"].items()},
        numbers={name: float(value) for name, value in values["numbers"].items()},
        file=_text(values.get("file", "")),
        copy=_text(values.get("copy", "")),
    )


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("no record")
    return value


def _short(value: float) -> float:
    return round(float(value), 4)
