"""The outer form of a COCO json: is it one, and are its ids and references sound?"""

from __future__ import annotations

import os.path
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath

from tlvision.files.json_input import load_json
from tlvision.formats.coco.plain import all_plain, column
from tlvision.formats.coco.rules import area_problem, crowd_problem
from tlvision.formats.image_headers import nearby
from tlvision.types import InputError, Json, listing
from tlvision.types.shown import clip, has_control, is_encodable, plain
from tlvision.types.shown import shown as clipped


@dataclass(frozen=True, slots=True)
class Document:
    """A COCO json whose ids are unique and whose references resolve.

    name:        file name, for messages.
    images:      rows by image id, in file order; each has a safe relative "file_name" with forward slashes.
    annotations: rows in file order; each has an id, a known image_id and category_id, and a bbox of four numbers.
    categories:  name by category id, in file order.
    notes:       changes made while reading, one sentence each.
    """

    name: str
    images: dict[int, Json]
    annotations: list[Json]
    categories: dict[int, str]
    notes: tuple[str, ...] = ()


def load_document(
    path: Path, *, require_objects: bool, folder: Path | None = None, for_evaluation: bool = False
) -> Document:
    """Read and check a json file; see `Document` for what holds afterwards.

    require_objects: whether a file without any annotation is an error.
    folder:          the image folder, in which a file name that cannot be used is looked for, for the message.
    for_evaluation:  no image file is going to be opened, so file names may be missing or unsafe; the list of
                     annotations may be empty, but not missing. Messages name the whole path.

    Raises InputError, one sentence, with the file and the id in question.
    """
    name = str(path) if for_evaluation else path.name
    if path.is_dir() or path.suffix.lower() in _OTHER_SUFFIXES:
        raise InputError(f"'{path}' is no COCO json; {_CONVERT}")
    content = load_json(path, "a COCO json")
    _check_top_level(name, content, require_annotations=require_objects or for_evaluation)
    images = _unique(name, "image", _rows(name, "images", content))
    if not images:
        raise InputError(f"{name}: 'images' is empty; a dataset needs at least one image")
    notes: list[str] = []
    if not for_evaluation:
        images, notes = _with_slashes(name, images, folder)
    annotations = _unique(name, "annotation", _rows(name, "annotations", content))
    rows = without_empty_roots(_rows(name, "categories", content), used_categories(annotations.values()))
    notes += _dropped_note(name, _rows(name, "categories", content), rows)
    categories = _categories(name, rows)
    if require_objects and not annotations:
        raise InputError(
            f"{name}: 'annotations' is empty, so there is nothing to learn or to evaluate; label some images"
        )
    found = list(annotations.values())
    if not all_plain(found, images, categories):
        for annotation_id, row in annotations.items():
            _check_annotation(f"{name}, annotation {annotation_id}", row, images, categories)
    return Document(name, images, found, categories, tuple(notes))


def load_image_rows(path: Path) -> dict[int, Json]:
    """Return the rows of `images` by id, without reading the rest of the file.

    Raises InputError, one sentence, where there is no such list, it is empty, or an id or a file name is unsound.
    """
    content = load_json(path, "a COCO json")
    if not isinstance(content, dict) or "images" not in content:
        raise InputError(f"{path.name}: expected a json with the key 'images', each with 'id' and 'file_name'")
    images = _unique(path.name, "image", _rows(path.name, "images", content))
    if not images:
        raise InputError(f"{path.name}: 'images' is empty; unlabelled training needs at least one image")
    return _with_slashes(path.name, images)[0]


def _with_slashes(name: str, images: dict[int, Json], folder: Path | None = None) -> tuple[dict[int, Json], list[str]]:
    """Check every file name, and turn the backslashes of names written on Windows into slashes."""
    changed = []
    for image_id, row in images.items():
        _check_file_name(name, image_id, row, folder)
        if "\\" in row["file_name"]:
            changed.append(row["file_name"])
            images[image_id] = {**row, "file_name": row["file_name"].replace("\\", "/")}
    if not changed:
        return images, []
    return images, [f"{name}: {len(changed)} file names have backslashes, read as slashes: {listing(changed, 2)}"]


def used_categories(annotations: Iterable[Json]) -> set[int]:
    """Return the category ids of the annotations, without values that are not integers."""
    numbers = column(list(annotations), "category_id")
    if {*map(type, numbers)} <= {int}:  # the usual case
        return set(numbers)
    return {number for number in numbers if type(number) is int}


