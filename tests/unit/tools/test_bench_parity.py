"""The parity benchmark: its command line, the commands of both sides, and the result of a job."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tlvision.types import InputError

FIXED = ("--plugin", "smp", "--weights", "none", "--arch", "A")
PACKAGES = {"mmdet": "mmdet", "mmseg": "mmseg", "smp": "segmentation_models_pytorch", "torchvision": "pycocotools",
            "transformers": "transformers", "yolo": "ultralytics"}  # fmt: skip


@pytest.fixture
def options(parity: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Return `options(…)`, which parses these words after `FIXED`."""

    def parse(*words: str) -> Any:
        monkeypatch.setattr(sys, "argv", ["parity", *FIXED, *words])
        return parity("runner").arguments("description")

    return parse


@pytest.mark.parametrize("side", ["ours", "upstream"])
def test_the_command_of_each_side_starts(
    side: str, parity: Callable[[str], Any], options: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compare = parity("compare")
    commands: list[list[str]] = []

    def run_side(command: list[str], log: Path) -> dict[str, Any]:
        commands.append(command)
        raise SystemExit

    monkeypatch.setattr(compare, "run_side", run_side)
    with pytest.raises(SystemExit):
        compare.measure(options("--data", "D"), side, 7)
    assert " ".join(commands[0][2:]).startswith(f"parity --side {side} --plugin smp --data D ")
    assert options(*commands[0][3:]).seed == 7
    done = subprocess.run([*commands[0], "--help"], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    assert "--weights" in done.stdout


@pytest.mark.parametrize("plugin", list(PACKAGES))
def test_every_plugin_has_a_module_that_trains_with_its_upstream(
    plugin: str, parity: Callable[[str], Any], job: Callable[..., Any]
) -> None:
    if find_spec(PACKAGES[plugin]) is None:
        pytest.skip(f"{PACKAGES[plugin]} is not installed")
    runner = parity("runner")
    module = runner.family(plugin)
    assert callable(module.train)
    accepted = job(plugin, None, **dict.fromkeys(module.SETTINGS, "given"))
    runner.check_settings(accepted, module.SETTINGS)
    refused = sorted({"crop", *runner.UPSTREAM_SETTINGS} - module.SETTINGS)
    assert refused
    for name in refused:
        with pytest.raises(InputError, match=f"upstream side of '{plugin}' has no setting '{name}'. Remove --{name}."):
            runner.run(job(plugin, None, **{name: "given"}))


def test_the_recipes_start_upstreams_side_with_options_that_it_has(
    parity: Callable[[str], Any], tools: Callable[[str], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner, recipes = parity("runner"), tools("benchmarks.recipes")
    work = {"weights": "W.pt", "arch": "yolov8n", "data": tmp_path, "out": tmp_path, "budget": "quick"}
    given = SimpleNamespace(**work, epochs=6, image_size=96, batch=4)
    cell = SimpleNamespace(count=40, folder=tmp_path, images=tmp_path / "images")
    command = recipes.command_for(given, cell, "upstream", 2, tmp_path / "run")
    monkeypatch.setattr(sys, "argv", command[2:])
    job = runner.job_of(runner.arguments("description"))
    assert (job.plugin, job.last, job.seed, job.weights) == ("yolo", True, 2, "W.pt")
    assert (job.freeze, job.lr, job.files.val_labels.name) == (None, None, "both.json")


def test_there_is_a_module_and_a_config_for_each_task(parity: Callable[[str], Any], repository: Path) -> None:
    assert set(parity("tasks").TASKS) == set(PACKAGES) == set(parity("compare").CONFIGS)
    assert all((repository / path).is_file() for path in parity("compare").CONFIGS.values())


def test_files_come_from_the_folder_and_from_options_of_their_own(parity: Callable[[str], Any], options: Any) -> None:
    runner = parity("runner")
    found = runner.job_of(options("--side", "upstream", "--data", "D", "--val-masks", "V", "--crop", "0", "--out", "O"))
    names = ("train_images", "train_labels", "val_images", "val_labels", "classes")
    assert [str(getattr(found.files, name)) for name in names] == [
        *("D/images/train", "D/masks/train", "D/images/val", "V", "D/classes.txt")
    ]
    assert found.out == Path.cwd() / "O"
    assert found.crop is None
    with pytest.raises(InputError, match=r"no path for train_images, val_images, val_labels\. Set --data"):
        runner.job_of(options("--side", "upstream", "--train-json", "T"))
    with pytest.raises(InputError, match=r"'yolo' takes its classes from the json\. Remove --classes"):
        runner.job_of(options("--side", "upstream", "--plugin", "yolo", "--data", "D", "--classes", "C"))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "required: --data"),
        (("--side", "ours"), "required: --data"),
        (("--data", "D", "--lr", "0.1"), "only --side upstream has the option for 'lr'"),
        (("--data", "D", "--freeze", "0"), "only --side upstream has the option for 'freeze'"),
        (("--data", "D", "--last"), "only --side upstream has the option for 'last'"),
        (("--data", "D", "--side", "ours", "--train-json", "T"), "the option for 'train_labels'"),
    ],
)
def test_options_that_the_comparison_would_ignore_are_refused(
    words: tuple[str, ...], message: str, options: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        options(*words)
    assert message in capsys.readouterr().err


def test_the_result_of_a_job(
    parity: Callable[[str], Any], job: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner = parity("runner")

    def train(given: Any, clock: Any) -> Any:
        with clock.training():
            assert clock.peak_memory == 0
        return runner.Outcome(predictions=given.out / "found.json", images=24, upstream="1.2", ap=(0.5,))

    monkeypatch.setattr(runner, "family", lambda plugin: SimpleNamespace(SETTINGS=frozenset(), train=train))
    result = json.loads(json.dumps(runner.run(job("yolo", None, epochs=3))))
    assert result["predictions"] == str(tmp_path / "out" / "found.json")
    assert (tmp_path / "out").is_dir()
    assert 0 < result["train_seconds"] < result["total_seconds"]
    assert result["images_per_second"] == 24 / result["train_seconds"]
    assert result["peak_memory_bytes"] > 1e7
    shown = [result[name] for name in ("epochs", "ap", "upstream", "skipped")]
    assert shown == [3, [0.5], "1.2", []]
