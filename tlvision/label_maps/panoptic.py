"""COCO's panoptic format as label maps: a json that names PNGs, and in it what each coloured segment is.

Format: https://cocodataset.org/#format-data, "Panoptic Segmentation". Things and stuff are classes alike; which object
a pixel belongs to is dropped. Crowd segments are IGNORE_INDEX, and so is the value 0, which no segment has.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tlvision.coco.orientation import Exif
from tlvision.label_maps.folder import LabelMapData, absent_classes, count_pixels, make_samples
from tlvision.types import IGNORE_INDEX, ClassMap, InputError, LabelMapFile


def read_panoptic(
    json_path: str | Path,
    images_dir: str | Path,
    masks_dir: str | Path,
    classes: ClassMap | None = None,
    *,
    exif: Exif = "auto",
    bits: int | None = None,
) -> LabelMapData:
    """Read a COCO panoptic json, its images and its PNGs; every label map is checked.

    classes: those of another file (a val json is read with the train json's), matched by name; segments of others are
             an error. Without it they are this file's categories, by id.
    exif, bits: as for `tlvision.coco.read_coco`.

    Raises InputError with file and image id: not a panoptic json, an unknown image or category, a file that is absent
    or of another size, a segment in a PNG that the json does not list.
    """
    path, images_dir, masks_dir = Path(json_path), Path(images_dir), Path(masks_dir)
    content = _load(path)
    categories = {row["id"]: str(row["name"]) for row in sorted(content["categories"], key=lambda row: row["id"])}
    classes = classes or ClassMap(tuple(categories.values()), tuple(categories))
    images = {row["id"]: images_dir / row["file_name"] for row in content["images"]}
    rows = content["annotations"]
    unknown = [row["image_id"] for row in rows if row["image_id"] not in images]
    if unknown:
        raise InputError(f"{path}: the annotation of image {unknown[0]} names an image that is not in the file")
    files = [
        LabelMapFile(masks_dir / row["file_name"], _values(path, row, categories, classes), coloured=True)
        for row in rows
    ]
    samples, notes, bits = make_samples([images[row["image_id"]] for row in rows], files, path.name, exif, bits)
    pixels, ignored = count_pixels(samples, len(classes))
    if len(rows) < len(images):
        notes.append(f"{len(images) - len(rows)} images have no annotation and are left out")
    notes += absent_classes(classes, pixels)
    return LabelMapData(path, images_dir, samples, classes, pixels, tuple(notes), bits, ignored)


def _values(path: Path, row: dict[str, Any], categories: dict[int, str], classes: ClassMap) -> dict[int, int]:
    values = {0: IGNORE_INDEX}
    for segment in row["segments_info"]:
        name = categories.get(segment["category_id"])
        if name is None:
            raise InputError(
                f"{path}: image {row['image_id']}, segment {segment['id']}: the category {segment['category_id']} is "
                "not in the file"
            )
        values[segment["id"]] = IGNORE_INDEX if segment.get("iscrowd") else classes.index(name)
    return values


def _load(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise InputError(f"{path}: expected a COCO panoptic json, got '{error.strerror}'; check the path") from None
    except ValueError as error:
        raise InputError(f"{path}: expected JSON, got something else ({error})") from None
    wanted = {
        "images": {"id", "file_name"},
        "annotations": {"image_id", "file_name", "segments_info"},
        "categories": {"id", "name"},
    }
    for key, fields in wanted.items():
        rows = content.get(key) if isinstance(content, dict) else None
        if not isinstance(rows, list) or not rows:
            raise InputError(f"{path}: expected a COCO panoptic json with the list '{key}'")
        for number, row in enumerate(rows):
            missing = sorted(fields - set(row)) if isinstance(row, dict) else sorted(fields)
            if missing:
                raise InputError(f"{path}: {key}[{number}] lacks {', '.join(missing)}; is this a panoptic json?")
    found: dict[str, Any] = content
    return found
