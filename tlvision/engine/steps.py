"""Number of processes, images and steps of a run."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tlvision.config.schema import Config


def processes() -> int:
    """Return the number of processes of the run, at least 1: those that `torchrun` has started."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def steps_per_epoch(config: Config, images: int) -> int:
    """Return the optimizer steps of one epoch: the nearest whole number to one pass over the images, at least 1.

    images: number of training images, 0 or more.
    """
    per_step = config.data.batch.labelled * config.train.accumulate * processes()
    return max(1, round(images / per_step))
