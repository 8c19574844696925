"""A metric without ground truth is not measured: never 1, never 0, with a warning or an error that says so."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from poison.dataset import Json, coco, drop_sizes, put
from poison.predictions import rows
from tlvision.config.load import load_config
from tlvision.engine.train import train
from tlvision.evaluation import Analysis, PixelQuality, class_iou, instance_map, label_map_iou, pseudo_label_quality
from tlvision.evaluation.summary import headlines, warnings_of
from tlvision.formats.label_maps import write_label_map
from tlvision.types import InputError

EMPTY = {"size": [24, 40], "counts": [960]}
NOTHING: dict[str, Callable[[Json], object]] = {
    "no annotation": put("annotations", []),
    "all crowd": put("annotations.*.iscrowd", 1),
    "all outside": put("annotations.*.bbox", [900, 900, 5, 5]),
    "all nan": put("annotations.*.bbox", [float("nan")] * 4),
    "all of no size": put("annotations.*.bbox", [4, 4, 0, 0]),
}
"""Ways in which nothing is left to find."""
FOUND: dict[str, list[Json]] = {"every object": rows(), "nothing": [], "half": rows()[:3]}
assert NOTHING
assert FOUND
# Counts and limits of what was predicted; all other numbers are metrics.
COUNTS = {"threshold", "default", "iou", "objects", "detections", "right", "missed", "count", "false_positives", "from"}
COUNTS |= {"to", "min_score", "mean_score", "false_positives_per_image", "predictions", "ground_truths", "distance"}
COUNTS |= {"thresholds", "pixels", "pseudo_labels"}


def metrics_in(value: object, path: tuple[str, ...] = ()) -> Iterator[tuple[str, float]]:
    """Yield each number that is a metric, with its place."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if key not in COUNTS:
                yield from metrics_in(inner, (*path, str(key)))
    elif isinstance(value, list):
        for inner in value:
            yield from metrics_in(inner, path)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield "/".join(path), float(value)


def evaluated(folder: Path, change: Callable[[Json], object], found: list[Json]) -> dict[str, Any]:
    coco(change)(folder)
    (folder / "predictions.json").write_text(json.dumps(found))
    files = folder / "labels.json", folder / "predictions.json"
    return instance_map(*files, analysis=Analysis(resamples=20))


@pytest.mark.parametrize("found", FOUND.values(), ids=FOUND)
@pytest.mark.parametrize("change", NOTHING.values(), ids=NOTHING)
def test_nothing_is_measured_where_there_is_nothing_to_find(
    change: Callable[[Json], object], found: list[Json], tmp_path: Path
) -> None:
    metrics = evaluated(tmp_path, change, found)
    measured = {key: metrics[key] for key in ("bbox", "segm", "per_class", "analysis", "intervals") if key in metrics}
    assert list(metrics_in(measured)) == []
    assert "warning: there is no ground truth, so nothing was measured" in warnings_of(metrics)
    assert set(metrics["absent_classes"]) == {"bolt", "nut"}


def test_metrics_are_seen_where_there_is_something_to_find(tmp_path: Path) -> None:
    metrics = evaluated(tmp_path, lambda content: None, rows())
    assert metrics["bbox"]["AP"] == 1.0
    names = {name.rpartition("/")[2] for name, _ in metrics_in({key: metrics[key] for key in ("bbox", "analysis")})}
    assert {"AP", "AR100", "precision", "recall", "f1", "error", "AP50_lost"} <= names


def test_a_class_without_ground_truth_is_in_no_mean(tmp_path: Path) -> None:
    def relabel(content: Json) -> None:
        put("annotations.*.category_id", 3)(content)

    metrics = evaluated(tmp_path, relabel, rows())  # every second prediction is of the other class
    assert metrics["absent_classes"] == ["nut"]
    assert metrics["per_class"]["nut"]["predictions"] == 3
    for kind in ("bbox", "segm"):
        found = metrics["analysis"][kind]
        parts = [found["operating_point"]["per_class"]["nut"], found["calibration"]["per_class"]["nut"]]
        parts.append(found["curves"]["per_class"]["nut"])
        assert list(metrics_in(parts)) == []
    assert list(metrics_in(metrics["per_class"]["nut"])) == []


