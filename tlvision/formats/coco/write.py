"""From our types back to COCO json: predictions, and whole datasets."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tlvision.files.json_files import write_json
from tlvision.formats.coco.class_changes import change_classes
from tlvision.formats.coco.document import load_document
from tlvision.formats.coco.read import CocoData
from tlvision.formats.coco.rle import mask_area, mask_to_rle, polygons_to_rle
from tlvision.formats.coco.rules import box_area, xyxy_to_xywh
from tlvision.types import ClassMap, InputError, Json, Polygons, Prediction, Rle, Sample, listing


@dataclass(frozen=True, slots=True)
class Written:
    """Results of `write_predictions`.

    detections: number of detections in the file.
    left_out:   class index -> number of detections of a class that the ground-truth json does not have. They have no
                category id to be written with, and COCO's AP does not count a class without annotations.
    """

    detections: int
    left_out: dict[int, int]


def write_predictions(
    path: str | Path, items: Iterable[tuple[int, Prediction]], category_ids: Mapping[int, int]
) -> Written:
    """Write detections in COCO's results format, whole or not at all.

    path:         the file to write; it appears only once it is complete.
    items:        image id (of the ground-truth json) and its prediction: numpy arrays in pixels of the original image.
    category_ids: contiguous class index -> category id of the ground-truth json (`CocoData.category_ids`).

    Floats are written with the digits that float32 needs and no more; masks as run lengths. Detections of a class
    that `category_ids` lacks are left out and counted in the result. Raises RunError if the file cannot be written.
    """
    rows: list[Json] = []
    left_out: Counter[int] = Counter()
    for image_id, prediction in items:
        some, others = result_rows(image_id, prediction, category_ids)
        rows += some
        left_out += others
    write_json(path, rows)
    return Written(len(rows), dict(left_out))


def result_rows(
    image_id: int, prediction: Prediction, category_ids: Mapping[int, int]
) -> tuple[list[Json], Counter[int]]:
    """Return the rows of one image in COCO's results format, and how many detections of which class are left out.

    image_id:     id of the image in the ground-truth json.
    prediction:   numpy arrays in pixels of the original image. Masks become run lengths here, a few hundred bytes
                  each: whoever goes through a dataset keeps these rows, never the masks.
    category_ids: contiguous class index -> category id; a detection of another class is left out.

    >>> found = Prediction(
    ...     boxes=np.array([[1, 2, 4, 4]], np.float32), scores=np.array([0.5], np.float32), labels=np.array([0])
    ... )
    >>> result_rows(7, found, {0: 90})[0]
    [{'image_id': 7, 'category_id': 90, 'bbox': [1.0, 2.0, 3.0, 2.0], 'score': 0.5}]
    """
    boxes = shortest_floats(xyxy_to_xywh(prediction.boxes))
    scores = shortest_floats(prediction.scores)
    rows: list[Json] = []
    left_out: Counter[int] = Counter()
    for index, label in enumerate(np.asarray(prediction.labels).tolist()):
        if label not in category_ids:
            left_out[label] += 1
            continue
        row = {
            "image_id": int(image_id),
            "category_id": int(category_ids[label]),
            "bbox": boxes[index],
            "score": scores[index],
        }
        if prediction.masks is not None:
            row["segmentation"] = rle_to_json(mask_to_rle(prediction.masks[index]))
        rows.append(row)
    return rows, left_out


def write_dataset(
    path: str | Path,
    samples: Sequence[Sample],
    classes: ClassMap,
    description: str,
    *,
    images_dir: str | Path | None = None,
) -> None:
    """Write samples as an ordinary COCO json that `read_coco` and everyone else can read.

    path:        the file to write; it appears only once it is complete. The images are not copied.
    samples:     image ids must differ; annotation ids are given from 1 on, in order.
    classes:     categories of the file, with `classes.source_ids` as their ids.
    description: one line that goes to "info".
    images_dir:  what "file_name" is relative to; without it, file names only, which must then differ.

    Raises InputError for double image ids or file names, or an image outside `images_dir`; RunError if the file
    cannot be written.
    """
    images = [
        {"id": sample.image_id, "file_name": name, "width": sample.width, "height": sample.height}
        for sample, name in zip(samples, _file_names(samples, images_dir), strict=True)
    ]
    annotations: list[dict[str, Any]] = []
    for sample in samples:
        annotations.extend(_annotations(sample, classes, first_id=len(annotations) + 1))
    categories = [
        {"id": source_id, "name": name, "supercategory": ""}
        for source_id, name in zip(classes.source_ids, classes.names, strict=True)
    ]
    info = {"description": description}
    write_json(path, {"info": info, "images": images, "annotations": annotations, "categories": categories})


def _file_names(samples: Sequence[Sample], images_dir: str | Path | None) -> list[str]:
    names = []
    for sample in samples:
        if images_dir is None:
            names.append(sample.path.name)
        elif sample.path.resolve().is_relative_to(Path(images_dir).resolve()):
            names.append(sample.path.resolve().relative_to(Path(images_dir).resolve()).as_posix())
        else:
            raise InputError(f"image {sample.image_id}: '{sample.path}' is not in the image folder '{images_dir}'")
    _all_differ("image id", [sample.image_id for sample in samples])
    _all_differ("file name", names)
    return names


def _all_differ(what: str, values: Sequence[object]) -> None:
    twice = [value for value, count in Counter(values).items() if count > 1]
    if twice:
        raise InputError(f"samples: {what} {listing(twice)} is used for more than one image. Make it unique.")


def _annotations(sample: Sample, classes: ClassMap, first_id: int) -> list[dict[str, Any]]:
    boxes = shortest_floats(xyxy_to_xywh(sample.target.boxes))
    areas = box_area(sample.target.boxes).tolist()
    rows = []
    for index, segment in enumerate(sample.segments):
        label = int(sample.target.labels[index])
        if not 0 <= label < len(classes):
            raise InputError(f"image {sample.image_id}: class index {label} is not one of the {len(classes)} classes")
        row = {
            "id": first_id + index,
            "image_id": sample.image_id,
            "category_id": classes.source_ids[label],
            "bbox": boxes[index],
            "area": areas[index],
            "iscrowd": int(sample.target.crowd[index]),
        }
        if segment is not None:
            row["segmentation"] = _segment_to_json(segment)
            row["area"] = mask_area(_as_rle(segment, sample))
        rows.append(row)
    return rows


def _as_rle(segment: Polygons | Rle, sample: Sample) -> Rle:
    return segment if isinstance(segment, dict) else polygons_to_rle(segment, sample.height, sample.width)


def _segment_to_json(segment: Polygons | Rle) -> object:
    if isinstance(segment, dict):
        return rle_to_json(segment)
    return [shortest_floats(part.ravel()) for part in segment]


def write_used(data: CocoData, path: str | Path) -> None:
    """Copy the json of a dataset as it was read: its images, classes and usable annotations; ids stay.

    Raises InputError if the json is no COCO dataset any more, RunError if `path` cannot be written.
    """
    document = change_classes(load_document(data.path, require_objects=False), data.changes, strict=False)
    kept = {category_id for category_id, name in document.categories.items() if name in data.classes.names}
    images = document.images if data.kept is None else {number: document.images[number] for number in data.kept}
    write_json(
        path,
        {
            "images": [row for number, row in document.images.items() if number in images],
            "annotations": [
                row
                for row in document.annotations
                if row["category_id"] in kept and row["id"] not in data.unusable and row["image_id"] in images
            ],
            "categories": [
                {"id": category_id, "name": document.categories[category_id]} for category_id in sorted(kept)
            ],
        },
    )


def rle_to_json(rle: Rle) -> dict[str, Any]:
    """Return the run-length mask with its counts as text, for a JSON file."""
    return {"size": list(rle["size"]), "counts": rle["counts"].decode("ascii")}


def shortest_floats(values: npt.ArrayLike) -> Any:
    """Return nested lists of floats with the fewest digits that give the same float32 back.

    >>> shortest_floats(np.array([0.1, 2.5], np.float32))
    [0.1, 2.5]
    """
    # Through text on purpose: float(np.float32(0.1)) is 0.10000000149011612, three times as long in the file.
    return np.asarray(values, np.float32).astype(str).astype(np.float64).tolist()
