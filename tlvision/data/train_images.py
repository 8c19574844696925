"""The endless stream of training inputs: augmented, mixed and sampled by seed and position alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache, partial

import numpy as np
import numpy.typing as npt

from tlvision.data.augment import Placement, jitter_colour, place_mosaic, place_one
from tlvision.data.crop import place_crop
from tlvision.data.dataset import Draw, Meta, Restyle, TargetParts, blank, round_up
from tlvision.data.geometry import fitted_size, paint, place_in
from tlvision.data.loader import Loader
from tlvision.data.mixing import Input, copy_paste, cut_mix, mix_up
from tlvision.data.photometric import photometric, uses_photometric
from tlvision.data.sampling import Weights, weighted_order
from tlvision.data.settings import InputSettings
from tlvision.data.strong_view import strong_view
from tlvision.data.targets import place_target
from tlvision.types import IGNORE_INDEX, InputError, InputSpec, Pixels, Sample

_BOXES = TargetParts()
_MIX = 32.0
"""MixUp's ratio is drawn from Beta(32, 32): near a half, as detectors are trained (Zhang et al. 2019)."""


class TrainImages:
    """An endless stream of training inputs: every image equally often or by weight, in a new order each epoch.

    samples:     the training images; those without objects are used as well.
    input_spec:  the model's wishes.
    settings:    size, augmentation, seed and cache.
    num_classes: labels must lie below it.
    parts:       parts of targets besides boxes and labels.
    restyle:     what changes the look of each source image before anything else, or None.
    weights:     (N,) how often each image comes in an epoch, with the mean 1; None for all alike.

    Crowd objects are taken out of boxes and masks, and are IGNORE_INDEX in label maps.
    Raises InputError if there are no samples, a label is out of range, or an augmentation is on that these labels
    cannot have.
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
        weights: Weights | None = None,
    ) -> None:
        self.restyle = restyle
        self.weights = weights
        self.loader = Loader(samples, input_spec, settings.cache_bytes)
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
        if parts.label_map and self.augment.mixup:
            raise InputError("data.augment.mixup: label maps cannot be mixed; use cutmix")
        self._sources = self._with_masks() if self.augment.copy_paste else np.zeros(0, np.int64)
        self._order = lru_cache(maxsize=2)(self._permutation)

    def _with_masks(self) -> npt.NDArray[np.int64]:
        """Return the images whose objects can be copied: every one has a mask."""
        found = [
            index
            for index, sample in enumerate(self.samples)
            if sample.segments and None not in sample.segments and not sample.target.crowd.all()
        ]
        if not found:
            raise InputError(
                "data.augment.copy_paste: objects are cut out by their masks, and no image has a mask for each of its "
                "objects. Label masks, or set copy_paste: 0"
            )
        return np.array(found, np.int64)

    def __len__(self) -> int:
        """Return the number of images, which is the number of positions in an epoch."""
        return len(self.samples)

    def __getstate__(self) -> dict[str, object]:
        return {name: value for name, value in self.__dict__.items() if name != "_order"}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state)
        self._order = lru_cache(maxsize=2)(self._permutation)

    def _permutation(self, epoch: int) -> npt.NDArray[np.int64]:
        rng = np.random.default_rng([self.settings.seed, epoch, 0])
        return rng.permutation(len(self.samples)) if self.weights is None else weighted_order(self.weights, rng)

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
        index, own = self.index(position), self.canvas(position, mosaic)
        canvas = canvas or own
        change = self._change(position)
        (pixels, target), meta = self._compose(rng, index, (own, canvas), mosaic=mosaic, change=change)
        if mosaic and self.augment.mixes:
            pixels, target = self._mix(position, (pixels, target), change)
        jitter_colour(rng, self.augment, pixels)
        # Generators of their own, so that switching these on leaves geometry and colours as they were.
        if uses_photometric(self.augment):
            pixels = photometric(self._generator(position, 3), self.augment, pixels)
        if self.augment.strong:
            other = self._generator(position, 2)
            if other.random() < self.augment.strong:
                pixels = strong_view(other, self.augment.strong_view, pixels)
        return pixels, target, meta

    def _compose(
        self,
        rng: np.random.Generator,
        index: int,
        sizes: tuple[tuple[int, int], tuple[int, int]],
        *,
        mosaic: bool,
        change: Callable[[Pixels], Pixels] | None,
        masks: bool | None = None,
    ) -> tuple[Input, Meta]:
        """Return an image, alone or in a mosaic, with its target, before it is mixed and coloured.

        sizes: height and width of the part of the input that the image is placed in, and of the whole input.
        masks: whether the target has masks; None as the task wants.
        """
        own, canvas = sizes
        indices = [index]
        move = place_in(canvas, own, self.input_spec.place)
        four = rng.random() < self.augment.mosaic and mosaic
        if four:
            indices.extend(self._any(rng, 3))
        samples = [self.samples[each] for each in indices]
        shapes = [(sample.height, sample.width) for sample in samples]
        if four:
            placements = place_mosaic(rng, self.augment, shapes, own, self.input_spec)
        elif self.augment.crop:
            placements = [self._crop(rng, index, own)]
        else:
            placements = [place_one(rng, self.augment, shapes[0], own, self.input_spec)]
        placements = [Placement(move @ each.matrix, each.region) for each in placements]
        pixels = blank(canvas, self.input_spec)
        for each, placement in zip(indices, placements, strict=True):
            self.loader.paint(pixels, each, placement, self.size, change)
        target = place_target(samples, placements, canvas, masks=self.parts.masks if masks is None else masks)
        if self.parts.label_map:
            target = replace(target, semantic=self._semantic(indices, placements, canvas))
        return (pixels, target), Meta(samples[0].image_id, placements[0].matrix, shapes[0])

    def _any(self, rng: np.random.Generator, count: int) -> list[int]:
        """Draw images, each as likely as it comes in the stream."""
        if self.weights is None:
            found = rng.integers(len(self.samples), size=count)
        else:
            found = rng.choice(len(self.samples), size=count, p=self.weights / self.weights.sum())
        return [int(each) for each in found]

    def _mix(self, position: int, one: Input, change: Callable[[Pixels], Pixels] | None) -> Input:
        """Return an input with parts of others, each kind by its probability."""
        rng = self._generator(position, 4)
        pasted, cut, mixed = rng.random(3)
        height, width = one[0].shape[:2]
        sizes = ((height, width), (height, width))
        if pasted < self.augment.copy_paste:
            source = int(rng.choice(self._sources))
            other, _ = self._compose(rng, source, sizes, mosaic=False, change=change, masks=True)
            one = copy_paste(one, other, rng.random(len(other[1])) < 0.5)
        if cut < self.augment.cutmix:
            other, _ = self._compose(rng, self._any(rng, 1)[0], sizes, mosaic=False, change=change)
            share = np.sqrt(rng.random())  # of each side: the area is uniform, as in the paper
            tall, wide = max(1, round(height * share)), max(1, round(width * share))
            top, left = int(rng.integers(height - tall + 1)), int(rng.integers(width - wide + 1))
            one = cut_mix(one, other, (left, top, left + wide, top + tall))
        if mixed < self.augment.mixup:
            other, _ = self._compose(rng, self._any(rng, 1)[0], sizes, mosaic=True, change=change)
            one = mix_up(one, other, float(rng.beta(_MIX, _MIX)))
        return one

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
