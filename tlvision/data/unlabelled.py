"""Unlabelled images as a stream of pairs: a weak and a strong view, with one geometry."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from tlvision.data.dataset import Canvas, EvalImages, Meta, TrainImages
from tlvision.data.geometry import Pixels
from tlvision.data.settings import AugmentSettings
from tlvision.data.strong_view import strong_view
from tlvision.types import ImageFile, InputSpec, Sample, empty_target

# Far from the seeds of labelled streams, which count from train.seed.
_OTHER_STREAM = 1 << 40

StyleChange = Callable[[Pixels, Pixels, np.random.Generator], Pixels]
"""Gives a labelled image (H, W, 3) the look of an unlabelled one (h, w, 3); returns (H, W, 3) uint8 RGB."""


class UnlabelledImages:
    """An endless stream of pairs of views: every image equally often, in a new order each epoch.

    images:      the files.
    settings:    what they go through: the geometry of labelled images without mosaic; the weak view has no more than
                 that, the strong one has `settings.strong_view` on top.
    input_spec, image_size, canvas, seed, cache_bytes: as for `TrainImages`.
    """

    def __init__(
        self,
        images: Sequence[ImageFile],
        settings: AugmentSettings,
        input_spec: InputSpec,
        image_size: int,
        *,
        seed: int,
        canvas: Canvas = "square",
        cache_bytes: int | None = None,
    ) -> None:
        self.images = tuple(images)
        self.strong = settings.strong_view
        self.seed = seed
        self.input_spec, self.image_size = input_spec, image_size
        plain = {"mosaic": 0.0, "hue": 0.0, "saturation": 0.0, "value": 0.0, "strong": 0.0}
        self._weak = TrainImages(
            samples_of(self.images),
            settings.model_copy(update=plain),
            input_spec,
            image_size,
            seed=seed + _OTHER_STREAM,
            num_classes=1,
            canvas=canvas,
            cache_bytes=cache_bytes,
        )

    def __len__(self) -> int:
        """Return the number of images, which is the number of positions in an epoch."""
        return len(self.images)

    def canvas(self, position: int) -> tuple[int, int]:
        """Return height and width of the network input at `position`."""
        return self._weak.canvas(position, mosaic=False)

    def draw(self, position: int, canvas: tuple[int, int] | None = None) -> tuple[Pixels, Pixels, Meta]:
        """Return the weak and the strong view at `position`, (H, W, 3) uint8 RGB each, and where they came from."""
        weak, _, meta = self._weak.draw(position, mosaic=False, canvas=canvas)
        rng = np.random.default_rng([self.seed, position, 1])
        return weak, strong_view(rng, self.strong, weak), meta

    def picture(self, index: int) -> Pixels:
        """Return one whole decoded image, reduced to the resolution of the network input: (h, w, 3) uint8 RGB."""
        return self._weak.loader.image(index, self._weak.size)[0]

    def for_evaluation(self) -> EvalImages:
        """Return the same images as whole network inputs, nothing random."""
        return EvalImages(samples_of(self.images), self.input_spec, self.image_size, cache_bytes=0)


def samples_of(images: Sequence[ImageFile]) -> list[Sample]:
    """Return the images as samples without objects, as the loading code expects them."""
    return [
        Sample(
            image_id=image.image_id,
            path=image.path,
            width=image.width,
            height=image.height,
            exif=image.exif,
            bits=image.bits,
            target=empty_target(),
            segments=(),
        )
        for image in images
    ]


@dataclass(frozen=True, slots=True)
class Styles:
    """Changes that give a labelled image the look of some unlabelled one, on the processes that load.

    changes: applied in this order, each with an unlabelled image of its own.
    others:  where those come from.
    """

    changes: tuple[StyleChange, ...]
    others: UnlabelledImages

    def apply(self, image: Pixels, rng: np.random.Generator) -> Pixels:
        """Return (H, W, 3) uint8 RGB, changed; `image` itself stays as it is."""
        for change in self.changes:
            image = change(image, self.others.picture(int(rng.integers(len(self.others)))), rng)
        return image
