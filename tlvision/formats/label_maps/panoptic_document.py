"""Check the form of a COCO panoptic json: types, unique ids, references, and file names that stay in their folder."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tlvision.files.json_input import load_json
from tlvision.formats.coco.document import surrogate_problem, unsafe_name
from tlvision.types import InputError, Json, listing
from tlvision.types.shown import is_encodable, shown

_LARGEST_SEGMENT = 256**3 - 1
_FIELDS = {
    "images": ("id", "file_name"),
    "annotations": ("image_id", "file_name", "segments_info"),
    "categories": ("id", "name"),
}


@dataclass(frozen=True, slots=True)
class Segment:
    """One segment of a PNG: its id (the colour), its category, and whether it is a crowd."""

    id: int
    category_id: int
    crowd: bool


@dataclass(frozen=True, slots=True)
class Drawing:
    """The PNG of one image, and its segments."""

    image_id: int
    file_name: str
    segments: tuple[Segment, ...]


@dataclass(frozen=True, slots=True)
class PanopticDocument:
    """A panoptic json whose ids are unique and whose references resolve.

    images:     file name by image id; relative, with forward slashes, never outside of its folder.
    drawings:   one per annotation; at most one an image, and no two with one PNG.
    categories: name by id, sorted by id.
    """

    images: dict[int, str]
    drawings: tuple[Drawing, ...]
    categories: dict[int, str]


def load_panoptic(path: Path) -> PanopticDocument:
    """Read and check a panoptic json; segments may still have an unknown category.

    Raises InputError, one sentence with the file and the id or the row in question.
    """
    content = load_json(path, "a COCO panoptic json")
    tables = {key: _rows(path, content, key) for key in _FIELDS}
    images = {
        _integer(f"{path}: images[{n}]", row, "id"): _file_name(f"{path}: images[{n}]", row)
        for n, row in enumerate(tables["images"])
    }
    _unique(path, "image id", (row["id"] for row in tables["images"]))
    _unique(path, "file name in 'images'", (Path(name).as_posix() for name in images.values()))
    categories = {
        _integer(f"{path}: categories[{n}]", row, "id"): _name(f"{path}: categories[{n}]", row)
        for n, row in enumerate(tables["categories"])
    }
    _unique(path, "category id", (row["id"] for row in tables["categories"]))
    _unique(path, "category name", categories.values())
    drawings = tuple(_drawing(path, n, row) for n, row in enumerate(tables["annotations"]))
    unknown = [drawing.image_id for drawing in drawings if drawing.image_id not in images]
    if unknown:
        raise InputError(f"{path}: the annotation of image {unknown[0]} names an image that is not in the file")
    _unique(path, "image_id in 'annotations'", (drawing.image_id for drawing in drawings))
    _unique(path, "file name in 'annotations'", (Path(drawing.file_name).as_posix() for drawing in drawings))
    return PanopticDocument(images, drawings, dict(sorted(categories.items())))


def _rows(path: Path, content: object, key: str) -> list[Json]:
    rows = content.get(key) if isinstance(content, dict) else None
    if not isinstance(rows, list) or not rows:
        raise InputError(f"{path}: expected a COCO panoptic json with the list '{key}'")
    for number, row in enumerate(rows):
        missing = [field for field in _FIELDS[key] if not isinstance(row, dict) or field not in row]
        if missing:
            raise InputError(f"{path}: {key}[{number}] lacks {', '.join(missing)}; is this a panoptic json?")
    return rows


def _drawing(path: Path, number: int, row: Json) -> Drawing:
    where = f"{path}: annotations[{number}]"
    image_id = _integer(where, row, "image_id")
    where = f"{path}: image {shown(image_id)}"
    infos = row["segments_info"]
    if not isinstance(infos, list):
        raise InputError(f"{where}: 'segments_info' must be a list, got {shown(infos)}")
    segments = tuple(_segment(f"{where}: segments_info[{n}]", info) for n, info in enumerate(infos))
    _unique(path, f"segment id of image {shown(image_id)}", (segment.id for segment in segments))
    return Drawing(image_id, _file_name(where, row), segments)


def _segment(where: str, info: object) -> Segment:
    if not isinstance(info, dict):
        raise InputError(f"{where}: expected an object with 'id' and 'category_id', got {shown(info)}")
    segment_id = _integer(where, info, "id")
    if not 0 < segment_id <= _LARGEST_SEGMENT:
        raise InputError(
            f"{where}: the segment id {shown(segment_id)} is no colour. Expected 1 to {_LARGEST_SEGMENT}; "
            "0 is for pixels without a segment."
        )
    crowd = info.get("iscrowd", 0)
    if crowd is not None and (isinstance(crowd, bool) or crowd not in (0, 1)):
        raise InputError(f"{where}: 'iscrowd' must be 0 or 1, got {shown(crowd)}")
    return Segment(segment_id, _integer(where, info, "category_id"), bool(crowd))


def _integer(where: str, row: Json, key: str) -> int:
    value = row.get(key)
    if type(value) is not int:
        raise InputError(f"{where}: '{key}' must be an integer, got {shown(value)}")
    return value


def _name(where: str, row: Json) -> str:
    name = row["name"]
    if not isinstance(name, str) or not name.strip():
        raise InputError(f"{where}: 'name' must be a text, got {shown(name)}")
    if not is_encodable(name):
        raise InputError(f"{where}: {surrogate_problem('name', name)}")
    return name


def _file_name(where: str, row: Json) -> str:
    """Return the file name with forward slashes."""
    name = row["file_name"]
    if not isinstance(name, str):
        raise InputError(f"{where}: 'file_name' must be a text, got {shown(name)}")
    if not is_encodable(name):
        raise InputError(f"{where}: {surrogate_problem('file_name', name)}")
    if problem := unsafe_name(name) if name.strip() else "is empty":
        raise InputError(
            f"{where}: the file name {shown(name)} {problem}. Make it relative to that folder, such as 'a.png' or "
            "'part/a.png'."
        )
    return name.replace("\\", "/")


def _unique(path: Path, what: str, values: Iterable[Any], show: Callable[[object], str] = shown) -> None:
    known: set[Any] = set()
    twice: dict[Any, None] = {}
    for value in values:
        if value in known:
            twice[value] = None
        known.add(value)
    if twice:
        raise InputError(f"{path}: the {what} {listing(map(show, twice))} is given more than once. Keep one of each.")