def without_empty_roots(categories: list[Json], used: set[int]) -> list[Json]:
    """Return the categories without those that only group others, as Roboflow exports have one.

    Such a root has no annotation, belongs to no category itself, and is the "supercategory" of another one.

    used: ids of the categories that have annotations.
    """
    members = Counter(row["supercategory"] for row in categories if isinstance(row.get("supercategory"), str))

    def is_root(row: Json) -> bool:
        lone = row.get("supercategory") in (None, "", "none")
        sound = isinstance(row.get("name"), str) and is_integer(row.get("id"))
        own = row.get("supercategory") == row.get("name")
        return sound and lone and members[row["name"]] > own and row["id"] not in used

    return [row for row in categories if not is_root(row)]


def _dropped_note(name: str, before: list[Json], after: list[Json]) -> list[str]:
    kept = {id(row) for row in after}
    dropped = [row.get("name") for row in before if id(row) not in kept]
    if not dropped:
        return []
    return [
        f"{name}: the category {listing(dropped)} has no annotation and only groups the others (supercategory), so it "
        "is not a class"
    ]


def _check_top_level(name: str, content: object, *, require_annotations: bool) -> None:
    foreign = _foreign_format(content)
    if foreign:
        remedy = "give the annotation file" if foreign == _RESULTS else _CONVERT
        raise InputError(f"{name}: {foreign}, not a COCO dataset; {remedy}")
    assert isinstance(content, dict)
    wanted = ["images", "categories"] + (["annotations"] if require_annotations else [])
    missing = [key for key in wanted if key not in content]
    if missing:
        raise InputError(
            f"{name}: not a COCO dataset, the key '{missing[0]}' is missing (found: {listing(content) or 'none'})"
        )


def _foreign_format(content: object) -> str:
    """Return the name of the foreign format of a file; empty if it may be a COCO dataset."""
    if isinstance(content, list):
        return _foreign_list(content[0] if content else None)
    if not isinstance(content, dict):
        return f"a bare {type(content).__name__}"
    regions = content and all(isinstance(value, dict) and "regions" in value for value in content.values())
    signs = {
        "a labelme file of one image": "shapes" in content and "imagePath" in content,
        "a VIA (VGG Image Annotator) file": "_via_img_metadata" in content or regions,
        "GeoJSON": content.get("type") == "FeatureCollection",
    }
    return next((words for words, found in signs.items() if found), "")


_RESULTS = "a list of COCO results (predictions)"
_CONVERT = "convert it first: tlvision convert LABELS OUT"
_OTHER_SUFFIXES = frozenset({".yaml", ".yml", ".xml", ".csv", ".txt"})


def _foreign_list(first: object) -> str:
    if isinstance(first, dict) and "score" in first and "category_id" in first:
        return _RESULTS
    if isinstance(first, dict) and "data" in first and ("annotations" in first or "completions" in first):
        return "an export of Label Studio"
    if isinstance(first, dict) and "image_id" in first:
        return "a bare list of annotations without images and categories"
    return "a bare list"


def _rows(name: str, key: str, content: object) -> list[Json]:
    assert isinstance(content, dict)
    value = content.get(key, [])
    if not isinstance(value, list) or not {*map(type, value)} <= {dict}:
        raise InputError(f"{name}: '{key}' must be a list of objects, as COCO has it")
    return value


def is_integer(value: object) -> bool:
    """Return whether a JSON value is an integer; true and false are not."""
    return isinstance(value, int) and not isinstance(value, bool)


_KINDS = {
    str: "a text",
    float: "a number with a decimal point",
    bool: "true or false",
    list: "a list",
    dict: "an object",
}


def shown(value: object) -> str:
    """Return a JSON value for a message, shortened, with its type if the type is wrong.

    >>> shown("7"), shown(7.0), shown(None)
    ("'7' (a text)", '7.0 (a number with a decimal point)', 'None')
    """
    kind = _KINDS.get(type(value))
    return clipped(value, 60) + (f" ({kind})" if kind else "")


def _unique(name: str, what: str, rows: Sequence[Json]) -> dict[int, Json]:
    keys = column(rows, "id")
    found: dict[int, Json] = {}
    if {*map(type, keys)} <= {int}:  # the usual case, without a look at each
        found = dict(zip(keys, rows, strict=True))
        if len(found) == len(rows) and -_LARGEST_ID <= min(keys, default=0) <= max(keys, default=0) <= _LARGEST_ID:
            return found
        found = {}
    twice = []
    for number, row in enumerate(rows):
        key = row.get("id")
        if key is None or not is_integer(key):
            raise InputError(f"{name}: {what} number {number + 1} has 'id' {shown(key)}, expected an integer")
        if abs(key) > _LARGEST_ID:
            raise InputError(f"{name}: {what} number {number + 1} has 'id' {shown(key)}, expected at most 64 bits")
        if key in found:
            twice.append(key)
        found[key] = row
    if twice:
        raise InputError(
            f"{name}: duplicate {what} id {listing(sorted(set(twice)))}. {what.capitalize()} ids must be unique."
        )
    return found


