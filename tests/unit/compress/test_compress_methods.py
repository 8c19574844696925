"""`tlvision compress --method prune distill`: runs that are trained to be smaller, measured beside the given one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import tlvision
from stripes import striped_data
from tiny import QUIET, config_of
from tlvision.cli.main import main
from tlvision.compress.train import METHODS, TrainedMethods, train_methods
from tlvision.config.load import load_config
from tlvision.config.yaml_text import write_yaml


@pytest.fixture
def segmenter(tmp_path: Path, tiny_dataset: Path) -> Path:
    config = config_of(tiny_dataset, tmp_path / "large", epochs=1, hooks=({"layerwise_lr": {"decay": 0.9}}, QUIET))
    config["model"]["arch"] = "tiny_segmenter"
    config["data"] = config["data"] | striped_data(tmp_path / "stripes", 8)
    return tlvision.train(config).run


@pytest.fixture
def student(tmp_path: Path, tiny_dataset: Path) -> Path:
    """A config whose data are not those of the run, with a hook and an input of its own."""
    config = config_of(tiny_dataset, tmp_path / "elsewhere", epochs=2, hooks=({"ema": {"decay": 0.5}}, QUIET))
    config["model"]["arch"] = "tiny_segmenter"
    config["data"] |= {"image_size": 64, "train": {"images": "nowhere", "masks": "nowhere"}}
    path = tmp_path / "student.yaml"
    path.write_text(write_yaml(config))
    return path


@pytest.mark.slow
def test_each_method_trains_its_run_beside_the_given_one(segmenter: Path, student: Path) -> None:
    overrides = ("train.epochs=1", "hooks.log.progress=none")
    chosen = TrainedMethods(methods=("distill", "int8", "prune"), student=str(student), overrides=overrides)
    (pruned, distilled) = train_methods(segmenter, chosen)
    assert (pruned.name, distilled.name) == ("large_prune", "large_distill")
    own, again, learnt = (load_config(each / "config.yaml") for each in (segmenter, pruned, distilled))
    assert [each.name for each in again.hooks] == ["layerwise_lr", "log", "prune"]
    assert Path(again.model.weights).samefile(segmenter / "checkpoints" / "best" / "model.safetensors")
    assert again.data == own.data
    assert [each.name for each in learnt.hooks] == ["ema", "log", "distill"]
    assert (learnt.train.epochs, learnt.data.image_size) == (1, 64)
    assert (learnt.data.train, learnt.data.val, learnt.data.classes) == (own.data.train, own.data.val, own.data.classes)
    losses = [json.loads(row).get("losses", {}) for row in (distilled / "log.jsonl").read_text().splitlines()]
    assert any("distill/scores" in each for each in losses)


def test_nothing_is_trained_if_something_is_wrong(
    small_run: Path, student: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "large"
    run.symlink_to(small_run)
    (tmp_path / "large_distill").mkdir()
    arguments = ["compress", str(run), "--output", str(tmp_path / "out"), "--method"]
    cases = [
        (["prune", "distill", "--student", str(student)], "give --beside "),
        (["distill"], "--method distill needs --student CONFIG"),
        (["prune", "--student", str(student)], "--student is for --method distill"),
        (["int8", "--set", "train.epochs=1"], "--set is for the runs of --method prune and distill"),
    ]
    for given, words in cases:
        assert main([*arguments, *given]) == 2
        assert words in capsys.readouterr().err
    assert not (tmp_path / "large_prune").exists()
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
@pytest.mark.openvino
def test_the_pruned_run_has_rows_of_its_own(segmenter: Path) -> None:
    pytest.importorskip("openvino", reason="an extra")
    out = segmenter.parent / "out"
    assert main(["compress", str(segmenter), "--output", str(out), "--method", "prune", "--max-drop", "0.9"]) == 0
    rows = {row["name"]: row for row in json.loads((out / "table.json").read_text())["rows"]}
    assert list(rows) == ["torch", "onnx", "openvino", "large_prune onnx", "large_prune openvino"]
    assert rows["large_prune onnx"]["megabytes"] < 0.8 * rows["onnx"]["megabytes"]


def test_the_methods_of_the_command_are_these() -> None:
    from argparse import ArgumentParser

    from tlvision.cli.compress import add_arguments

    add_arguments(parser := ArgumentParser())
    assert next(each.choices for each in parser._actions if each.dest == "method") == list(METHODS)
