"""The outer form of a COCO json: is it one, and are its ids and references sound?"""

from __future__ import annotations

import json
import os.path
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from tlvision.types import InputError, listing

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Document:
    """A COCO json whose ids are unique and whose references resolve.

    name:        file name, for messages.
    images:      rows by image id, in file order; each has a safe relative "file_name".
    annotations: rows in file order; each has an id, a known image_id and category_id, and a bbox of four numbers.
    categories:  name by category id, in file order.
    """

    name: str
    images: dict[int, Row]
    annotations: list[Row]
    categories: dict[int, str]


def load_document(path: Path, *, require_objects: bool) -> Document:
    """Read and check a json file; see `Document` for what holds afterwards.

    require_objects: whether a file without any annotation is an error.

    Raises InputError, one sentence, with the file and the id in question.
    """
    name = path.name
    content = _load_json(path)
    _check_top_level(name, content, require_objects)
    images = _unique(name, "image", _rows(name, "images", content))
    if not images:
        raise InputError(f"{name}: 'images' is empty; a dataset needs at least one image")
    for image_id, row in images.items():
        _check_file_name(name, image_id, row)
    categories = _categories(name, content)
    annotations = _unique(name, "annotation", _rows(name, "annotations", content))
    if require_objects and not annotations:
        raise InputError(
            f"{name}: 'annotations' is empty, so there is nothing to learn or to evaluate; label some images"
        )
    for annotation_id, row in annotations.items():
        _check_annotation(f"{name}, annotation {annotation_id}", row, images, categories)
    return Document(name, images, list(annotations.values()), categories)


def load_image_rows(path: Path) -> dict[int, Row]:
    """Return the rows of `images` by id, and look at nothing else in the file.

    Raises InputError, one sentence, where there is no such list, it is empty, or an id or a file name is unsound.
    """
    content = _load_json(path)
    if not isinstance(content, dict) or "images" not in content:
        raise InputError(f"{path.name}: expected a json with the key 'images', each with 'id' and 'file_name'")
    images = _unique(path.name, "image", _rows(path.name, "images", content))
    if not images:
        raise InputError(f"{path.name}: 'images' is empty; unlabelled training needs at least one image")
    for image_id, row in images.items():
        _check_file_name(path.name, image_id, row)
    return images


def _load_json(path: Path) -> object:
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise InputError(f"'{path}' does not exist; give the path of a COCO json") from None
    except json.JSONDecodeError as error:
        raise InputError(
            f"{path.name}: not valid JSON at line {error.lineno}, column {error.colno} ({error.msg}); write it again"
        ) from None
    except UnicodeDecodeError:
        raise InputError(f"{path.name}: not a text file in UTF-8, so not a COCO json") from None
    except OSError as error:
        raise InputError(f"'{path}' cannot be read ({error.strerror}); give the path of a COCO json") from None


def _check_top_level(name: str, content: object, require_objects: bool) -> None:
    foreign = _foreign_format(content)
    if foreign:
        raise InputError(f"{name}: {foreign}, not a COCO dataset; convert it to COCO json first")
    assert isinstance(content, dict)
    wanted = ["images", "categories"] + (["annotations"] if require_objects else [])
    missing = [key for key in wanted if key not in content]
    if missing:
        raise InputError(
            f"{name}: not a COCO dataset, the key '{missing[0]}' is missing (found: {listing(content) or 'none'})"
        )


def _foreign_format(content: object) -> str:
    """Say what a file is that is certainly not a COCO dataset; empty where it may be one."""
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


def _foreign_list(first: object) -> str:
    if isinstance(first, dict) and "score" in first and "category_id" in first:
        return "a list of COCO results (predictions)"
    if isinstance(first, dict) and "image_id" in first:
        return "a bare list of annotations without images and categories"
    return "a bare list"


def _rows(name: str, key: str, content: object) -> list[Row]:
    assert isinstance(content, dict)
    value = content.get(key, [])
    if not isinstance(value, list) or any(not isinstance(row, dict) for row in value):
        raise InputError(f"{name}: '{key}' must be a list of objects, as COCO has it")
    return value


def is_integer(value: object) -> bool:
    """Say whether a JSON value is an integer; true and false are not."""
    return isinstance(value, int) and not isinstance(value, bool)


def _unique(name: str, what: str, rows: Iterable[Row]) -> dict[int, Row]:
    found: dict[int, Row] = {}
    twice = []
    for number, row in enumerate(rows):
        key = row.get("id")
        if key is None or not is_integer(key):
            raise InputError(f"{name}: {what} number {number + 1} has 'id' {key!r}, expected an integer")
        if key in found:
            twice.append(key)
        found[key] = row
    if twice:
        raise InputError(f"{name}: {what} id {listing(sorted(set(twice)))} stands more than once; make ids unique")
    return found


def _check_file_name(name: str, image_id: int, row: Row) -> None:
    file_name = row.get("file_name")
    if not isinstance(file_name, str) or not file_name:
        raise InputError(f"{name}, image {image_id}: 'file_name' must be a text, got {file_name!r}")
    absolute = PurePosixPath(file_name).is_absolute() or PureWindowsPath(file_name).drive
    if absolute or Path(os.path.normpath(file_name)).parts[0] == "..":
        raise InputError(
            f"{name}, image {image_id}: the file name '{file_name}' leaves the image folder; "
            "make it relative to that folder"
        )
    sides = [row.get("width"), row.get("height")]
    if any(side is not None and (not is_integer(side) or side <= 0) for side in sides):
        raise InputError(f"{name}, image {image_id}: width and height must be positive integers, got {sides}")


def _categories(name: str, content: object) -> dict[int, str]:
    rows = _unique(name, "category", _rows(name, "categories", content))
    for category_id, row in rows.items():
        if not isinstance(row.get("name"), str) or not row["name"].strip():
            raise InputError(f"{name}, category {category_id}: 'name' must be a text, got {row.get('name')!r}")
    twice = [text for text, count in Counter(row["name"] for row in rows.values()).items() if count > 1]
    if twice:
        raise InputError(f"{name}: category name {listing(twice)} stands more than once; make names unique")
    if not rows:
        raise InputError(f"{name}: 'categories' is empty; name at least one class")
    return {category_id: row["name"] for category_id, row in rows.items()}


def _check_annotation(where: str, row: Row, images: Mapping[int, Row], categories: Mapping[int, str]) -> None:
    for key, known in (("image_id", images), ("category_id", categories)):
        value = row.get(key)
        if not is_integer(value) or value not in known:
            raise InputError(
                f"{where}: its {key} {value!r} is not in '{'images' if known is images else 'categories'}'"
            )
    box = row.get("bbox")
    if box is None:
        raise InputError(f"{where}: 'bbox' is missing; it must be [x, y, width, height]")
    if not isinstance(box, list) or len(box) != 4 or any(type(number) not in (int, float) for number in box):
        raise InputError(f"{where}: 'bbox' must be four numbers [x, y, width, height], got {box!r:.60}")
    if row.get("iscrowd", 0) not in (0, 1):
        raise InputError(f"{where}: 'iscrowd' must be 0 or 1, got {row['iscrowd']!r}")