@pytest.mark.parametrize(
    "mask",
    [EMPTY, [[200, 200, 210, 200, 210, 210]], [[2, 2, 2, 2, 2, 2]], [[2, 2, 8, 8, 2, 2]]],
    ids=["run lengths", "outside", "point", "line"],
)
def test_masks_without_a_pixel_are_not_measured_as_missed(mask: object, tmp_path: Path) -> None:
    metrics = evaluated(
        tmp_path, put("annotations.*.segmentation", mask), [{**row, "segmentation": EMPTY} for row in rows()]
    )
    assert set(metrics["segm"].values()) == {None}
    assert metrics["bbox"]["AP"] == 1.0, "the boxes are there"
    assert any("6 annotations whose mask has no pixel" in line for line in warnings_of(metrics))


def test_no_prediction_is_a_measured_zero(tmp_path: Path) -> None:
    metrics = evaluated(tmp_path, lambda content: None, [])
    assert metrics["bbox"]["AP"] == 0.0 == metrics["segm"]["AP"]
    assert metrics["analysis"]["bbox"]["operating_point"]["all"]["precision"] is None
    assert metrics["analysis"]["bbox"]["calibration"]["error"] is None


@pytest.mark.parametrize("change", NOTHING.values(), ids=NOTHING)
def test_pseudo_labels_are_not_measured_without_ground_truth(change: Callable[[Json], object], tmp_path: Path) -> None:
    coco(change)(tmp_path)
    (tmp_path / "predictions.json").write_text(json.dumps(rows()))
    quality = pseudo_label_quality(tmp_path / "labels.json", tmp_path / "predictions.json", thresholds=[0.5])
    row = quality["all"][0]
    assert (row["precision"], row["recall"], row["mean_iou"]) == (None, None, None)


MAPS: dict[str, np.ndarray] = {
    "unknown everywhere": np.full((4, 4), 255, np.uint8),
    "one class everywhere": np.zeros((4, 4), np.uint8),
}
assert MAPS


@pytest.mark.parametrize("truth", MAPS.values(), ids=MAPS)
def test_label_maps_of_one_class_or_none_measure_nothing(truth: np.ndarray, tmp_path: Path) -> None:
    names = ["road", "car"]
    found = np.zeros((4, 4), np.uint8)
    assert set(class_iou([(truth, found)], names, boundary=True)["semantic"].values()) == {None}
    for folder, values in (("truth", truth), ("found", found)):
        (tmp_path / folder).mkdir()
        write_label_map(tmp_path / folder / "a.png", values)
    metrics = label_map_iou(tmp_path / "truth", tmp_path / "found", names, analysis=Analysis(resamples=20))
    assert set(headlines(metrics)["semantic"].values()) == {None}
    assert any("nothing was measured" in line for line in warnings_of(metrics))
    assert metrics["per_class"]["car"]["iou"] is None
    assert metrics["analysis"]["semantic"]["per_class"]["car"] == {"precision": None, "recall": None}


def test_a_class_that_only_predictions_have_is_not_measured_in_label_maps() -> None:
    truth, found = np.array([[0, 0], [1, 1]]), np.array([[0, 2], [1, 2]])
    metrics = class_iou([(truth, found)], ["road", "car", "tree"], boundary=True)
    assert {key: value for key, value in metrics["per_class"]["tree"].items() if key != "predictions"} == {
        "iou": None, "dice": None, "accuracy": None, "boundary_iou": None, "ground_truths": 0
    }  # fmt: skip
    quality = PixelQuality(["road", "car", "tree"], thresholds=[0.0])
    quality.add(truth, found, np.ones((2, 2), np.float32))
    row = quality.result()["per_class"]["tree"]["thresholds"][0]
    assert (row["pseudo_labels"], row["precision"], row["recall"], row["mean_iou"]) == (2, None, None, None)


@pytest.mark.parametrize("change", NOTHING.values(), ids=NOTHING)
def test_a_training_whose_val_has_nothing_to_find_does_not_start(
    change: Callable[[Json], object], tmp_path: Path
) -> None:
    for name, edits in (("train", []), ("val", [change])):
        (tmp_path / name).mkdir()
        coco(drop_sizes, *edits)(tmp_path / name)
    data = {
        n: {"json": str(tmp_path / n / "labels.json"), "images": str(tmp_path / n / "images")} for n in ("train", "val")
    }
    config = {
        "model": {"plugin": "toy", "arch": "tiny_detector", "weights": "none"},
        "data": data,
        "train": {"epochs": 1, "device": "cpu"},
        "run": {"out": str(tmp_path / "run")},
    }
    with pytest.raises(InputError, match=r"labels\.json: (no usable annotation is left|all 6|'annotations' is empty)"):
        train(load_config(config))
    assert not (tmp_path / "run").exists()
