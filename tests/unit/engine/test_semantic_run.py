"""A whole run on label maps: what it leaves behind, that it resumes to the same bits, and what is refused before."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import tlvision
from clips import read_clip, write_clip
from stripes import paint_stripes
from tiny import QUIET
from tlvision.analysis.pseudo_label_quality import write_pseudo_label_quality
from tlvision.cli.main import main
from tlvision.config.load import load_config
from tlvision.data.images import read_any_image
from tlvision.engine.evaluate import evaluate_run
from tlvision.engine.predict import predict_images
from tlvision.evaluation import PixelQuality, class_iou
from tlvision.experiment.compare import compare_runs
from tlvision.formats.label_maps import write_label_map
from tlvision.plugin.weights.files import read_tensors
from tlvision.synthetic.inspection import render_inspection
from tlvision.types import InputError


@pytest.fixture
def config(tmp_path: Path) -> dict[str, Any]:
    paint_stripes(tmp_path / "train", 8, 0)
    paint_stripes(tmp_path / "val", 5, 1)
    (tmp_path / "classes.txt").write_text("dark\nlight\nabsent\n", encoding="utf-8")
    return {
        "model": {"plugin": "toy", "arch": "tiny_segmenter", "weights": "none"},
        "data": {
            "classes": str(tmp_path / "classes.txt"),
            "train": {"images": str(tmp_path / "train" / "images"), "masks": str(tmp_path / "train" / "masks")},
            "val": {"images": str(tmp_path / "val" / "images"), "masks": str(tmp_path / "val" / "masks")},
            "image_size": 96,
            "batch": {"labelled": 4},
            "augment": {"mosaic": 0, "crop": 64, "crop_class_aware": 0.5},
        },
        "train": {"epochs": 6, "lr": 3e-3, "schedule": "constant", "warmup": 0, "device": "cpu"},
        "hooks": [{"ema": {"decay": 0.9}}, QUIET],
        "evaluate": {"every": 2, "boundary": True},
        "run": {"out": str(tmp_path / "run")},
    }


def label_maps(folder: Path) -> dict[str, Any]:
    return {path.stem: np.asarray(Image.open(path)) for path in sorted(folder.glob("*.png"))}


@pytest.mark.slow
def test_runs_of_label_maps_are_compared(config: dict[str, Any], tmp_path: Path) -> None:
    config["train"]["epochs"] = 1
    first = tlvision.train(config).run
    config["train"] |= {"epochs": 6}
    config["run"]["out"] = str(tmp_path / "longer")
    longer = tlvision.train(config).run
    comparison = compare_runs([first, longer], repeats=50)
    row = comparison.difference("semantic/mean_class_iou", comparison.sides[1])
    for run, value in ((first, row.reference), (longer, row.other)):
        assert value == json.loads((run / "metrics.json").read_text())["semantic"]["mean_class_iou"]
    shutil.rmtree(longer / "predictions")
    with pytest.raises(InputError, match="predictions' is missing"):
        compare_runs([first, longer], repeats=50)


def test_a_run_learns_and_leaves_label_maps_that_give_its_numbers(config: dict[str, Any], tmp_path: Path) -> None:
    result = tlvision.train(config)
    metrics = json.loads((result.run / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["task"] == "semantic"
    assert metrics["semantic"]["mean_class_iou"] > 0.85
    assert metrics["absent_classes"] == ["absent"]
    truth, found = label_maps(tmp_path / "val" / "masks"), label_maps(result.run / "predictions")
    assert [*found] == [*truth]
    pairs = [(truth[stem], found[stem]) for stem in truth]
    analysis, intervals = metrics.pop("analysis"), metrics.pop("intervals")
    assert class_iou(pairs, ("dark", "light", "absent"), boundary=True) == metrics
    assert analysis["semantic"]["images"]["mean"] > 0.85
    assert (result.run / "report.html").is_file()
    assert len(list((result.run / "pictures").glob("*.jpg"))) == 6  # five images and the sheet
    environment = json.loads((result.run / "environment.json").read_text(encoding="utf-8"))
    assert environment["data"]["train"]["label_maps_sha256"]

    again, folder = evaluate_run(result.run)
    assert again == {**metrics, "analysis": analysis, "intervals": intervals}
    assert (folder / "predictions" / "0.png").is_file()
    train = tmp_path / "train"
    other, _ = evaluate_run(result.run, images=train / "images", masks=train / "masks")
    assert other["counts"]["images"] == 8

    model = tlvision.load(result.run)
    one = model.predict(tmp_path / "val" / "images" / "0.png")
    assert (one.semantic == found["0"]).all()
    predict_images(result.run, [tmp_path / "val" / "images"], tmp_path / "out")
    assert {
        stem: (each == found[stem]).all() for stem, each in label_maps(tmp_path / "out" / "label_maps").items()
    } == (dict.fromkeys(found, True))
    assert len(list((tmp_path / "out").glob("*.jpg"))) == 5

    images = [read_any_image(path) for path in sorted((tmp_path / "val" / "images").glob("*.png"))]
    predict_images(result.run, [write_clip(tmp_path / "clip.avi", images)], tmp_path / "of_video")
    of_frames = label_maps(tmp_path / "of_video" / "label_maps" / "clip")
    assert {str(int(stem)): (each == found[str(int(stem))]).all() for stem, each in of_frames.items()} == (
        dict.fromkeys(found, True)
    )
    shown, _ = read_clip(tmp_path / "of_video" / "clip.mp4")
    assert (len(shown), shown[0].shape) == (5, images[0].shape)
    assert not list((tmp_path / "of_video").glob("*.jpg"))


def test_the_command_line_evaluates_folders(
    config: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    masks = str(tmp_path / "val" / "masks")
    arguments = ["evaluate", "--gt", masks, "--predictions", masks]
    assert main([*arguments, "--classes", config["data"]["classes"]]) == 0  # what is ignored may hold anything
    capsys.readouterr()
    found = tmp_path / "found"
    found.mkdir()
    for stem, labels in label_maps(tmp_path / "val" / "masks").items():
        write_label_map(found / f"{stem}.png", np.where(labels == 255, 0, labels))
    arguments = ["evaluate", "--gt", masks, "--predictions", str(found)]
    assert main([*arguments, "--classes", config["data"]["classes"], "--boundary"]) == 0
    assert "mean_class_boundary_iou  1.0000" in capsys.readouterr().out
    assert main(arguments) == 2
    assert "--classes" in capsys.readouterr().err


@pytest.mark.slow
def test_a_resumed_run_ends_with_the_same_bits(config: dict[str, Any], tmp_path: Path) -> None:
    straight = tlvision.train(config)
    config["train"]["epochs"], config["run"]["out"] = 2, str(tmp_path / "other")
    first = tlvision.train(config)
    resumed = tlvision.train(config, ["train.epochs=6"], resume=first.run)
    ends = [read_tensors(run.run / "checkpoints" / "last" / "model.safetensors").tensors for run in (straight, resumed)]
    same = [bool((ends[0][name] == ends[1][name]).all()) for name in ends[0]]
    assert len(same) > 20
    assert all(same)
    assert resumed.metrics == straight.metrics


def test_windows_at_evaluation(config: dict[str, Any]) -> None:
    config["train"]["epochs"], config["evaluate"] = 4, {"window": 64}
    assert tlvision.train(config).metrics["semantic"]["mean_class_iou"] > 0.6


@pytest.mark.slow
def test_polygons_become_label_maps_with_a_background(config: dict[str, Any], tmp_path: Path) -> None:
    render_inspection(tmp_path / "plates", domain="source", train=6, val=4, seed=0)
    for side in ("train", "val"):
        path = tmp_path / "plates" / f"{side}.json"
        config["data"][side] = {"json": str(path), "images": str(tmp_path / "plates" / "images")}
    del config["data"]["classes"]
    config["train"]["epochs"] = 1
    run = tlvision.train(config).run
    names = json.loads((run / "classes.json").read_text(encoding="utf-8"))["names"]
    assert names[-1] == "background"
    truth = label_maps(run / "ground_truth")
    assert len(truth) == 4
    share = np.mean([np.mean(labels == len(names) - 1) for labels in truth.values()])
    assert 0.5 < share < 0.99
    metrics = evaluate_run(run)[0]
    assert metrics["counts"]["images"] == 4
    # As label maps of its own, the values are the ids of the json.
    ids = json.loads((run / "classes.json").read_text(encoding="utf-8"))["source_ids"]
    assert ids != [*range(len(ids))]
    for folder in ("own_images", "own_masks"):
        (tmp_path / folder).mkdir()
    for stem, labels in truth.items():
        write_label_map(tmp_path / "own_masks" / f"{stem}.png", np.array(ids)[labels])
        (image,) = (tmp_path / "plates" / "images").glob(f"{stem}.*")
        (tmp_path / "own_images" / image.name).write_bytes(image.read_bytes())
    again, _ = evaluate_run(run, images=tmp_path / "own_images", masks=tmp_path / "own_masks")
    assert again == metrics
    config["data"]["unlabelled"] = "ignore"
    run = tlvision.train(config).run
    assert "background" not in json.loads((run / "classes.json").read_text(encoding="utf-8"))["names"]
    assert np.mean([np.mean(labels == 255) for labels in label_maps(run / "ground_truth").values()]) == share


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"data": {"classes": None}}, "data.classes: label maps hold numbers only"),
        ({"model": {"arch": "tiny_detector"}}, "data.train.masks: label maps are for semantic models"),
        ({"evaluate": {"select": "bbox/AP"}}, "the task 'semantic' has no metric 'bbox/AP'"),
        ({"model": {"options": {"losses": {}}}}, "model.options: the plugin 'toy' has no options, got losses"),
    ],
)
def test_what_does_not_fit_is_said(config: dict[str, Any], change: dict[str, Any], expected: str) -> None:
    for section, values in change.items():
        config[section] |= values
    with pytest.raises(InputError) as error:
        tlvision.train(config)
    assert expected in str(error.value)


def test_a_panoptic_json_brings_its_own_classes(config: dict[str, Any]) -> None:
    config["data"]["train"]["json"] = "panoptic.json"
    with pytest.raises(InputError, match=r"data\.classes: a panoptic json has its own"):
        tlvision.train(config)


def test_labels_are_needed(config: dict[str, Any]) -> None:
    del config["data"]["train"]["masks"]
    with pytest.raises(InputError, match=r"data\.train: expected labels: json .* or masks"):
        tlvision.train(config)


def test_what_its_label_maps_would_be_worth_as_labels(config: dict[str, Any], tmp_path: Path) -> None:
    run = tlvision.train(config, ["train.epochs=1"]).run
    settings = load_config(config).data.val
    assert settings is not None
    quality = write_pseudo_label_quality(run, settings)
    assert json.loads((run / "pseudo_labels.json").read_text(encoding="utf-8")) == quality
    metrics = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
    everything = PixelQuality(metrics["per_class"], thresholds=[0.0])
    for truth in sorted(Path(settings.masks or "").glob("*.png")):
        labels = np.asarray(Image.open(run / "predictions" / truth.name))
        everything.add(np.asarray(Image.open(truth)), labels, np.ones(labels.shape, np.float32))
    assert quality["unit"] == "pixels"
    assert quality["counts"] == everything.result()["counts"]
    (at_0,) = everything.result()["all"]
    assert at_0["precision"] == pytest.approx(metrics["semantic"]["pixel_accuracy"])
    found = [row["pseudo_labels"] for row in quality["all"]]
    assert found == sorted(found, reverse=True)
    assert found[-1] < found[0] <= at_0["pseudo_labels"]
