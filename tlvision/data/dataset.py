"""From samples to network inputs, one at a time; every draw is a pure function of seed and position."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from itertools import groupby

import cv2
import numpy as np
import numpy.typing as npt

from tlvision.data.augment import Placement, jitter_colour, place_mosaic, place_one
from tlvision.data.cache import ImageCache, default_budget
from tlvision.data.crop import place_crop
from tlvision.data.geometry import Matrix, filled, fitted_size, invert, paint, place_in, scale, stretch
from tlvision.data.images import read_image
from tlvision.data.settings import InputSettings
from tlvision.data.strong_view import strong_view
from tlvision.data.targets import place_target, semantic_map
from tlvision.types import IGNORE_INDEX, InputError, InputSpec, Pixels, Sample, Target, empty_target


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetParts:
    """Parts of a training target besides boxes and labels.

    masks:      whether there is a mask for each object.
    label_map:  whether there is a label map.
    background: index of the class of pixels without an object in label maps; None makes them IGNORE_INDEX.
    """

    masks: bool = False
    label_map: bool = False
    background: int | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Meta:
    """The origin of a network input.

    image_id: id of the image; of the first of four for a mosaic.
    matrix:   (3, 3) float64, pixels of the original image -> pixels of the network input, for `unwarp_boxes`.
    size:     height and width of the original image in pixels.
    """

    image_id: int
    matrix: Matrix
    size: tuple[int, int]


_BOXES = TargetParts()
Draw = tuple[Pixels, Target, Meta]
Restyle = Callable[[Pixels, np.random.Generator], Pixels]
"""Changes the appearance of an image (H, W, 3) uint8 RGB without moving objects; returns a new image."""
ImageChange = Callable[[Sample, Pixels], Pixels]
"""Changes the appearance of the decoded image of a sample, (h, w, 3) uint8 RGB; returns a new image of that shape."""
ImageView = Callable[[Sample], Matrix]
"""Returns where the image of a sample moves, within its frame: (3, 3) float64, in pixels of the original image."""


def round_up(side: int, multiple: int) -> int:
    """Return the smallest multiple of `multiple` that is not below `side`."""
    return -(-side // multiple) * multiple


class _Loader:
    """Decoded images of some samples, reduced to the resolution of their canvas and cached while memory lasts.

    pixels: the decoded images; None reads them from their files.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        input_spec: InputSpec,
        cache_bytes: int | None,
        pixels: Sequence[Pixels] | None = None,
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
        pixels = None if self.pixels is None else self.pixels[index]
        image, k = self.cache.get(index, lambda: _decode(sample, wanted, pixels))
        # Reduced k times, the file gives whole blocks of k x k pixels, of which the last are partly padding.
        full_height, full_width = -(-sample.height // k) * k, -(-sample.width // k) * k
        return image, scale(image.shape[1] / full_width, image.shape[0] / full_height)

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


def _decode(sample: Sample, wanted: tuple[int, int], pixels: Pixels | None) -> tuple[Pixels, int]:
    if pixels is None:
        image, k = read_image(sample.path, sample.width, sample.height, sample.exif, min_size=wanted, bits=sample.bits)
    else:
        image, k = pixels.view(), 1  # a view, because the cache makes what it gets read-only
    smaller = min(wanted[0], image.shape[0]), min(wanted[1], image.shape[1])
    if smaller != image.shape[:2]:
        image = cv2.resize(image, smaller[::-1], interpolation=cv2.INTER_AREA)  # type: ignore[assignment]
    return image, k


class TrainImages:
    """An endless stream of training inputs: every image equally often, in a new order each epoch.

    samples:     the training images; those without objects are used as well.
    input_spec:  the model's wishes.
    settings:    size, augmentation, seed and cache.
    num_classes: labels must lie below it.
    parts:       parts of targets besides boxes and labels.
    restyle:     what changes the look of each source image before anything else, or None.

    Crowd objects are taken out of boxes and masks, and are IGNORE_INDEX in label maps.
    Raises InputError if there are no samples or a label is out of range.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        input_spec: InputSpec,
        settings: InputSettings,
        *,
        num_classes: int,
        parts: TargetParts = _BOXES,
        restyle: Restyle | None = None,
    ) -> None:
        self.restyle = restyle
        self.loader = _Loader(samples, input_spec, settings.cache_bytes)
        self.samples = self.loader.samples
        self.input_spec = input_spec
        self.settings = settings
        self.augment = settings.augment
        self.size = (round_up(settings.image_size, input_spec.multiple_of),) * 2
        self.parts = parts
        highest = max((int(sample.target.labels.max()) for sample in self.samples if len(sample.target)), default=-1)
        if highest >= num_classes:
            raise InputError(f"data: a sample has class index {highest}, but there are {num_classes} classes")
        if parts.label_map and num_classes > IGNORE_INDEX:
            raise InputError(f"data: a label map has room for {IGNORE_INDEX} classes, got {num_classes}")
        self._order = lru_cache(maxsize=2)(self._permutation)

    def __len__(self) -> int:
        """Return the number of images, which is the number of positions in an epoch."""
        return len(self.samples)

    def __getstate__(self) -> dict[str, object]:
        return {name: value for name, value in self.__dict__.items() if name != "_order"}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state)
        self._order = lru_cache(maxsize=2)(self._permutation)

    def _permutation(self, epoch: int) -> npt.NDArray[np.int64]:
        return np.random.default_rng([self.settings.seed, epoch, 0]).permutation(len(self.samples))

    def index(self, position: int) -> int:
        """Return the index of the image at `position` (0, 1, …, without end) of the stream."""
        epoch, place = divmod(position, len(self.samples))
        return int(self._order(epoch)[place])

    def canvas(self, position: int, mosaic: bool) -> tuple[int, int]:
        """Return height and width of the network input at `position`; arguments as for `draw`."""
        crop = self.augment.crop
        side = round_up(crop, self.input_spec.multiple_of) if crop else self.size[0]
        if self.settings.canvas == "square" or (mosaic and self.augment.mosaic):
            return side, side
        sample = self.samples[self.index(position)]
        keep_aspect = self.input_spec.resize == "letterbox"
        height, width = fitted_size((sample.height, sample.width), self.size, keep_aspect=keep_aspect)
        multiple = self.input_spec.multiple_of
        return min(side, round_up(height, multiple)), min(side, round_up(width, multiple))

    def draw(self, position: int, mosaic: bool, canvas: tuple[int, int] | None = None) -> Draw:
        """Return the input at `position`; it is the same at every call and in every process.

        position: place in the stream.
        mosaic:   whether mosaics are still on; then this is one with the probability of the settings.
        canvas:   height and width of the input, not below those of `canvas(position, mosaic)`, which are the default.
                  The image lies in the middle or the corner of it, as the model wants.

        Returns the image (H, W, 3) uint8 RGB, its target (numpy, in pixels of that image), and where it came from.
        """
        rng = np.random.default_rng([self.settings.seed, position])
        indices = [self.index(position)]
        own = self.canvas(position, mosaic)
        canvas = canvas or own
        move = place_in(canvas, own, self.input_spec.place)
        four = rng.random() < self.augment.mosaic and mosaic
        if four:
            indices.extend(rng.integers(len(self.samples), size=3).tolist())
        samples = [self.samples[index] for index in indices]
        sizes = [(sample.height, sample.width) for sample in samples]
        if four:
            placements = place_mosaic(rng, self.augment, sizes, own, self.input_spec)
        elif self.augment.crop:
            placements = [self._crop(rng, indices[0], own)]
        else:
            placements = [place_one(rng, self.augment, sizes[0], own, self.input_spec)]
        placements = [Placement(move @ each.matrix, each.region) for each in placements]
        pixels = blank(canvas, self.input_spec)
        # Generators of their own, so that switching these on leaves geometry and colours as they were.
        change = self._change(position)
        for index, placement in zip(indices, placements, strict=True):
            self.loader.paint(pixels, index, placement, self.size, change)
        jitter_colour(rng, self.augment, pixels)
        if self.augment.strong:
            other = self._generator(position, 2)
            if other.random() < self.augment.strong:
                pixels = strong_view(other, self.augment.strong_view, pixels)
        target = place_target(samples, placements, canvas, masks=self.parts.masks)
        if self.parts.label_map:
            target = replace(target, semantic=self._semantic(indices, placements, canvas))
        return pixels, target, Meta(samples[0].image_id, placements[0].matrix, sizes[0])

    def _change(self, position: int) -> Callable[[Pixels], Pixels] | None:
        restyle, rng = self.restyle, self._generator(position, 1)
        return None if restyle is None else lambda image: restyle(image, rng)

    def _generator(self, position: int, purpose: int) -> np.random.Generator:
        return np.random.default_rng([self.settings.seed, position, purpose])

    def _crop(self, rng: np.random.Generator, index: int, canvas: tuple[int, int]) -> Placement:
        sample = self.samples[index]
        parts = self.parts
        label_map = partial(self.loader.label_map, index, parts.background) if parts.label_map else None
        return place_crop(
            rng, self.augment, (sample.height, sample.width), self.size, canvas, self.input_spec, label_map
        )

    def _semantic(
        self, indices: Sequence[int], placements: Sequence[Placement], canvas: tuple[int, int]
    ) -> npt.NDArray[np.int64]:
        labels = np.full(canvas, IGNORE_INDEX, np.uint8)
        for index, placement in zip(indices, placements, strict=True):
            labels_here = self.loader.label_map(index, self.parts.background)
            paint(labels, labels_here, placement.matrix, placement.region, nearest=True)
        return labels.astype(np.int64)


def blank(size: tuple[int, int], input_spec: InputSpec) -> Pixels:
    """Return a canvas of `size` (height, width) in the padding colour: (height, width, 3) uint8 RGB."""
    return filled(size, input_spec.pad_value)


class EvalImages:
    """Network inputs for evaluation: nothing random, each image in a canvas of its own shape.

    samples:    the images.
    input_spec: the model's wishes. With "letterbox" the long side becomes `image_size` and both sides are rounded up
                to its multiple, margin included; with "stretch" every canvas is square.
    image_size: long side of the network input in pixels, itself rounded up to the multiple.
    cache_bytes: size of the cache of decoded images; None chooses by the memory of the machine.
    pixels:     the decoded images of the samples, (H, W, 3) uint8 RGB each, of full size; None reads their files.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        input_spec: InputSpec,
        image_size: int,
        *,
        cache_bytes: int | None = None,
        pixels: Sequence[Pixels] | None = None,
    ) -> None:
        self.loader = _Loader(samples, input_spec, cache_bytes, pixels)
        self.samples = self.loader.samples
        self.input_spec = input_spec
        self.long_side = round_up(image_size, input_spec.multiple_of)
        self.change: ImageChange | None = None
        self.view: ImageView | None = None

    def __len__(self) -> int:
        return len(self.samples)

    def with_changes(self, change: ImageChange | None = None, view: ImageView | None = None) -> EvalImages:
        """Return the same inputs with other pixels; both share one cache of decoded images.

        change: changes the image at the resolution of the network input, before it is padded; None leaves it.
        view:   moves the image within its frame. The rest of the frame is padding, and the frame itself is placed as
                before, so predictions come back in pixels of the moved image.
        """
        changed = copy(self)
        changed.change, changed.view = change, view
        return changed

    def canvas(self, index: int) -> tuple[int, int]:
        """Return height and width of the network input for one image."""
        return self._place(index)[0]

    def draw(self, index: int) -> Draw:
        """Return the image (H, W, 3) uint8 RGB, an empty target, and the way back to the original."""
        sample, (canvas, matrix) = self.samples[index], self._place(index)
        image = blank(canvas, self.input_spec)
        placement = Placement(matrix if self.view is None else matrix @ self.view(sample), None)
        change = None if self.change is None else partial(self.change, sample)
        self.loader.paint(image, index, placement, (self.long_side, self.long_side), change)
        return image, empty_target(), Meta(sample.image_id, matrix, (sample.height, sample.width))

    def _place(self, index: int) -> tuple[tuple[int, int], Matrix]:
        sample = self.samples[index]
        return place_whole((sample.height, sample.width), self.input_spec, self.long_side)

    def groups(self, batch_size: int) -> list[list[int]]:
        """Return the indices of all images in batches of one shape each, by shape and then by index."""
        shapes = [self.canvas(index) for index in range(len(self.samples))]
        order = sorted(range(len(self.samples)), key=lambda index: (shapes[index], index))
        by_shape = [list(group) for _, group in groupby(order, key=lambda index: shapes[index])]
        return [group[start : start + batch_size] for group in by_shape for start in range(0, len(group), batch_size)]


