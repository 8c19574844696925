"""Cut the training images into tiles, as files beside the run."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from tlvision.data.images import read_image
from tlvision.data.settings import TileSettings
from tlvision.data.tiles import Window, cut_sample, tile_windows
from tlvision.files.atomic import atomic_file
from tlvision.files.names import common_folder, stems_in
from tlvision.formats.label_maps import read_label_map, write_label_map
from tlvision.tasks.semantic import as_readable
from tlvision.types import IGNORE_INDEX, Dataset, InputError, LabelMapFile, Pixels, Sample, counted

FOLDER = ".tiles"
_THREADS = 4


def cut_tiles(data: Dataset, settings: TileSettings, folder: Path, *, seed: int) -> tuple[Dataset, list[str]]:
    """Return training data whose images are tiles, and a sentence about them.

    folder: gets a folder for each image, named by a hash of the image and the settings; tiles that are there already
            are not cut again. A tile is a PNG of the 8-bit pixels that a training without tiles sees.
    seed:   of the draw of tiles without an object.

    Tiles that show an object are kept, of the others a share of `settings.empty`; images that are not larger than a
    tile stay as they are. Raises InputError if no tile is left.
    """
    stems = stems_in([sample.path for sample in data.samples], data.images_dir)
    large = [max(sample.height, sample.width) > settings.size for sample in data.samples]
    if not any(large):
        return data, [f"data.tiles: no training image is larger than {settings.size} px, so none is cut"]
    cut = partial(_cut_image, settings=settings, folder=folder, seed=seed)
    with ThreadPoolExecutor(_THREADS) as pool:
        found = list(pool.map(lambda item: cut(*item), zip(data.samples, stems, large, strict=True)))
    tiles = [tile for image in found for tile in image.tiles]
    if not tiles:
        raise InputError("data.tiles: no tile is left; every one is without an object. Set data.tiles.empty above 0")
    numbered = tuple(replace(tile, image_id=number) for number, tile in enumerate(tiles, start=1))
    lost, empty = sum(image.cut for image in found), sum(image.empty for image in found)
    sentence = (
        f"data.tiles: {counted(sum(large), 'training image')} cut into tiles of {settings.size} px, "
        f"{counted(len(tiles), 'training input')} in all; {counted(empty, 'tile')} without an object left out, "
        f"{counted(lost, 'part')} of objects below {settings.min_visible:.0%} not learned; in {folder}"
    )
    place = common_folder([tile.path for tile in tiles])
    return replace(as_readable(data), samples=numbered, images_dir=place), [sentence]


class _Tiles:
    """The tiles of one image that are trained on; how many are left out, and how many parts of objects."""

    def __init__(self) -> None:
        self.tiles: list[Sample] = []
        self.empty = 0
        self.cut = 0


def _cut_image(sample: Sample, stem: str, large: bool, *, settings: TileSettings, folder: Path, seed: int) -> _Tiles:
    found = _Tiles()
    if not large:
        found.tiles.append(sample)
        return found
    place = folder / f"{stem}-{_digest(sample, settings)}"
    windows = tile_windows(sample.height, sample.width, settings.size, settings.overlap)
    rng = np.random.default_rng([seed, int.from_bytes(hashlib.sha256(stem.encode()).digest()[:8])])
    labels = None if sample.label_map is None else read_label_map(sample.label_map)
    pixels: Pixels | None = None
    for window, chance in zip(windows, rng.random(len(windows)), strict=True):
        path = place / f"{window[0]}_{window[1]}.png"
        tile, cut = cut_sample(sample, window, path, min_visible=settings.min_visible)
        part = None if labels is None else labels[window[1] : window[3], window[0] : window[2]]
        is_empty = not len(tile.target) if part is None else bool((part == IGNORE_INDEX).all())
        found.cut += cut
        if is_empty and chance >= settings.empty:
            found.empty += 1
            continue
        if not path.exists():
            if pixels is None:
                pixels, _ = read_image(sample.path, sample.width, sample.height, sample.exif, bits=sample.bits)
            _write(path, pixels, window)
        found.tiles.append(tile if part is None else replace(tile, label_map=_write_labels(path, part)))
    if settings.whole:
        found.tiles.append(sample)
    return found


def _write(path: Path, pixels: Pixels, window: Window) -> None:
    x0, y0, x1, y1 = window
    with atomic_file(path) as file:  # several processes of a run may write the same
        Image.fromarray(pixels[y0:y1, x0:x1]).save(file, "PNG", compress_level=1)


def _write_labels(path: Path, labels: Pixels) -> LabelMapFile:
    place = path.with_name(f"{path.stem}_labels.png")
    if not place.exists():
        with atomic_file(place) as file:
            write_label_map(file, labels)
    return LabelMapFile(place, {value: value for value in range(IGNORE_INDEX + 1)})


def _digest(sample: Sample, settings: TileSettings) -> str:
    """Return a hash of what the pixels of the tiles, and the label maps among them, are made from."""
    status = sample.path.stat()
    parts = [str(sample.path.resolve()), status.st_size, status.st_mtime_ns, sample.exif, sample.bits]
    if sample.label_map is not None:
        labels = sample.label_map.path.stat()
        parts += [labels.st_size, labels.st_mtime_ns, sorted(sample.label_map.values.items())]
    return hashlib.sha256(repr((parts, settings.size, settings.overlap)).encode()).hexdigest()[:12]
