"""Read label maps next to images: <masks>/<stem>.png for <images>/<stem>.jpg."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tlvision.files.inputs import check_folder, check_inside
from tlvision.formats.bit_depth import FULL, choose_bits
from tlvision.formats.image_headers import SUFFIXES, Header, header_notes, images_in, read_headers
from tlvision.formats.label_maps.files import read_label_map
from tlvision.formats.orientation import Exif, decide
from tlvision.types import IGNORE_INDEX, ClassMap, InputError, LabelMapFile, Sample, counted, empty_target, listing

_THREADS = 8


@dataclass(frozen=True, slots=True, eq=False)
class LabelMapData:
    """A dataset as read.

    path:       the folder of the label maps, or the json that names them.
    images_dir: the folder of the images.
    samples:    one per image, by name.
    classes:    the classes; their source ids are the values in the label maps.
    pixels:     (classes,) int64, how many pixels each class has in all label maps together.
    ignored:    how many pixels are ignored, because nothing is known of them.
    skipped:    notes on skipped data and other remarks, one sentence each.
    bits:       how many bits of 16-bit images are in use; None if it was not given and no image has 16 bits.
    """

    path: Path
    images_dir: Path
    samples: tuple[Sample, ...]
    classes: ClassMap
    pixels: npt.NDArray[np.int64]
    skipped: tuple[str, ...]
    bits: int | None = None
    ignored: int = 0


def read_label_maps(
    images_dir: str | Path,
    masks_dir: str | Path,
    classes: ClassMap,
    values: Mapping[int, int] | None = None,
    *,
    coloured: bool = False,
    exif: Exif = "auto",
    bits: int | None = None,
) -> LabelMapData:
    """Read a folder of images and the label map of the same stem for each; every label map is checked.

    images_dir:       image files, also in folders below.
    masks_dir:        PNGs of the same relative path without the suffix, with one 8-bit value a pixel, or colours.
    classes:          the classes.
    values, coloured: as for `LabelMapFile`; without them the source ids of `classes`, and 255 is unknown.
    exif, bits:       as for `tlvision.formats.coco.read_coco`.

    Raises InputError: a folder that does not exist or holds no image, two images of one stem, an image without label
    map, another size, a value that `values` lacks.
    """
    images_dir, masks_dir = Path(images_dir), Path(masks_dir)
    images = _images_by_stem(images_dir)
    check_folder(masks_dir, "the folder of label maps")
    masks = {stem: masks_dir / f"{stem}.png" for stem in images}
    missing = [stem for stem, path in masks.items() if not path.is_file()]
    if missing:
        raise InputError(
            f"{masks_dir}: {len(missing)} of {len(images)} images have no label map: {listing(missing)}; a label map "
            "is a PNG of the image's name"
        )
    check_inside(images_dir, list(images.values()), str(images_dir))
    check_inside(masks_dir, list(masks.values()), str(masks_dir))
    if values is None:
        values = {IGNORE_INDEX: IGNORE_INDEX} | dict(zip(classes.source_ids, range(len(classes)), strict=True))
    files = [LabelMapFile(path, values, coloured=coloured) for path in masks.values()]
    samples, notes, bits = make_samples(list(images.values()), files, str(images_dir), exif, bits)
    others = sorted(
        str(path.relative_to(masks_dir).with_suffix("")) for path in masks_dir.rglob("*.png") if not path.is_dir()
    )
    left = [stem for stem in others if stem not in images]
    if left:
        notes.append(f"left out {counted(len(left), 'label map')} without image: {listing(left)}")
    pixels, ignored = count_pixels(samples, len(classes))
    notes += absent_classes(classes, pixels)
    return LabelMapData(masks_dir, images_dir, samples, classes, pixels, tuple(notes), bits, ignored)


def make_samples(
    images: Sequence[Path], files: Sequence[LabelMapFile], origin: str, exif: Exif, bits: int | None
) -> tuple[tuple[Sample, ...], list[str], int | None]:
    """Return a sample for each image, ids from 1, notes about them, and the bits in use of 16-bit images.

    exif, bits: as for `tlvision.formats.coco.read_coco`. Raises InputError if an image and its label map differ
    in size.
    """
    headers = read_headers(images, origin)
    sizes = read_headers([file.path for file in files], origin)
    numbers = range(1, len(images) + 1)
    turned = decide(
        dict(zip(numbers, headers, strict=True)),
        {number: (size.width, size.height) for number, size in zip(numbers, sizes, strict=True)},
        {number: path.name for number, path in zip(numbers, images, strict=True)},
        exif=exif,
    )
    bits, bit_notes = choose_bits(images, headers, bits, origin)
    samples = tuple(
        _sample(number, path, header, size, file, exif=turned.applied[number], bits=bits or FULL)
        for number, path, header, size, file in zip(numbers, images, headers, sizes, files, strict=True)
    )
    return samples, [*turned.notes, *bit_notes, *header_notes(images, headers, origin)], bits


def _sample(
    number: int, path: Path, header: Header, label_map: Header, file: LabelMapFile, *, exif: bool, bits: int
) -> Sample:
    size = label_map.width, label_map.height
    if size not in {(header.width, header.height), header.rotated_size}:
        raise InputError(
            f"{file.path}: the label map is {size[0]} x {size[1]}, its image '{path}' {header.width} x "
            f"{header.height}; they must have one size"
        )
    return Sample(
        image_id=number,
        path=path,
        width=size[0],
        height=size[1],
        target=empty_target(),
        segments=(),
        exif=exif,
        bits=bits,
        label_map=file,
    )


def count_pixels(samples: Sequence[Sample], classes: int) -> tuple[npt.NDArray[np.int64], int]:
    """Read every label map once, which checks it; return the pixels of each class and how many are ignored."""

    def count(sample: Sample) -> npt.NDArray[np.int64]:
        assert sample.label_map is not None
        return np.bincount(read_label_map(sample.label_map).ravel(), minlength=IGNORE_INDEX + 1)

    with ThreadPoolExecutor(_THREADS) as pool:
        total: npt.NDArray[np.int64] = sum(pool.map(count, samples), np.zeros(IGNORE_INDEX + 1, np.int64))
    return total[:classes], int(total[IGNORE_INDEX])


def absent_classes(classes: ClassMap, pixels: npt.NDArray[np.int64]) -> tuple[str, ...]:
    """Return a sentence about the classes that have no pixel, if there are any."""
    absent = [name for name, count in zip(classes.names, pixels, strict=True) if count == 0]
    return (f"no pixel of {counted(len(absent), 'class')}: {listing(absent)}",) if absent else ()


def _images_by_stem(folder: Path) -> dict[str, Path]:
    check_folder(folder, "the image folder")
    found: dict[str, Path] = {}
    for path in images_in(folder):
        stem = str(path.relative_to(folder).with_suffix(""))
        if stem in found:
            raise InputError(f"{folder}: '{found[stem].name}' and '{path.name}' share a label map; rename one")
        found[stem] = path
    if not found:
        raise InputError(f"the image folder '{folder}' holds no image ({', '.join(sorted(SUFFIXES))})")
    return found
