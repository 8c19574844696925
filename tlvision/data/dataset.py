"""From samples to network inputs, one at a time; the inputs of evaluation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass
from functools import partial
from itertools import groupby

import cv2
import numpy as np

from tlvision.data.augment import Placement
from tlvision.data.geometry import Matrix, filled, fitted_size, invert, paint, place_in, scale, stretch
from tlvision.data.loader import Loader
from tlvision.types import InputSpec, Pixels, Sample, Target, empty_target


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
    pixels:     the decoded images of the samples, (H, W, 3) uint8 RGB each, of full size, or the content of their
                files; None reads their files.
    canvas:     height and width of every network input, for models that take no other; None as said above.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        input_spec: InputSpec,
        image_size: int,
        *,
        cache_bytes: int | None = None,
        pixels: Sequence[Pixels | bytes] | None = None,
        canvas: tuple[int, int] | None = None,
    ) -> None:
        self.loader = Loader(samples, input_spec, cache_bytes, pixels)
        self.samples = self.loader.samples
        self.input_spec = input_spec
        self.long_side = round_up(image_size, input_spec.multiple_of)
        self.fixed = canvas
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
        return place_whole((sample.height, sample.width), self.input_spec, self.long_side, self.fixed)

    def groups(self, batch_size: int) -> list[list[int]]:
        """Return the indices of all images in batches of one shape each, by shape and then by index."""
        shapes = [self.canvas(index) for index in range(len(self.samples))]
        order = sorted(range(len(self.samples)), key=lambda index: (shapes[index], index))
        by_shape = [list(group) for _, group in groupby(order, key=lambda index: shapes[index])]
        return [group[start : start + batch_size] for group in by_shape for start in range(0, len(group), batch_size)]


def place_whole(
    size: tuple[int, int], input_spec: InputSpec, long_side: int, fixed: tuple[int, int] | None = None
) -> tuple[tuple[int, int], Matrix]:
    """Return height and width of the network input for a whole image of `size` (height, width), and the map to it.

    Letterboxed, the long side of the image becomes `long_side`; the input is larger by `input_spec.margin` at least, a
    multiple of `multiple_of`, with the image placed by `place`, at a whole offset. Stretched, the input is square.
    fixed: height and width of the input where they do not follow the image; the image has the same size in it.
    """
    square = (long_side, long_side)
    if input_spec.resize == "stretch":
        return square, stretch(size, square)
    height, width = fitted_size(size, square)
    canvas_height, canvas_width = (
        round_up(length + input_spec.margin, input_spec.multiple_of) for length in (height, width)
    )
    canvas = fixed or (canvas_height, canvas_width)
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