def place_whole(size: tuple[int, int], input_spec: InputSpec, long_side: int) -> tuple[tuple[int, int], Matrix]:
    """Return height and width of the network input for a whole image of `size` (height, width), and the map to it.

    Letterboxed, the long side of the image becomes `long_side`; the input is larger by `input_spec.margin` at least, a
    multiple of `multiple_of`, with the image placed by `place`, at a whole offset. Stretched, the input is square.
    """
    square = (long_side, long_side)
    if input_spec.resize == "stretch":
        return square, stretch(size, square)
    height, width = fitted_size(size, square)
    canvas_height, canvas_width = (
        round_up(length + input_spec.margin, input_spec.multiple_of) for length in (height, width)
    )
    canvas = canvas_height, canvas_width
    return canvas, place_in(canvas, (height, width), input_spec.place) @ scale(width / size[1], height / size[0])


def fit_image(image: Pixels, input_spec: InputSpec, image_size: int) -> tuple[Pixels, Matrix]:
    """Return one image as a network input, and the map to it from the image's own pixels, for `unwarp_boxes`.

    image: (H, W, 3) uint8 RGB. The same canvas as `EvalImages` makes of a file.
    """
    size = image.shape[0], image.shape[1]
    side = round_up(image_size, input_spec.multiple_of)
    canvas, matrix = place_whole(size, input_spec, side)
    wanted = fitted_size(size, (side, side), keep_aspect=input_spec.resize == "letterbox")
    smaller = min(wanted[0], size[0]), min(wanted[1], size[1])
    reduced = cv2.resize(image, smaller[::-1], interpolation=cv2.INTER_AREA) if smaller != size else image
    result = blank(canvas, input_spec)
    gain = scale(smaller[1] / size[1], smaller[0] / size[0])
    paint(result, np.asarray(reduced), matrix @ invert(gain), (0.0, 0.0, float(smaller[1]), float(smaller[0])))
    return result, matrix
