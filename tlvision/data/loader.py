"""Decoded images of samples, reduced to the resolution of the network input and cached."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

import cv2

from tlvision.data.augment import Placement
from tlvision.data.cache import ImageCache, default_budget
from tlvision.data.geometry import Matrix, fitted_size, invert, paint, scale
from tlvision.data.images import decode_image, read_image
from tlvision.data.targets import semantic_map
from tlvision.types import InputError, InputSpec, Pixels, Sample


class Loader:
    """Decoded images of some samples, reduced to the resolution of their canvas and cached while memory lasts.

    pixels: the images, decoded or as the content of their files; None reads the files.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        input_spec: InputSpec,
        cache_bytes: int | None,
        pixels: Sequence[Pixels | bytes] | None = None,
    ) -> None:
        self.samples = tuple(samples)
        self.pixels = pixels
        if not self.samples:
            raise InputError("data: there are no images; give a json that names some")
        self.input_spec = input_spec
        # torchrun tells how many processes of this run share the machine.
        processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
        budget = default_budget(processes) if cache_bytes is None else cache_bytes
        # Two slots an image: its pixels, and its label map.
        self.cache = ImageCache(2 * len(self.samples), min(budget, self._all_pixels()))

    def _all_pixels(self) -> int:
        return sum(4 * sample.width * sample.height for sample in self.samples)

    def image(self, index: int, canvas: tuple[int, int]) -> tuple[Pixels, Matrix]:
        """Return an image and the map from its original pixels to the pixels here.

        canvas: height and width that it will be fitted into, always the same for one index; a larger image is
                averaged down to that.
        """
        sample = self.samples[index]
        keep_aspect = self.input_spec.resize == "letterbox"
        wanted = fitted_size((sample.height, sample.width), canvas, keep_aspect=keep_aspect)
        image, k = self.cache.get(index, lambda: self._decode(index, wanted))
        # Reduced k times, the file gives whole blocks of k x k pixels, of which the last are partly padding.
        full_height, full_width = -(-sample.height // k) * k, -(-sample.width // k) * k
        return image, scale(image.shape[1] / full_width, image.shape[0] / full_height)

    def decode(self, index: int) -> Pixels:
        """Return an image at full size, (height, width, 3) uint8 RGB, which is not kept."""
        sample = self.samples[index]
        return self._decode(index, (sample.height, sample.width))[0]

    def _decode(self, index: int, wanted: tuple[int, int]) -> tuple[Pixels, int]:
        sample = self.samples[index]
        content = None if self.pixels is None else self.pixels[index]
        size = sample.width, sample.height
        if content is None:
            image, k = read_image(sample.path, *size, sample.exif, min_size=wanted, bits=sample.bits)
        elif isinstance(content, bytes):
            image, k = decode_image(content, sample.path, *size, sample.exif, min_size=wanted, bits=sample.bits)
        else:
            image, k = content.view(), 1  # a view, because the cache makes what it gets read-only
        smaller = min(wanted[0], image.shape[0]), min(wanted[1], image.shape[1])
        if smaller != image.shape[:2]:
            image = cv2.resize(image, smaller[::-1], interpolation=cv2.INTER_AREA)  # type: ignore[assignment]
        return image, k

    def label_map(self, index: int, background: int | None) -> Pixels:
        """Return the label map of an image at original size; see `semantic_map`."""
        sample = self.samples[index]
        return self.cache.get(len(self.samples) + index, lambda: (semantic_map(sample, background), 1))[0]

    def paint(
        self,
        canvas: Pixels,
        index: int,
        placement: Placement,
        fitted: tuple[int, int],
        change: Callable[[Pixels], Pixels] | None = None,
    ) -> None:
        """Paint one image, changed by `change`, where `placement` says; `fitted` is as for `image`."""
        image, reduced = self.image(index, fitted)
        if change is not None:
            image = change(image)
        sample = self.samples[index]
        x0, y0, x1, y1 = placement.region or (0.0, 0.0, float(sample.width), float(sample.height))
        gain_x, gain_y = reduced[0, 0], reduced[1, 1]
        region = (x0 * gain_x, y0 * gain_y, x1 * gain_x, y1 * gain_y)
        paint(canvas, image, placement.matrix @ invert(reduced), region)
