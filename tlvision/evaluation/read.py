"""Read and check the two files of an evaluation: COCO ground truth and a list of COCO results."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from tlvision.files.json_input import load_json
from tlvision.files.memory import no_collection
from tlvision.types import InputError, Json, listing
from tlvision.types.shown import clip, shown

IouType = Literal["bbox", "segm"]

# No coordinate, area or score of a real file comes near it; one comparison keeps out nan, inf and overflow.
_LIMIT = 1e15

# `tlvision.formats.coco` is imported where it is used: importing `tlvision.evaluation` alone stays light.


@dataclass(frozen=True, slots=True)
class GroundTruth:
    """The ground truth of an evaluation, read from a COCO annotation file.

    path:        the file.
    images:      as stored, ids unique.
    categories:  id and name of each, both unique.
    annotations: new dicts with id, image_id, category_id, bbox (x, y, width, height in pixels), area (square pixels),
                 iscrowd (0 or 1) and, for "segm", segmentation. Their ids are 1..n in the order of the file: COCO's
                 matching uses an id as a truth value, so that an id 0 would count as "not matched".
    areas_from_boxes: how many annotations have no `area` in the file and got width * height of their box.
    unusable:    how many annotations are left out because their box has no size, is not finite or lies outside its
                 image: the rules of training (`tlvision.formats.coco.rules.check_boxes`).
    repeated:    how many annotations repeat another one.
    empty_masks: for "segm", how many annotations are left out because their mask has no pixel in the image.
    """

    path: Path
    images: list[Json]
    categories: list[Json]
    annotations: list[Json]
    areas_from_boxes: int
    unusable: int = 0
    repeated: int = 0
    empty_masks: int = 0


@no_collection()
def read_ground_truth(path: str | Path, iou_type: IouType = "bbox") -> GroundTruth:
    """Read and check a COCO annotation file.

    path: a JSON file with the lists "images", "annotations" and "categories"; a missing `iscrowd` means 0.

    Raises InputError that names the file and the list entry or annotation id: not JSON, not COCO, an id missing or
    twice, a class name twice, an unknown image or category, a box that is not four numbers, and, for "segm", a mask
    that is neither polygons nor an RLE of the image's size.
    """
    from tlvision.formats.coco.document import load_document
    from tlvision.formats.coco.duplicates import check_one_row_a_file, repeated_annotations

    path = Path(path)
    document = load_document(path, require_objects=False, for_evaluation=True)
    named = {number: row for number, row in document.images.items() if isinstance(row.get("file_name"), str)}
    check_one_row_a_file(str(path), named)
    usable = _usable(path, document.annotations, document.images)
    annotations: list[Json] = []
    for item in usable:
        annotation = _annotation(len(annotations) + 1, item)
        if iou_type == "segm":
            from tlvision.formats.coco.rle import is_empty
            from tlvision.formats.coco.segments import without_short_polygons

            where, size = f"{path}, annotation {item['id']}", _size(document.images[item["image_id"]])
            mask, _ = without_short_polygons(item.get("segmentation"))
            if is_empty(_checked_mask(where, mask, size, polygons=True), *size):
                continue
            annotation["segmentation"] = mask
        annotations.append(annotation)
    return GroundTruth(
        path,
        list(document.images.values()),
        [{"id": number, "name": name} for number, name in document.categories.items()],
        annotations,
        areas_from_boxes=sum(item.get("area") is None for item in usable),
        unusable=len(document.annotations) - len(usable),
        repeated=len(repeated_annotations(usable)),
        empty_masks=len(usable) - len(annotations),
    )


def _side(value: object) -> float:
    """Return the width or height of an image; a missing size limits nothing."""
    return float(value) if _is_number(value) else _LIMIT  # type: ignore[arg-type]


def _usable(path: Path, annotations: list[Json], images: dict[int, Json]) -> list[Json]:
    """Return the annotations whose boxes may be used; an image without a size in the file bounds nothing.

    Raises InputError if all boxes are fractions of the image size.
    """
    from tlvision.formats.coco.rules import as_floats, check_boxes
    from tlvision.formats.coco.suspicion import suspect_boxes

    known = {number: (_side(image.get("width")), _side(image.get("height"))) for number, image in images.items()}
    sizes = np.array([known[item["image_id"]] for item in annotations], np.float64).reshape(-1, 2)
    xywh = as_floats([item["bbox"] for item in annotations])
    valid = check_boxes(xywh, sizes).valid
    suspect_boxes(xywh[valid], sizes[valid], str(path))
    return [item for item, fine in zip(annotations, valid.tolist(), strict=True) if fine]


@no_collection()
def read_predictions(path: str | Path, truth: GroundTruth, iou_type: IouType = "bbox") -> list[Json]:
    """Read a list of COCO results and return it with the fields that an evaluation adds.

    path:  a JSON list of {"image_id", "category_id", "score", "bbox": [x, y, width, height] in pixels}, or with
           "segmentation" (RLE) in place of or next to "bbox" for "segm". An empty list is fine.
    truth: what `read_ground_truth` returned.

    Returns one new dict per result with id (1..n), iscrowd (0) and area in square pixels: of the box where the results
    have boxes, else of the mask. (So does pycocotools for "segm" as well; leave "bbox" out to have mask areas.)

    Raises InputError that names the file, the position in the list and the image id: not a list, a key missing, an
    unknown image or category id, a box or score that is not finite, a negative width or height.
    """
    path = Path(path)
    content = _load(path)
    if not isinstance(content, list):
        came = f"an object with the keys {listing(sorted(content))}" if isinstance(content, dict) else "something else"
        raise InputError(f"{path}: expected a JSON list of COCO results, got {came}; give the predictions file here")
    with_boxes = iou_type == "bbox" or (bool(content) and isinstance(content[0], dict) and "bbox" in content[0])
    keys = ("image_id", "category_id", "score") + (("bbox",) if with_boxes else ())
    keys += ("segmentation",) if iou_type == "segm" else ()
    if iou_type == "segm" or not _plausible(content):
        for index, item in enumerate(content):
            _check_result(path, index, item, keys)
    # New dicts with these keys only: the evaluator gives meaning to others ("drop", "ignore", ...).
    results = [
        {**{key: item[key] for key in keys}, "id": number, "iscrowd": 0} for number, item in enumerate(content, start=1)
    ]
    _check_known_ids(path, results, truth)
    if iou_type == "segm":
        sizes = {image["id"]: _size(image) for image in truth.images}
        for index, result in enumerate(results):
            mask, size = result["segmentation"], sizes[result["image_id"]]
            result["segmentation"] = _checked_mask(_where_result(path, index, result), mask, size, polygons=False)
    _add_areas(results, with_boxes)
    return results


def has_masks(path: str | Path) -> bool:
    """Return whether anything in a file has a mask: an annotation of a COCO json, or an entry of a results list.

    Raises InputError if the file cannot be read as JSON.
    """
    content = _load(Path(path))
    rows = content.get("annotations") if isinstance(content, dict) else content
    return isinstance(rows, list) and any(isinstance(row, dict) and row.get("segmentation") for row in rows)


def _plausible(content: list[Any]) -> bool:
    """Tell, in a few array operations, whether ids, scores and boxes are certainly valid; if not, check each result."""
    try:
        ids = {type(item[key]) for item in content for key in ("image_id", "category_id")}
        numbers = {type(item["score"]) for item in content}
        scores = np.array([item["score"] for item in content])
        boxes = np.array([item["bbox"] for item in content])
    except (KeyError, TypeError, ValueError):
        return False
    if not (ids <= {int} and numbers <= {int, float} and boxes.dtype.kind in "if" and boxes.shape[1:] == (4,)):
        return False
    return bool((abs(scores) < _LIMIT).all() and (abs(boxes) < _LIMIT).all() and (boxes[:, 2:] >= 0).all())


def _load(path: Path) -> Any:
    return load_json(path, "a COCO json")


def _json_type(value: object) -> str:
    names = {dict: "object", list: "list", str: "string", bool: "boolean", int: "number", float: "number"}
    return names.get(type(value), "null")


def _annotation(number: int, item: Json) -> Json:
    box, area = item["bbox"], item.get("area")
    return {
        "id": number,
        "image_id": item["image_id"],
        "category_id": item["category_id"],
        "bbox": box,
        "area": box[2] * box[3] if area is None else area,
        "iscrowd": int(item.get("iscrowd") or 0),
    }


def _check_result(path: Path, index: int, item: Any, keys: tuple[str, ...]) -> None:
    if not isinstance(item, dict):
        raise InputError(f"{path}: result {index}: expected a JSON object, got a JSON {_json_type(item)}")
    where = _where_result(path, index, item)
    for key in keys:
        if key not in item:
            raise InputError(f"{where}: the key '{key}' is missing; a result needs {', '.join(keys)}")
    for key in ("image_id", "category_id"):
        if type(item[key]) is not int:
            raise InputError(f"{where}: expected an integer '{key}', got {shown(item[key])}")
    if not _is_number(item["score"]):
        raise InputError(f"{where}: expected a finite 'score', got {shown(item['score'])}")
    if "bbox" in keys:
        _check_box(where, item["bbox"])


def _size(image: Json) -> tuple[Any, Any]:
    return image.get("height"), image.get("width")


def _where_result(path: Path, index: int, item: Json) -> str:
    image_id = item.get("image_id", "missing") if isinstance(item, dict) else "missing"
    return f"{path}: result {index} (image_id {clip(str(image_id))})"


def _is_number(value: object) -> bool:
    return type(value) in (int, float) and -_LIMIT < value < _LIMIT  # type: ignore[operator]


def _check_box(where: str, box: Any) -> None:
    if not isinstance(box, list) or len(box) != 4 or not all(map(_is_number, box)):
        raise InputError(f"{where}: expected a 'bbox' of four finite numbers x, y, width, height, got {shown(box)}")
    if box[2] < 0 or box[3] < 0:
        raise InputError(
            f"{where}: expected a 'bbox' with width and height >= 0, got {shown(box)}; COCO boxes are xywh"
        )


def _check_known_ids(path: Path, results: list[Json], truth: GroundTruth) -> None:
    known = {image["id"] for image in truth.images}
    unknown = sorted({result["image_id"] for result in results} - known)
    if unknown:
        lost = sum(result["image_id"] not in known for result in results)
        every = lost == len(results)
        what = "no image id is in" if every else f"{len(unknown)} image id(s), with {lost} results, are not in"
        raise InputError(
            f"{path}: {what} {truth.path}: the predictions have {listing(unknown, 3)}, the ground truth has "
            f"{listing(sorted(known), 3)}; evaluate against the json that was predicted on"
        )
    categories = {category["id"] for category in truth.categories}
    for index, result in enumerate(results):
        if result["category_id"] not in categories:
            lost = sum(other["category_id"] not in categories for other in results)
            raise InputError(
                f"{_where_result(path, index, result)}: unknown category_id {result['category_id']} (so in {lost} "
                f"results); {truth.path} has the category ids {listing(sorted(categories))}"
            )


def _checked_mask(where: str, mask: Any, size: tuple[Any, Any], *, polygons: bool) -> Any:
    """Return the mask as `tlvision.formats.coco` reads it, an RLE in the compressed form."""
    # Imported here, because boxes alone need none of it.
    from tlvision.formats.coco.rle import parse_segmentation

    if type(size[0]) is not int or type(size[1]) is not int:
        raise InputError(
            f"{where}: its image needs an integer 'height' and 'width' to compare masks, got {shown(size)}"
        )
    wanted = "polygons or a run-length mask" if polygons else "a run-length mask"
    if not mask or not isinstance(mask, (dict, list) if polygons else dict):
        raise InputError(f"{where}: expected a 'segmentation' with {wanted}, got {shown(mask)}")
    return parse_segmentation(mask, size[0], size[1], where)


def _add_areas(results: list[Json], with_boxes: bool) -> None:
    if with_boxes:
        for result in results:
            result["area"] = result["bbox"][2] * result["bbox"][3]
    elif results:
        from faster_coco_eval import mask as rle

        masks = [result["segmentation"] for result in results]
        for result, area, box in zip(results, rle.area(masks), rle.toBbox(masks), strict=True):
            result["area"] = float(area)
            result["bbox"] = [float(value) for value in box]
