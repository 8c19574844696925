"""Images of a COCO json that a correction removes: unreadable, repeated, or shared with validation."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from tlvision.data.images import read_image
from tlvision.formats.coco.document import is_integer
from tlvision.formats.coco.duplicates import same_content
from tlvision.formats.image_headers import read_header
from tlvision.types import InputError, Json


def readable(path: Path) -> bool:
    """Return whether a file is there and can be decoded to its end."""
    try:
        header = read_header(path)
        read_image(path, header.width, header.height, exif=False)
    except (InputError, OSError):
        return False
    return True


def repeated_images(
    kept: Mapping[int, Json], files: Mapping[int, Path], annotations: Sequence[Json]
) -> list[tuple[int, int, bool]]:
    """Return images with the content of an earlier one: its id, the id of the first, and whether the labels are equal.

    Several rows that name one file count as images with the same content.
    """
    numbers = _by_path(kept, files)
    present = [path for path in numbers if path.is_file()]
    first_of = dict(same_content(present, present))
    labels = _labels(annotations, kept)
    found = []
    for path in present:
        first = numbers[first_of[path]][0]
        found += [(number, first, labels[number] == labels[first]) for number in numbers[path] if number != first]
    return sorted(found)


def shared_images(kept: Mapping[int, Json], files: Mapping[int, Path], others: Iterable[Path]) -> list[int]:
    """Return the ids of images that have the content of one of the other files."""
    numbers = _by_path(kept, files)
    pairs = same_content([path for path in numbers if path.is_file()], [path for path in others if path.is_file()])
    return sorted(number for path, _ in pairs for number in numbers[path])


def _by_path(kept: Mapping[int, Json], files: Mapping[int, Path]) -> dict[Path, list[int]]:
    numbers: dict[Path, list[int]] = {}
    for number in kept:
        numbers.setdefault(files[number], []).append(number)
    return numbers


def _labels(annotations: Sequence[Json], kept: Mapping[int, Json]) -> dict[int, list[str]]:
    """Return class, box, mask and crowd of the annotations of each image, in an order of their own."""
    found: dict[int, list[str]] = {number: [] for number in kept}
    for row in annotations:
        image = row.get("image_id")
        if is_integer(image) and image in found:
            key = [row.get("category_id"), row.get("bbox"), row.get("segmentation"), bool(row.get("iscrowd"))]
            found[image].append(repr(key))
    return {number: sorted(rows) for number, rows in found.items()}
