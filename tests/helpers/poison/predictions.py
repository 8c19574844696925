"""Files of predictions, and ground truth, that an evaluation is given."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from poison.dataset import HUGE, INF, NAN, NESTED, Build, Case, coco, document, evaluate, put

Rows = list[dict[str, Any]]
WHOLE = {"size": [24, 40], "counts": [100, 100, 760]}


def rows() -> Rows:
    """Return predictions that find every object."""
    keys = ("image_id", "category_id", "bbox")
    found = document()["annotations"]
    return [{key: row[key] for key in keys} | {"score": 0.9, "segmentation": WHOLE} for row in found]


def predictions(content: object = None, *, truth: Build | None = None, data: bytes = b"") -> Build:
    """Return a builder of labels.json and predictions.json."""

    def build(folder: Path) -> None:
        (truth or coco())(folder)
        text = re.sub(f'"{NESTED}"', "[" * 900 + "]" * 900, json.dumps(rows() if content is None else content))
        (folder / "predictions.json").write_bytes(data or text.encode())

    return build


def first(**values: object) -> Build:
    """Return a builder in which the second prediction has other values; a value of Ellipsis removes the key."""
    found = rows()
    found[1] = {key: value for key, value in {**found[1], **values}.items() if value is not ...}
    return predictions(found)


ROW = "predictions.json: result 1 (image_id 2): "
REFUSED: list[tuple[str, Build, str]] = [
    ("nothing", predictions(data=b" "), "predictions.json: not valid JSON"),
    ("an object", predictions({"a": 1}), "predictions.json: expected a JSON list of COCO results, got an object with"),
    ("the ground truth", predictions(document()), "predictions.json: expected a JSON list of COCO results, got an obj"),
    ("a number", predictions(7), "predictions.json: expected a JSON list of COCO results, got something else"),
    ("100,000 lists", predictions(data=b"[" * 100_000), "predictions.json: nested too deeply"),
    ("a list of numbers", predictions([1, 2]), "predictions.json: result 0: expected a JSON object, got a JSON number"),
    ("null in the list", predictions([*rows(), None]), "predictions.json: result 6: expected a JSON object, got a JSO"),
    ("no score", first(score=...), f"{ROW}the key 'score' is missing"),
    ("no box", first(bbox=...), f"{ROW}the key 'bbox' is missing"),
    ("no image", first(image_id=...), "predictions.json: result 1 (image_id missing): the key 'image_id' is missing"),
    ("a score of nan", first(score=NAN), f"{ROW}expected a finite 'score', got nan"),
    ("a score of infinity", first(score=INF), f"{ROW}expected a finite 'score', got inf"),
    ("a score of 400 digits", first(score=HUGE), f"{ROW}expected a finite 'score', got 1000"),
    ("a score of text", first(score="0.9"), f"{ROW}expected a finite 'score', got '0.9'"),
    ("a score of 900 lists", first(score=NESTED), f"{ROW}expected a finite 'score', got [[["),
    ("nan in a box", first(bbox=[NAN, 1, 2, 3]), f"{ROW}expected a 'bbox' of four finite numbers"),
    ("400 digits in a box", first(bbox=[HUGE, 1, 2, 3]), f"{ROW}expected a 'bbox' of four finite numbers"),
    ("a box of 900 lists", first(bbox=NESTED), f"{ROW}expected a 'bbox' of four finite numbers"),
    ("a box of corners", first(bbox=[9, 9, -3, 2]), f"{ROW}expected a 'bbox' with width and height >= 0"),
    ("a class of text", first(category_id="bolt"), f"{ROW}expected an integer 'category_id', got 'bolt'"),
    ("a class that is not in the ground truth", first(category_id=4), f"{ROW}unknown category_id 4"),
    ("a class of 400 digits", first(category_id=HUGE), f"{ROW}unknown category_id 1000"),
    ("an image of 400 digits", first(image_id=HUGE), "predictions.json: 1 image id(s), with 1 results, are not in"),
    ("images of another dataset", predictions([{**row, "image_id": 70} for row in rows()]),
     "predictions.json: no image id is in"),
    ("polygons", first(segmentation=[[1, 1, 9, 1, 9, 9]]), f"{ROW}expected a 'segmentation' with a run-length mask"),
    ("a mask of another size", first(segmentation={"size": [9, 9], "counts": [81]}), f"{ROW}its run-length mask has"),
    ("a mask of 10^9 pixels", first(segmentation={"size": [24, 40], "counts": [10**9]}), f"{ROW}its run-length mask"),
    ("a mask that is no code", first(segmentation={"size": [24, 40], "counts": "~~~"}), f"{ROW}its run-length mask"),
]  # fmt: skip
TRUTH: list[tuple[str, Build, str]] = [
    ("nothing", predictions(truth=lambda folder: (folder / "labels.json").write_bytes(b"")), "labels.json: not valid"),
    ("an id of 70 bits", predictions(truth=coco(put("images.0.id", 2**70))), "labels.json: image number 1 has 'id' 11"),
    ("an unknown image", predictions(truth=coco(put("annotations.0.image_id", 9))), "labels.json, annotation 1: its i"),
    ("a class twice", predictions(truth=coco(put("categories.1.name", "bolt"))), "labels.json: duplicate category nam"),
    ("fractions", predictions(truth=coco(put("annotations.*.bbox", [0.1] * 4))), "labels.json: all 6 boxes lie betwee"),
    ("a width of 900 lists", predictions(truth=coco(put("images.0.width", NESTED))), "needs an integer 'height' and"),
]  # fmt: skip
CASES = [Case(f"predictions: {name}", build, evaluate(), words) for name, build, words in REFUSED]
CASES += [Case(f"ground truth: {name}", build, evaluate(), words) for name, build, words in TRUTH]
CASES += [
    Case("ground truth: nan in a box", predictions(truth=coco(put("annotations.0.bbox", [NAN, 1, 2, 3]))), evaluate(),
         "warning: 1 annotation without a usable box", noted=True),
    Case("ground truth: none", predictions(truth=coco(put("annotations", []))), evaluate(),
         "warning: there is no ground truth, so nothing was measured", noted=True),
]  # fmt: skip
