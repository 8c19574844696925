"""Network inputs for evaluation where large images are seen tile by tile."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np

from tlvision.data.dataset import Draw, EvalImages, Meta, blank, place_whole
from tlvision.data.geometry import paint
from tlvision.data.tiles import Window, tile_windows
from tlvision.types import InputSpec, Pixels, Sample, empty_target

if TYPE_CHECKING:
    from tlvision.data.settings import TileSettings


@dataclass(frozen=True, slots=True)
class Tile:
    """A part of an image that is one network input.

    image:  index of the sample.
    window: in pixels of the image; None for the whole image.
    """

    image: int
    window: Window | None

    def box(self, sample: Sample) -> Window:
        """Return the window, or all of the image."""
        return self.window or (0, 0, sample.width, sample.height)


class TileImages(EvalImages):
    """Network inputs for evaluation, one for each tile, the tiles of an image after each other.

    settings:    size, overlap, and whether the whole image is an input too. An image that is not larger than a tile is
                 the input that `EvalImages` makes of it.
    most:        objects of an image at most, of all tiles together.
    label_maps:  whether the model gives label maps, of which each pixel is taken from one tile: no whole images then.
    samples, input_spec, image_size, cache_bytes, pixels, canvas: as for `EvalImages`; `image_size` is the long side
                 of the input of a tile.

    `draw` returns the number of the tile as `Meta.image_id`, and the map from pixels of the tile.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        input_spec: InputSpec,
        image_size: int,
        settings: TileSettings,
        *,
        most: int,
        label_maps: bool = False,
        cache_bytes: int | None = None,
        pixels: Sequence[Pixels | bytes] | None = None,
        canvas: tuple[int, int] | None = None,
    ) -> None:
        super().__init__(samples, input_spec, image_size, cache_bytes=cache_bytes, pixels=pixels, canvas=canvas)
        self.settings, self.most = settings, most
        self.tiles: list[Tile] = []
        for index, sample in enumerate(self.samples):
            windows = tile_windows(sample.height, sample.width, settings.size, settings.overlap)
            if len(windows) == 1:
                self.tiles.append(Tile(index, None))
                continue
            self.tiles += [Tile(index, window) for window in windows]
            if settings.whole and not label_maps:
                self.tiles.append(Tile(index, None))
        self._counts = Counter(tile.image for tile in self.tiles)
        self._last: tuple[int, Pixels] | None = None

    def of_share(self, rank: int, world: int) -> TileImages:
        """Return the images of process `rank` of `world`; every tile of an image is on one process."""
        if world == 1:
            return self
        part = copy(self)
        part.tiles = [tile for tile in self.tiles if tile.image % world == rank]
        return part

    def count(self, image: int) -> int:
        """Return the number of tiles of an image, the whole one included."""
        return self._counts[image]

    def draw(self, index: int) -> Draw:
        """Return the input of a tile (H, W, 3) uint8 RGB, an empty target, and the way back to the tile."""
        tile = self.tiles[index]
        sample = self.samples[tile.image]
        if tile.window is None:
            image, target, meta = super().draw(tile.image)
            return image, target, Meta(index, meta.matrix, meta.size)
        x0, y0, x1, y1 = tile.window
        size = y1 - y0, x1 - x0
        canvas, matrix = place_whole(size, self.input_spec, self.long_side, self.fixed)
        image = blank(canvas, self.input_spec)
        part = np.ascontiguousarray(self._whole(tile.image, sample)[y0:y1, x0:x1])
        paint(image, part, matrix)
        return image, empty_target(), Meta(index, matrix, size)

    def _whole(self, image: int, sample: Sample) -> Pixels:
        """Return the decoded image at full size, kept until another is asked for."""
        if self._last is None or self._last[0] != image:
            self._last = image, self.loader.decode(image)
        return self._last[1]

    def groups(self, batch_size: int) -> list[list[int]]:
        """Return the numbers of all tiles in batches of one shape each, image by image."""
        found = []
        for _, numbers in groupby(range(len(self.tiles)), key=lambda number: self.tiles[number].image):
            shapes: dict[tuple[int, int], list[int]] = {}
            for number in numbers:
                shapes.setdefault(self._shape(self.tiles[number]), []).append(number)
            for same in shapes.values():
                found += [same[start : start + batch_size] for start in range(0, len(same), batch_size)]
        return found

    def _shape(self, tile: Tile) -> tuple[int, int]:
        x0, y0, x1, y1 = tile.box(self.samples[tile.image])
        return place_whole((y1 - y0, x1 - x0), self.input_spec, self.long_side, self.fixed)[0]
