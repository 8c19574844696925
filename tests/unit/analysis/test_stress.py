"""`tlvision stress` from a run to its files: numbers, tables and pictures, for boxes, masks and label maps."""

from __future__ import annotations

import json
import runpy
import shutil
from collections.abc import Callable
from pathlib import Path
from statistics import fmean
from typing import Any

import cv2
import numpy as np
import pytest

import tlvision
from stripes import striped_data
from tlvision.analysis.robustness import stress
from tlvision.analysis.robustness.corruptions import Condition
from tlvision.analysis.robustness.labels import move_labels
from tlvision.analysis.robustness.results import conclude, make_curve, mean_loss, not_measured, worst_first
from tlvision.analysis.robustness.severities import SCALES, SEVERITIES
from tlvision.analysis.robustness.stress import StressSettings, choose, stress_run
from tlvision.cli.main import main
from tlvision.data.dataset import TargetParts
from tlvision.data.targets import semantic_map
from tlvision.formats.coco import read_coco
from tlvision.formats.label_maps import read_label_map
from tlvision.plugin import registry
from tlvision.synthetic.inspection import render_inspection
from tlvision.tasks import Metric
from tlvision.types import InputError

DISCS = Path(__file__).parents[1] / "engine" / "discs.py"
AP = Metric("bbox/AP")


@pytest.fixture(scope="module")
def plates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The rendered plates, whose objects have polygons."""
    folder = tmp_path_factory.mktemp("plates")
    render_inspection(folder, domain="source", train=4, val=10, seed=0)
    return folder


def train(plates: Path, repository: Path, out: Path, model: tuple[str, str]) -> Path:
    weights = repository / "tlvision" / "presets" / "weights" / "inspection_source.safetensors"
    config = {
        "model": {"plugin": model[0], "arch": model[1], "weights": str(weights)},
        "data": {
            "train": {"json": str(plates / "train.json"), "images": str(plates / "images")},
            "val": {"json": str(plates / "val.json"), "images": str(plates / "images")},
            "image_size": 256,
            "workers": 0,
            "batch": {"labelled": 4},
        },
        "train": {"epochs": 1, "lr": 1e-5, "device": "cpu"},
        "hooks": [{"log": {"progress": "none", "tensorboard": "off"}}],
        "evaluate": {"batch": 4},
        "run": {"out": str(out)},
    }
    return tlvision.train(config).run


@pytest.fixture(scope="module")
def detector(plates: Path, repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a detector that finds something; tests write their results elsewhere."""
    return train(plates, repository, tmp_path_factory.mktemp("detector") / "run", ("toy", "tiny_detector"))


def settings(out: Path, **values: Any) -> StressSettings:
    return StressSettings(**{"images": 4, "severities": (1, 5), "out": out, **values})


