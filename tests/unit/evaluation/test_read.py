"""Each wrong file is one sentence that names the file, the entry and what to do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tlvision.evaluation import coco_map, has_masks
from tlvision.types import InputError

NAN = float("nan")
Bend = Callable[[Any], object]
RLE = {"size": [100, 120], "counts": [12000]}

TRUTH_CASES: list[tuple[str, Bend, str]] = [
    ("no images", lambda t: t.pop("images"), "'images' is missing \\(found: annotations, categories"),
    ("no annotations", lambda t: t.pop("annotations"), "'annotations'"),
    ("no categories", lambda t: t.pop("categories"), "'categories'"),
    ("images is an object", lambda t: t.update(images={}), "'images' must be a list of objects"),
    ("annotations hold a number", lambda t: t["annotations"].append(3), "'annotations' must be a list of objects"),
    ("no image at all", lambda t: t.update(images=[], annotations=[]), "'images' is empty"),
    ("no category at all", lambda t: t.update(categories=[], annotations=[]), "'categories' is empty"),
    ("image without id", lambda t: t["images"][1].pop("id"), "image number 2 has 'id' None, expected an integer"),
    ("text as image id", lambda t: t["images"][1].update(id="b"), "image number 2 has 'id' 'b'"),
    ("annotation without id", lambda t: t["annotations"][1].pop("id"), "annotation number 2 has 'id' None"),
    ("annotation id twice", lambda t: t["annotations"][1].update(id=1), "duplicate annotation id 1"),
    ("image id twice", lambda t: t["images"][1].update(id=10), "duplicate image id 10"),
    (
        "one file twice",
        lambda t: [row.update(file_name="a.jpg") for row in t["images"]],
        "more than one row in 'images'",
    ),
    ("category id twice", lambda t: t["categories"][1].update(id=3), "duplicate category id 3"),
    ("category name twice", lambda t: t["categories"][1].update(name="cell"), "duplicate category name cell"),
    ("category without name", lambda t: t["categories"][1].pop("name"), "category 90.*'name'"),
    ("unknown image", lambda t: t["annotations"][1].update(image_id=5), "annotation 2.*image_id 5 is not in.*10, 11"),
    (
        "unknown class",
        lambda t: t["annotations"][1].update(category_id=5),
        "annotation 2.*category_id 5 is not in.*3, 90",
    ),
    ("no box", lambda t: t["annotations"][1].pop("bbox"), "annotation 2.*'bbox' is missing"),
    ("text in a box", lambda t: t["annotations"][1].update(bbox=["0", 0, 1, 1]), "annotation 2.*four numbers"),
    ("three numbers", lambda t: t["annotations"][1].update(bbox=[0, 0, 1]), "annotation 2.*four"),
    ("nan area", lambda t: t["annotations"][1].update(area=NAN), "annotation 2.*'area'.*nan"),
    ("crowd is 2", lambda t: t["annotations"][1].update(iscrowd=2), "annotation 2.*'iscrowd'.*2"),
]

RESULT_CASES: list[tuple[str, Bend, str]] = [
    ("no image id", lambda r: r[1].pop("image_id"), r"result 1 \(image_id missing\).*'image_id' is missing"),
    ("no class", lambda r: r[1].pop("category_id"), r"result 1 \(image_id 10\).*'category_id' is missing"),
    ("no score", lambda r: r[1].pop("score"), "result 1.*'score' is missing"),
    ("no box", lambda r: r[1].pop("bbox"), "result 1.*'bbox' is missing"),
    ("nan box", lambda r: r[1].update(bbox=[0, 0, NAN, 1]), r"result 1 \(image_id 10\).*four finite.*nan"),
    ("infinite box", lambda r: r[1].update(bbox=[0, 0, float("inf"), 1]), "result 1.*four finite"),
    ("a huge integer", lambda r: r[1].update(bbox=[0, 0, 10**400, 1]), "result 1.*four finite"),
    ("negative box", lambda r: r[1].update(bbox=[9, 9, 3, -2]), "result 1.*>= 0.*xywh"),
    ("text in a box", lambda r: r[1].update(bbox=["1", 1, 1, 1]), "result 1.*four finite"),
    ("nan score", lambda r: r[1].update(score=NAN), "result 1.*'score'.*nan"),
    ("score is true", lambda r: r[1].update(score=True), "result 1.*'score'"),
    ("unknown class", lambda r: r[1].update(category_id=4), "result 1.*category_id 4.*gt.json.*3, 90"),
    ("class is a name", lambda r: r[1].update(category_id="cell"), "result 1.*integer 'category_id'.*'cell'"),
    ("image is a name", lambda r: r[1].update(image_id="a.jpg"), "result 1.*integer 'image_id'.*'a.jpg'"),
    ("not an object", lambda r: r.append([1, 2]), "result 2.*JSON object.*list"),
    ("some unknown images", lambda r: r[1].update(image_id=5), r"1 image id.*1 results.*have 5.*has 10, 11"),
    ("no known image", lambda r: [i.update(image_id=7) for i in r], "no image id is in .*have 7.*has 10, 11"),
]


def _cases(cases: list[tuple[str, Bend, str]]) -> list[Any]:
    assert cases
    return [pytest.param(bend, message, id=name) for name, bend, message in cases]


@pytest.mark.parametrize(("bend", "message"), _cases(TRUTH_CASES))
def test_wrong_ground_truth(bend: Bend, message: str, truth: Any, results: Any, write_files: Any) -> None:
    bend(truth)
    with pytest.raises(InputError, match=r"gt\.json.*" + message):
        coco_map(*write_files(truth, results))


@pytest.mark.parametrize(("bend", "message"), _cases(RESULT_CASES))
def test_wrong_predictions(bend: Bend, message: str, truth: Any, results: Any, write_files: Any) -> None:
    bend(results)
    with pytest.raises(InputError, match=r"predictions\.json.*" + message):
        coco_map(*write_files(truth, results))


UNUSABLE = ([0, NAN, 1, 1], [0, 0, -1, 1], [5, 5, 0, 9], [500, 500, 20, 20], [10**400, 0, 5, 5])


@pytest.mark.parametrize("box", UNUSABLE, ids=lambda box: str(box)[:20])
def test_boxes_that_training_skips_are_not_counted_either(box: Any, truth: Any, results: Any, write_files: Any) -> None:
    expected = coco_map(*write_files(truth, results))
    truth["annotations"].append({**truth["annotations"][0], "id": 999, "bbox": box, "iscrowd": None, "area": None})
    metrics = coco_map(*write_files(truth, results))
    assert metrics["bbox"] == expected["bbox"]
    assert metrics["counts"]["unusable"] == 1


@pytest.mark.parametrize("content", ["", "{", "image,box\n", "[1,"])
def test_not_json(content: str, truth: Any, results: Any, write_files: Any) -> None:
    gt, predictions = write_files(truth, results)
    predictions.write_text(content)
    with pytest.raises(InputError, match=r"predictions\.json: not valid JSON"):
        coco_map(gt, predictions)
    gt.write_bytes(b"\xff\xfe\x00" + content.encode())
    with pytest.raises(InputError, match=r"gt\.json: not "):
        coco_map(gt, predictions)


def test_missing_files_and_folders(truth: Any, results: Any, write_files: Any, tmp_path: Path) -> None:
    gt, predictions = write_files(truth, results)
    with pytest.raises(InputError, match=r"nowhere\.json' does not exist"):
        coco_map(tmp_path / "nowhere.json", predictions)
    with pytest.raises(InputError, match="is a folder"):
        coco_map(gt, tmp_path)


def test_files_in_the_wrong_order_are_noticed(truth: Any, results: Any, write_files: Any) -> None:
    gt, predictions = write_files(truth, results)
    with pytest.raises(InputError, match=r"a list of COCO results .*; give the annotation file"):
        coco_map(predictions, gt)
    with pytest.raises(InputError, match="list of COCO results, got an object with the keys annotations, categories"):
        coco_map(gt, gt)


MASKS = (None, [], [[1, 2, 3, 4]], [[1, 2, 3, 4, NAN, 6]], {"size": [9, 9], "counts": [81]}, {"counts": "abc"},
         {"size": [100, 120], "counts": [1]}, {"size": [100, 120], "counts": [12001, -1]},
         {"size": [100, 120], "counts": "garbage"}, {"size": [100, 120], "counts": ""}, "a.png")  # fmt: skip


@pytest.mark.parametrize("mask", MASKS, ids=str)
def test_wrong_masks(mask: Any, truth: Any, results: Any, write_files: Any) -> None:
    for annotation in truth["annotations"]:
        annotation["segmentation"] = RLE
    truth["annotations"][1]["segmentation"] = mask
    with pytest.raises(InputError, match=r"gt\.json, annotation 2: "):
        coco_map(*write_files(truth, results), iou_type="segm")
    truth["annotations"][1]["segmentation"] = RLE
    for result in results:
        result["segmentation"] = mask
    with pytest.raises(InputError, match=r"predictions\.json: result 0 \(image_id 10\): "):
        coco_map(*write_files(truth, results), iou_type="segm")


def test_results_for_masks_need_masks_and_boxes_in_all_or_none(truth: Any, results: Any, write_files: Any) -> None:
    for item in (*truth["annotations"], *results):
        item["segmentation"] = RLE
    del results[1]["segmentation"]
    with pytest.raises(InputError, match=r"result 1 .*'segmentation' is missing"):
        coco_map(*write_files(truth, results), iou_type="segm")
    results[1]["segmentation"] = results[0]["segmentation"]
    del results[1]["bbox"]
    with pytest.raises(InputError, match=r"result 1 .*'bbox' is missing"):
        coco_map(*write_files(truth, results), iou_type="segm")


def test_polygons_need_the_size_of_the_image(truth: Any, results: Any, write_files: Any) -> None:
    for annotation in truth["annotations"]:
        annotation["segmentation"] = [[0, 0, 9, 0, 9, 9]]
    del truth["images"][0]["height"]
    with pytest.raises(InputError, match=r"annotation 1.*'height'"):
        coco_map(*write_files(truth, results), iou_type="segm")


def test_whether_a_file_has_masks(truth: Any, results: Any, write_files: Any, tmp_path: Path) -> None:
    assert [has_masks(path) for path in write_files(truth, results)] == [False, False]
    truth["annotations"][0]["segmentation"] = []
    results[1]["segmentation"] = RLE
    assert [has_masks(path) for path in write_files(truth, results)] == [False, True]
    truth["annotations"][1]["segmentation"] = [[1, 1, 5, 1, 5, 5]]
    assert has_masks(write_files(truth, [])[0])
    for odd in ("[]", "{}", "3", '{"annotations": 3}', "[3]"):
        (tmp_path / "odd.json").write_text(odd)
        assert not has_masks(tmp_path / "odd.json")
    with pytest.raises(InputError, match="nowhere"):
        has_masks(tmp_path / "nowhere.json")