_LARGEST_ID = 2**63 - 1


def _check_file_name(name: str, image_id: int, row: Json, folder: Path | None) -> None:
    file_name = row.get("file_name")
    if not isinstance(file_name, str) or not file_name.strip():
        raise InputError(f"{name}, image {image_id}: 'file_name' must be a text, got {clipped(file_name)}")
    if not is_encodable(file_name):
        raise InputError(f"{name}, image {image_id}: {surrogate_problem('file_name', file_name)}")
    if reason := unsafe_name(file_name):
        where = (
            nearby(folder, file_name)
            if folder is not None and not has_control(file_name) and len(file_name) <= _LONGEST_NAME
            else ""
        )
        raise InputError(
            f"{name}, image {image_id}: the file name '{plain(file_name[:200])}' {reason}; "
            + (where or "make it relative to that folder, for example 'a.png' or 'part/a.png'")
        )
    sides = [row.get("width"), row.get("height")]
    if any(side is not None and (not is_integer(side) or side <= 0) for side in sides):
        raise InputError(f"{name}, image {image_id}: width and height must be positive integers, got {clipped(sides)}")


def surrogate_problem(key: str, text: str) -> str:
    r"""Return problem and remedy of a name that UTF-8 cannot hold (see `is_encodable`).

    key: "name" or "file_name".

    >>> surrogate_problem("name", "\ud83d")
    "half of a surrogate pair in 'name': '\\ud83d'. Write the character itself."
    """
    remedy = "Write the character itself" if key == "name" else "Rename the file, and correct the json"
    return f"half of a surrogate pair in '{key}': {clip(text, 200)!r}. {remedy}."


def unsafe_name(file_name: str) -> str:
    """Return why a file name from a json may not be used; empty if it stays inside its folder.

    >>> unsafe_name("a/b.png"), unsafe_name("a/../../b.png")
    ('', 'leaves the image folder')
    """
    slashed = file_name.replace("\\", "/")
    if has_control(file_name) or len(file_name) > _LONGEST_NAME:
        return "is not a file name"
    normal = os.path.normpath(slashed)
    absolute = PurePosixPath(slashed).is_absolute() or PureWindowsPath(file_name).drive
    if absolute or Path(normal).parts[:1] == ("..",):
        return "leaves the image folder"
    return "is the image folder itself" if normal == "." else ""


_LONGEST_NAME = 1024


def _categories(name: str, categories: list[Json]) -> dict[int, str]:
    rows = _unique(name, "category", categories)
    for category_id, row in rows.items():
        if not isinstance(row.get("name"), str) or not row["name"].strip():
            raise InputError(f"{name}, category {category_id}: 'name' must be a text, got {clipped(row.get('name'))}")
        if not is_encodable(row["name"]):
            raise InputError(f"{name}, category {category_id}: {surrogate_problem('name', row['name'])}")
    twice = [text for text, count in Counter(row["name"] for row in rows.values()).items() if count > 1]
    if twice:
        raise InputError(f"{name}: duplicate category name {listing(twice)}. Category names must be unique.")
    if not rows:
        raise InputError(f"{name}: 'categories' is empty; name at least one class")
    return {category_id: row["name"] for category_id, row in rows.items()}


def _check_annotation(where: str, row: Json, images: Mapping[int, Json], categories: Mapping[int, str]) -> None:
    for key, known in (("image_id", images), ("category_id", categories)):
        value = row.get(key)
        if not is_integer(value) or value not in known:
            raise InputError(
                f"{where}: its {key} {shown(value)} is not in '{'images' if known is images else 'categories'}'"
                + (f" (ids {listing(sorted(known))})" if is_integer(value) else "; ids must be integers")
            )
    box = row.get("bbox")
    if box is None:
        raise InputError(f"{where}: 'bbox' is missing; it must be [x, y, width, height]")
    if not isinstance(box, list) or len(box) != 4 or any(type(number) not in (int, float) for number in box):
        raise InputError(f"{where}: 'bbox' must be four numbers [x, y, width, height], got {clipped(box, 60)}")
    for problem in (crowd_problem(row.get("iscrowd")), area_problem(row.get("area"))):
        if problem:
            raise InputError(f"{where}: {problem}")
