"""How many objects of an image a model gives, and how many an evaluation counts."""

from __future__ import annotations

from tlvision.config.schema import Config
from tlvision.types import InputError


def model_limit(config: Config) -> int | None:
    """Return how many objects a model must find in an image: what the config says, and what the evaluation counts."""
    counted_most = config.evaluate.max_detections
    return config.model.max_detections or (counted_most if counted_most > COCO_LIMIT else None)


COCO_LIMIT = 100
"""COCO's own number of detections that count for an image and class."""


def check_limit(most: int) -> int:
    """Return the number; InputError unless it is one that COCO's evaluation and a model can have."""
    if not 3 <= most <= 10_000:
        raise InputError(f"--max-detections must be from 3 to 10000, got {most}")
    return most
