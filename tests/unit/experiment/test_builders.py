"""Shortcuts make the experiments that they are named after; folds are joined to one measurement."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from stripes import striped_data
from tiny import QUIET
from tlvision.cli.main import main
from tlvision.config.load import dump_config, load_config
from tlvision.experiment.builders import base_of, cross_validation, few_shot, learning_curve, seeds
from tlvision.experiment.file import ExperimentFile
from tlvision.experiment.folds import measure_out_of_fold
from tlvision.experiment.plan import Plan, make_plan
from tlvision.types import InputError


@pytest.fixture
def config(tiny_config: dict[str, Any], tmp_path: Path) -> str:
    path = tmp_path / "config.yaml"
    path.write_text(dump_config(load_config(tiny_config)), encoding="utf-8")
    return str(path)


def planned(experiment: ExperimentFile, tmp_path: Path) -> Plan:
    return make_plan(experiment, Path("config"), tmp_path / "out")


def test_seeds_differ_in_their_seed_and_overrides_hold(config: str, tmp_path: Path) -> None:
    base, _ = base_of(config, [], ["train.epochs=3", "train.lr=1e-4"])
    trials = planned(seeds(base, [0, 7]), tmp_path).trials.values()
    assert {trial.config.train.seed for trial in trials} == {0, 7}
    assert {(trial.config.train.epochs, trial.config.train.lr) for trial in trials} == {(3, 1e-4)}


def test_folds_train_on_the_others_and_leave_val_out(config: str, tmp_path: Path) -> None:
    base, resolved = base_of(config)
    plan = planned(cross_validation(base, resolved, 4, seed=2, group_by="(0)"), tmp_path)
    assert len(plan.trials) == 4
    for number, trial in enumerate(plan.trials.values()):
        data = trial.config.data
        assert data.val is not None
        assert data.val.json_ == data.train.json_
        for part in (data.train.subset, data.val.subset):
            assert part is not None
            assert (part.fold, part.seed, part.group_by) == ([number, 4], 2, "(0)")
    with pytest.raises(InputError, match="--folds must be from 2 to 100, got 1"):
        cross_validation(base, resolved, 1)


def test_few_images_are_drawn_several_times(config: str, tmp_path: Path) -> None:
    plan = planned(few_shot(base_of(config)[0], [1, 3], 2), tmp_path)
    found = [(trial.config.data.train.subset, trial.config.train.seed) for trial in plan.trials.values()]
    assert [(part and part.per_class, part and part.seed, seed) for part, seed in found] == [
        (1, 0, 0), (1, 1, 1), (3, 0, 0), (3, 1, 1),
    ]  # fmt: skip


def test_a_learning_curve_has_both_starts_on_the_same_images(config: str, tmp_path: Path) -> None:
    plan = planned(learning_curve(base_of(config)[0], [0.5, 1.0], [0, 1]), tmp_path)
    assert [list(point.values()) for point, _ in plan.points][:3] == [
        ["pretrained", "0.5", "0"], ["pretrained", "0.5", "1"], ["pretrained", "1.0", "0"],
    ]  # fmt: skip
    assert plan.experiment.compare.against == {"start": "scratch"}
    alone = planned(learning_curve(base_of(config)[0], [0.5], [0], scratch=False), tmp_path)
    assert [list(point) for point, _ in alone.points] == [["fraction", "seed"]]


@pytest.mark.slow
def test_cross_validation_measures_all_images_once(
    config: str, tmp_path: Path, tiny_dataset: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    command = ["cross-validate", config, "--folds", "3", "--out", str(out), "--set", "train.epochs=1"]
    assert main([*command, "--jobs", "2"]) == 0
    assert "all folds together" in capsys.readouterr().out
    truth, predicted = tiny_dataset / "train.json", out / "out_of_fold" / "predictions.json"
    rows = json.loads(predicted.read_text())
    assert {row["image_id"] for row in rows} == {row["id"] for row in json.loads(truth.read_text())["images"]}
    reference = COCO(str(truth))
    evaluation = COCOeval(reference, reference.loadRes(str(predicted)), "bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    metrics = json.loads((out / "out_of_fold" / "metrics.json").read_text())
    assert metrics["bbox"]["AP"] == pytest.approx(evaluation.stats[0], abs=1e-9)
    assert main(["few-shot", config, "--out", str(tmp_path / "few"), "--plan"]) == 0


def test_label_maps_of_folds_are_joined(tmp_path: Path) -> None:
    config = load_config(
        {
            "model": {"plugin": "toy", "arch": "tiny_segmenter", "weights": "none"},
            "data": {**striped_data(tmp_path / "data", 4), "image_size": 64},
            "train": {"epochs": 1},
            "hooks": [QUIET],
            "run": {"out": str(tmp_path / "run")},
        }
    )
    for fold in range(2):
        run = tmp_path / f"fold{fold}"
        (run / "predictions").mkdir(parents=True)
        (run / "metrics.json").write_text("{}")
        for number in (2 * fold, 2 * fold + 1):
            name = f"{number}.png"
            (run / "predictions" / name).write_bytes((tmp_path / "data" / "masks" / name).read_bytes())
    metrics = measure_out_of_fold(config, [tmp_path / "fold0", tmp_path / "fold1"], tmp_path / "joined")
    assert metrics["semantic"]["mean_class_iou"] == 1
    assert metrics["counts"]["images"] == 4
