"""Limit how many objects of an image a model returns, and how many an evaluation counts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tlvision.config.schema import Config
from tlvision.plugin import PredictSpec
from tlvision.plugin.protocol import DEFAULT_MAX_DETECTIONS
from tlvision.tasks import Task
from tlvision.types import InputError

if TYPE_CHECKING:
    from tlvision.inference.predict import Tiling


def model_limit(config: Config, task: Task) -> int | None:
    """Return `PredictSpec.max_detections` of the config, or None for the usual number of the model family.

    A higher `evaluate.max_detections` raises the usual number; a lower one leaves it, because it counts the detections
    of one class and the model's limit those of all.
    """
    counts = config.evaluate.max_detections
    return config.model.max_detections or (counts if counts > _usual(task) else None)


def predict_spec(config: Config, task: Task) -> PredictSpec:
    """Return the `PredictSpec` of the config."""
    return PredictSpec(
        score_floor=config.model.score_floor,
        nms_iou=config.model.nms_iou,
        max_detections=model_limit(config, task),
    )


def objects_given(config: Config, task: Task) -> int:
    """Return how many objects of an image a model gives at most."""
    return model_limit(config, task) or _usual(task)


def tiling(config: Config, task: Task) -> Tiling | None:
    """Return how large images are cut for a prediction, None if they are not."""
    from tlvision.inference.predict import Tiling

    settings = config.data.tiles
    return Tiling(settings, objects_given(config, task)) if settings.size else None


def _usual(task: Task) -> int:
    return task.max_objects or DEFAULT_MAX_DETECTIONS


def check_limit(most: int) -> int:
    """Return the number; InputError unless it is one that COCO's evaluation and a model can have."""
    if not 3 <= most <= 10_000:
        raise InputError(f"--max-detections must be from 3 to 10000, got {most}")
    return most
