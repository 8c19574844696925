"""A run on parts of its data: trained on the others, measured on its own fold, the same afterwards."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

import tlvision
from stripes import striped_data
from tiny import QUIET
from tlvision.cli.main import main
from tlvision.config.load import load_config
from tlvision.engine.build import build_run
from tlvision.types import InputError


@pytest.fixture
def folds(tiny_config: dict[str, Any], tiny_dataset: Path, tmp_path: Path) -> dict[str, Any]:
    """A run on two of three folds of the training images, measured on the third."""
    path = tmp_path / "all.json"
    content = json.loads((tiny_dataset / "train.json").read_text())
    for number, row in enumerate(content["images"]):
        row["patient"] = number // 2
    path.write_text(json.dumps(content))
    fold = {"fold": [1, 3], "seed": 4}
    tiny_config["data"]["train"] |= {"json": str(path), "subset": fold}
    tiny_config["data"]["val"] |= {"json": str(path), "subset": dict(fold)}
    tiny_config["data"]["workers"] = 0
    tiny_config["train"]["epochs"] = 1
    return tiny_config


def images_of(config: dict[str, Any]) -> tuple[set[str], set[str]]:
    parts = build_run(load_config(config))
    train, val = ({sample.path.name for sample in data.samples} for data in (parts.train, parts.val))
    return train, val


@pytest.mark.slow
def test_a_fold_is_measured_alone(folds: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    result = tlvision.train(folds)
    assert "data.train: 8 images of all.json (fold [1, 3], seed 4)" in capsys.readouterr().out
    truth, predicted = result.run / "ground_truth.json", result.run / "predictions.json"
    assert len(json.loads(truth.read_text())["images"]) == 4
    reference = COCO(str(truth))
    evaluation = COCOeval(reference, reference.loadRes(str(predicted)), "bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    metrics = json.loads((result.run / "metrics.json").read_text())
    assert metrics["bbox"]["AP"] == pytest.approx(evaluation.stats[0], abs=1e-9)
    assert metrics["counts"]["images"] == 4
    assert main(["evaluate", "--run", str(result.run)]) == 0
    (again,) = (result.run / "evaluations").iterdir()
    assert json.loads((again / "metrics.json").read_text())["bbox"] == metrics["bbox"]


def test_the_folds_are_the_whole_and_nothing_is_in_both(folds: dict[str, Any]) -> None:
    seen: list[str] = []
    for part in range(3):
        for name in ("train", "val"):
            folds["data"][name]["subset"]["fold"] = [part, 3]
        train, val = images_of(folds)
        assert len(train | val) == 12
        assert not train & val
        seen += sorted(val)
    assert len(seen) == len(set(seen)) == 12


@pytest.mark.parametrize("group_by", ["patient", r"0(\d)\d"])
def test_groups_stay_together(group_by: str, folds: dict[str, Any]) -> None:
    for name in ("train", "val"):
        folds["data"][name]["subset"] |= {"group_by": group_by, "fold": [0, 2]}
    rows = json.loads(Path(folds["data"]["train"]["json"]).read_text())["images"]
    group = {
        Path(row["file_name"]).name: row["patient"] if group_by == "patient" else row["file_name"][-6] for row in rows
    }
    train, val = images_of(folds)
    assert train
    assert val
    assert not {group[name] for name in train} & {group[name] for name in val}


@pytest.mark.parametrize(
    ("group_by", "message"),
    [
        ("scanner", "data.train.subset: group_by: 12 images without 'scanner': 001.png, "),
        ("(x+)", "12 images without '(x+)'"),
    ],
)
def test_a_group_that_is_not_there_is_refused(group_by: str, message: str, folds: dict[str, Any]) -> None:
    folds["data"]["train"]["subset"]["group_by"] = group_by
    with pytest.raises(InputError) as caught:
        build_run(load_config(folds))
    assert message in str(caught.value)


def test_a_fold_without_an_object_to_measure_is_refused(folds: dict[str, Any]) -> None:
    """The file has objects in one image only, so two of three folds have nothing to measure."""
    path = Path(folds["data"]["val"]["json"])
    content = json.loads(path.read_text())
    only = next(row["image_id"] for row in content["annotations"])
    content["annotations"] = [row for row in content["annotations"] if row["image_id"] == only]
    path.write_text(json.dumps(content))
    folds["data"]["train"]["json"] = str(Path(folds["data"]["train"]["images"]).parent / "train.json")
    messages = []
    for part in range(3):
        for name in ("train", "val"):
            folds["data"][name]["subset"]["fold"] = [part, 3]
        try:
            build_run(load_config(folds))
        except InputError as error:
            messages.append(str(error))
    assert sum("cannot be measured on all.json" in message for message in messages) == 2


def test_label_maps_count_the_pixels_of_the_part(tmp_path: Path) -> None:
    data = striped_data(tmp_path / "data", 6)
    for name in ("train", "val"):
        data[name]["subset"] = {"fold": [0, 3]}
    config = {
        "model": {"plugin": "toy", "arch": "tiny_segmenter", "weights": "none"},
        "data": {**data, "image_size": 64, "batch": {"labelled": 2}},
        "train": {"epochs": 1},
        "hooks": [QUIET],
        "run": {"out": str(tmp_path / "run"), "report": False},
    }
    parts = build_run(load_config(config))
    assert (len(parts.train.samples), len(parts.val.samples)) == (4, 2)
    assert parts.val.pixels.sum() == 2 * 47 * 70  # type: ignore[attr-defined]
    assert not {sample.path for sample in parts.train.samples} & {sample.path for sample in parts.val.samples}