@pytest.mark.slow  # ten seconds; parts of it are fast tests
def test_everything_is_written_and_the_losses_follow_from_the_values(
    detector: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    code = main(["stress", str(detector), "--images", "4", "--severities", "5", "1", "3", "--output", str(out)])
    text = capsys.readouterr().out
    assert code == 0
    found = json.loads((out / "stress.json").read_text())
    assert found["clean"] > 0.05
    assert (found["metric"], found["task"], found["images"], found["images_in_data"]) == ("bbox/AP", "detect", 4, 10)
    assert (found["seed"], found["severities"], found["not_measured"]) == (0, [1, 3, 5], [])
    assert [*found["corruptions"]] == [*SCALES]
    losses = []
    for name, row in found["corruptions"].items():
        assert row["strengths"] == [SCALES[name].values[severity - 1] for severity in (1, 3, 5)]
        expected = [(found["clean"] - value) / found["clean"] for value in row["values"]]
        assert row["relative_losses"] == pytest.approx(expected)
        assert row["relative_loss"] == pytest.approx(fmean(expected))
        losses.append(row["relative_loss"])
    assert found["mean_relative_loss"] == pytest.approx(fmean(losses))
    assert found["corruptions"][found["worst"]]["relative_loss"] == max(losses) > 0.2
    assert len(found["protocol"]["hash"]) == 12
    assert found["conclusion"] in text.replace("\n", " ")
    rows = [line for line in text.splitlines() if line.rstrip().endswith("%")]
    assert [line.split("  ")[1] for line in rows[:1]] == [found["worst"].replace("_", " ")]
    assert len(rows) == len(SCALES) + 1
    sheet, curves = (cv2.imread(str(out / name)) for name in ("stress.png", "curves.png"))
    assert sheet.shape[0] > len(SCALES) * 200
    assert curves.shape[1] > 1000
    kept = {path.name for path in out.iterdir()}
    assert kept == {"stress.json", "stress.png", "curves.png", ".tlvision-output.json"}


def test_the_clean_metric_is_that_of_evaluate(detector: Path, tmp_path: Path) -> None:
    found, _ = stress_run(detector, settings(tmp_path / "out", images=1000, corruptions=("darkness",)))
    metrics = json.loads((detector / "metrics.json").read_text())
    assert found["images"] == 10
    assert found["clean"] == metrics["bbox"]["AP"]


def test_a_corruption_of_no_strength_gives_the_clean_metric(
    detector: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also for those that move labels, whose ground truth is written anew."""
    nothing = {"scale": 1.0, "rotation": 0.0, "darkness": 1.0, "occlusion": 0.0}
    monkeypatch.setattr(Condition, "strength", property(lambda self: nothing[self.corruption]))
    found, _ = stress_run(detector, settings(tmp_path / "out", corruptions=tuple(nothing), severities=(3,)))
    assert len(found["corruptions"]) == 4
    for name, row in found["corruptions"].items():
        assert row["values"] == pytest.approx([found["clean"]], abs=0.02 if name == "rotation" else 0), name


@pytest.mark.slow
def test_each_corruption_is_measured_on_the_same_images_and_alone_as_among_others(
    detector: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured: list[tuple[int, ...]] = []
    original = stress.build_evaluator

    def watched(config: Any, task: Any, data: Any, **rest: Any) -> Any:
        measured.append(tuple(sample.image_id for sample in data.samples))
        return original(config, task, data, **rest)

    monkeypatch.setattr(stress, "build_evaluator", watched)
    names = ("occlusion", "gaussian_noise", "rotation")
    found, _ = stress_run(detector, settings(tmp_path / "one", images=3, corruptions=names))
    assert len(measured) == 1 + 3 * 2
    assert len(set(measured)) == 1
    assert len(measured[0]) == 3
    alone, _ = stress_run(detector, settings(tmp_path / "two", images=3, corruptions=names[2:], severities=(5,)))
    assert alone["corruptions"]["rotation"]["values"] == found["corruptions"]["rotation"]["values"][1:]
    other, _ = stress_run(detector, settings(tmp_path / "three", images=3, corruptions=names, seed=1))
    assert other["corruptions"] != found["corruptions"]


@pytest.mark.slow
def test_the_order_of_images_and_the_batch_have_no_effect(detector: Path, plates: Path, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(detector, copy)
    document = json.loads((plates / "val.json").read_text())
    document["images"].reverse()
    (tmp_path / "val.json").write_text(json.dumps(document))
    config = (copy / "config.yaml").read_text().replace(str(plates / "val.json"), str(tmp_path / "val.json"))
    (copy / "config.yaml").write_text(config.replace("batch: 4\n", "batch: 3\n"))
    names = ("motion_blur", "shot_noise", "rotation")
    first, second = (
        stress_run(run, settings(tmp_path / out, images=10, corruptions=names, severities=(4,)))[0]
        for run, out in ((detector, "one"), (copy, "two"))
    )
    for name in names:
        assert second["corruptions"][name]["values"] == pytest.approx(first["corruptions"][name]["values"], abs=1e-6)


@pytest.mark.slow
def test_results_go_below_the_run_and_other_settings_beside(detector: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(detector, run)
    options = ["--images", "2", "--corruptions", "jpeg", "--severities", "5"]
    assert main(["stress", str(run), *options]) == 0
    first = (run / "stress" / "val" / "stress.json").read_bytes()
    assert main(["stress", str(run), *options]) == 0
    assert (run / "stress" / "val" / "stress.json").read_bytes() == first
    assert main(["stress", str(run), *options, "--seed", "3"]) == 0
    assert {path.name for path in (run / "stress").iterdir()} == {"val", "val-2"}


@pytest.mark.slow
def test_a_run_with_masks(plates: Path, repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_entry_points", runpy.run_path(str(DISCS))["entry_points"])
    run = train(plates, repository, tmp_path / "run", ("discs", "disc_segmenter"))
    names = ("rotation", "scale", "darkness")
    found, out = stress_run(run, settings(tmp_path / "out", images=10, corruptions=names))
    assert found["metric"] == "segm/AP"
    assert found["clean"] == json.loads((run / "metrics.json").read_text())["segm"]["AP"] > 0.05
    for name in names:
        low, high = found["corruptions"][name]["values"]
        assert 0 < high < low, name
        assert low > 0.5 * found["clean"], f"{name}: labels that stay behind would match nothing"
    assert (out / "stress.png").is_file()


@pytest.mark.slow
def test_a_semantic_run_on_label_maps(tmp_path: Path) -> None:
    config = {
        "model": {"plugin": "toy", "arch": "tiny_segmenter", "weights": "none"},
        "data": {**striped_data(tmp_path / "data", 6), "image_size": 96, "workers": 0, "batch": {"labelled": 4}},
        "train": {"epochs": 8, "lr": 3e-3, "schedule": "constant", "warmup": 0, "device": "cpu"},
        "hooks": [{"log": {"progress": "none", "tensorboard": "off"}}],
        "run": {"out": str(tmp_path / "run")},
    }
    run = tlvision.train(config).run
    names = ("gaussian_noise", "contrast", "occlusion", "scale", "rotation")
    found, out = stress_run(run, settings(tmp_path / "out", images=100, corruptions=names))
    assert found["metric"] == "semantic/mean_class_iou"
    assert found["clean"] == json.loads((run / "metrics.json").read_text())["semantic"]["mean_class_iou"] > 0.7
    assert sorted(found["corruptions"]) == sorted(names)
    # The classes differ in brightness alone, which moved labels keep and noise does not.
    assert found["corruptions"]["rotation"]["values"][1] > 0.7 * found["clean"]
    assert min(min(row["values"]) for row in found["corruptions"].values()) < 0.6 * found["clean"]
    assert (out / "stress.png").is_file()
    assert not list((tmp_path / "data" / "masks").glob("*/"))


def test_label_maps_move_by_the_nearest_pixel_and_the_rest_is_ignored(plates: Path, tmp_path: Path) -> None:
    data = read_coco(plates / "val.json", plates / "images")
    parts, condition = TargetParts(label_map=True, background=2), Condition("rotation", 5, 0)
    samples = data.samples[:3]
    moved = move_labels(samples, condition, parts, tmp_path / "moved")
    for before, after in zip(samples, moved, strict=True):
        assert after.label_map is not None
        old, new = semantic_map(before, 2), read_label_map(after.label_map)
        back = np.linalg.inv(condition.view(before))
        rows, columns = np.mgrid[0 : before.height, 0 : before.width]
        points = np.stack([columns.ravel() + 0.5, rows.ravel() + 0.5, np.ones(rows.size)])
        x, y = np.floor((back @ points)[:2]).astype(int).reshape(2, *rows.shape)
        inside = (x >= 0) & (x < before.width) & (y >= 0) & (y < before.height)
        expected = np.full(old.shape, 255, np.uint8)
        expected[inside] = old[y[inside], x[inside]]
        assert (new == expected).mean() > 0.99
        assert (new == 255).mean() > 0.1
    assert (semantic_map(moved[0], 2) == read_label_map(moved[0].label_map)).all()
    assert move_labels(samples, Condition("fog", 5, 0), parts, tmp_path / "none") == tuple(samples)


def test_nothing_to_measure_is_not_measured(
    detector: Path,
    plates: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    copy = tmp_path / "run"
    shutil.copytree(detector, copy)
    document = json.loads((plates / "val.json").read_text())
    (tmp_path / "val.json").write_text(json.dumps({**document, "annotations": []}))
    config = (copy / "config.yaml").read_text().replace(str(plates / "val.json"), str(tmp_path / "val.json"))
    (copy / "config.yaml").write_text(config)
    built = []
    original = stress.build_evaluator
    monkeypatch.setattr(stress, "build_evaluator", lambda *a, **k: built.append(0) or original(*a, **k))
    found, out = stress_run(copy, settings(tmp_path / "out", corruptions=("fog", "scale")))
    assert len(built) == 1, "no corruption is worth its time"
    text = capsys.readouterr().out
    assert found["clean"] is None
    assert found["mean_relative_loss"] is found["worst"] is found["corruptions"]["fog"]["relative_loss"] is None
    assert "AP is not measured" in found["not_measured"][0]
    assert "not measured" in text
    assert "No loss of AP is measured" in text
    assert (out / "stress.json").is_file()
    assert not (out / "curves.png").exists()


def test_a_loss_is_relative_to_the_clean_metric_in_the_direction_of_the_metric() -> None:
    fog = make_curve(AP, 0.5, "fog", {1: 0.5, 5: 0.1})
    blur = make_curve(AP, 0.5, "motion_blur", {1: 0.25, 5: None})
    assert fog.losses == pytest.approx((0, 0.8))
    assert blur.losses == (0.5, None)
    assert (fog.loss, blur.loss) == (pytest.approx(0.4), 0.5)
    assert mean_loss([fog, blur]) == pytest.approx(0.45)
    assert worst_first([fog, blur]) == [blur, fog]
    assert not_measured(AP, 0.5, [fog, blur]) == ["Not measured, because no object was left to count: motion blur 5."]
    assert conclude(AP, 0.5, [fog, blur]) == (
        "Motion blur costs most: AP falls by 50 % at severity 1, from 0.500 to 0.250."
    )
    error = Metric("points/distance", higher_is_better=False)
    assert make_curve(error, 2.0, "fog", {1: 3.0}).losses == (0.5,)
    assert "distance rises by 50 %" in conclude(error, 2.0, [make_curve(error, 2.0, "fog", {1: 3.0})])
    for clean in (0.0, None):
        curve = make_curve(AP, clean, "fog", {1: 0.0})
        assert curve.loss is None
        assert mean_loss([curve]) is None
        assert "not measured" in not_measured(AP, clean, [curve])[0]
        assert conclude(AP, clean, [curve]) == "No loss of AP is measured."
    better = make_curve(AP, 0.5, "fog", {1: 0.6})
    assert conclude(AP, 0.5, [better]) == "No corruption lowers AP on average."


def test_images_are_spread_evenly(plates: Path) -> None:
    samples = read_coco(plates / "val.json", plates / "images").samples
    chosen = [sample.image_id for sample in choose(samples, 4)]
    assert chosen == [samples[index].image_id for index in (0, 3, 6, 9)]
    assert choose(samples, 99) == samples
    assert len(choose(samples, 1)) == 1


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--images", "0"], "--images: expected 1 or more, got 0"),
        (["--corruptions", "fogg"], "unknown corruption 'fogg'. Did you mean 'fog'?"),
        (["--severities", "1", "6"], "expected severities from 1 to 5, got 6"),
        (["--seed", "-1"], "--seed: expected an integer from 0 to 4294967295, got -1"),
        (["--output", "a\0b"], "--output: the path holds a NUL character"),
    ],
)
def test_wrong_settings_are_one_sentence(
    small_run: Path, arguments: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["stress", str(small_run), *arguments]) == 2
    assert expected in capsys.readouterr().err


def test_what_is_no_run_and_folders_of_the_user_are_refused(
    small_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], digests_of: Callable[[Path], dict[str, str]]
) -> None:
    assert main(["stress", str(tmp_path / "absent")]) == 2
    assert "Give the folder of a trained run" in capsys.readouterr().err
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "stress.json").write_text("mine")
    assert main(["stress", str(tmp_path / "mine")]) == 2
    capsys.readouterr()
    before = digests_of(small_run)
    for out in (tmp_path / "mine", small_run, small_run.parent):
        assert main(["stress", str(small_run), "--images", "1", "--output", str(out)]) == 2
        assert "folder" in capsys.readouterr().err
    assert digests_of(small_run) == before
    assert (tmp_path / "mine" / "stress.json").read_text() == "mine"


def test_an_empty_choice_is_an_error(small_run: Path) -> None:
    with pytest.raises(InputError, match="expected a corruption or more"):
        stress_run(small_run, StressSettings(corruptions=()))
    with pytest.raises(InputError, match="expected severities"):
        stress_run(small_run, StressSettings(severities=()))
    assert SEVERITIES == (1, 2, 3, 4, 5)
