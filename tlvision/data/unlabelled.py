"""Unlabelled images as a stream of pairs: a weak and a strong view, with one geometry."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from tlvision.data.dataset import EvalImages, Meta
from tlvision.data.settings import InputSettings
from tlvision.data.strong_view import strong_view
from tlvision.data.train_images import TrainImages
from tlvision.types import ImageFile, InputSpec, Pixels, Sample, empty_target

# Far from the seeds of labelled streams, which count from train.seed.
_OTHER_STREAM = 1 << 40

_APPEARANCE = (
    *("mosaic", "mixup", "cutmix", "copy_paste", "hue", "saturation", "value"),
    *("gamma", "clahe", "blur", "noise", "jpeg", "cutout", "strong"),
)
"""Augmentations that the weak view does not have."""
StyleChange = Callable[[Pixels, Pixels, np.random.Generator], Pixels]
"""Gives a labelled image (H, W, 3) the look of an unlabelled one (h, w, 3); returns (H, W, 3) uint8 RGB."""


class UnlabelledImages:
    """An endless stream of pairs of views: every image equally often, in a new order each epoch.

    images:     the files.
    input_spec: the model's wishes.
    settings:   those of the labelled images. Both views have the geometry that these give, without mosaics; the strong
                view has `settings.augment.strong_view` on top.
    """

    def __init__(self, images: Sequence[ImageFile], input_spec: InputSpec, settings: InputSettings) -> None:
        self.images = tuple(images)
        self.input_spec, self.settings = input_spec, settings
        plain = dict.fromkeys(_APPEARANCE, 0.0)
        weak = replace(settings, augment=settings.augment.model_copy(update=plain), seed=settings.seed + _OTHER_STREAM)
        self._weak = TrainImages(samples_of(self.images), input_spec, weak, num_classes=1)

    def __len__(self) -> int:
        """Return the number of images, which is the number of positions in an epoch."""
        return len(self.images)

    def canvas(self, position: int) -> tuple[int, int]:
        """Return height and width of the network input at `position`."""
        return self._weak.canvas(position, mosaic=False)

    def draw(self, position: int, canvas: tuple[int, int] | None = None) -> tuple[Pixels, Pixels, Meta]:
        """Return the weak and the strong view at `position`, (H, W, 3) uint8 RGB each, and where they came from."""
        weak, _, meta = self._weak.draw(position, mosaic=False, canvas=canvas)
        rng = np.random.default_rng([self.settings.seed, position, 1])
        return weak, strong_view(rng, self.settings.augment.strong_view, weak), meta

    def picture(self, index: int) -> Pixels:
        """Return one whole decoded image, reduced to the resolution of the network input: (h, w, 3) uint8 RGB."""
        return self._weak.loader.image(index, self._weak.size)[0]

    def for_evaluation(self) -> EvalImages:
        """Return the same images as whole network inputs, nothing random."""
        return EvalImages(samples_of(self.images), self.input_spec, self.settings.image_size, cache_bytes=0)


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
