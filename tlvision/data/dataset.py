"""From samples to network inputs, one at a time; every draw is a pure function of seed and position."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt

from tlvision.data.augment import Placement, fit, jitter_colour, place_mosaic, place_one
from tlvision.data.cache import ImageCache, default_budget
from tlvision.data.geometry import Matrix, Pixels, letterbox_size, paint, scale
from tlvision.data.images import read_image
from tlvision.data.render import place_target, semantic_map
from tlvision.data.settings import AugmentSettings
from tlvision.types import IGNORE_INDEX, ClassMap, InputError, InputSpec, Sample, Target, empty_target

Task = Literal["detect", "semantic"]


@dataclass(frozen=True, slots=True, eq=False)
class Meta:
    """Where a network input came from.

    image_id: id of the image; of the first of four for a mosaic.
    matrix:   (3, 3) float64, pixels of the original image -> pixels of the network input, for `unwarp_boxes`.
    size:     height and width of the original image in pixels.
    """

    image_id: int
    matrix: Matrix
    size: tuple[int, int]


Draw = tuple[Pixels, Target, Meta]


def round_up(side: int, multiple: int) -> int:
    """Return the smallest multiple of `multiple` that is not below `side`."""
    return -(-side // multiple) * multiple


class _Loader:
    """Decoded images of some samples, reduced to what a canvas of `image_size` can show."""

    def __init__(self, samples: Sequence[Sample], input_spec: InputSpec, image_size: int, cache_bytes: int | None):
        self.samples = tuple(samples)
        self.input_spec = input_spec
        self.image_size = image_size
        self.cache_bytes = cache_bytes
        self.cache = ImageCache(default_budget() if cache_bytes is None else cache_bytes)
        if not self.samples:
            raise InputError("data: there are no images; give a json that names some")

    def share_memory_with(self, processes: int) -> None:
        """Cut the cache down for one of several processes on this machine; called in each worker when it starts."""
        budget = default_budget(processes) if self.cache_bytes is None else self.cache_bytes // max(1, processes)
        self.cache = ImageCache(budget)

    def load(self, index: int, canvas: tuple[int, int]) -> tuple[Pixels, Matrix]:
        """Return an image, and the map from its original pixels to its pixels here.

        canvas: height and width that it will be fitted into; a larger image is averaged down to that.
        """
        sample = self.samples[index]
        if self.input_spec.resize == "stretch":
            wanted = canvas
        else:
            gain = min(canvas[0] / sample.height, canvas[1] / sample.width)
            wanted = (max(1, round(sample.height * gain)), max(1, round(sample.width * gain)))
        wanted = min(wanted[0], sample.height), min(wanted[1], sample.width)
        image = self.cache.get((index, wanted), lambda: self._decode(sample, wanted))
        return image, self._matrix(sample, wanted)
