"""A schedule of 12 steps with three unfreezings, interrupted after every step: the end is the same to the bit.

Unfreezing at the steps 2, 5 and 9 (three steps an epoch: within an epoch, within, at its start), with a re-warm that
spans two steps, layer-wise rates, AdamW and EMA, and a hook that draws from python's, numpy's and torch's generators.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file

import launch
import tlvision
from fast import first_fast
from interrupt import interrupted
from tiny import config_of
from tlvision.engine import train as runs

SCRIPT = Path(__file__).with_name("doomed.py")
SPEC = importlib.util.spec_from_file_location("doomed", SCRIPT)
assert SPEC is not None
assert SPEC.loader is not None
doomed = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(doomed)
FREED = (2, 5, 9)
FILES = ("model", "optimizer", "hook.ema", "random.0")


def schedule(dataset: Path, out: Path) -> dict[str, Any]:
    hooks = (
        {"checkpoint": {"every_steps": 1}},  # before ema, whose state of the same moment must still be in it
        {"ema": {"decay": 0.9, "warmup": 4}},
        {"layerwise_lr": {"decay": 0.8}},
        {"gradual_unfreeze": {"at": [2 / 12, 5 / 12, 9 / 12], "down_to": "backbone.stage3", "rewarm": 2 / 3}},
        {"log": {"progress": "none", "tensorboard": "off", "every": 1}},
    )
    config = config_of(dataset, out, epochs=4, hooks=hooks)
    config["train"] |= {"optimizer": "adamw", "warmup": 0.2, "verify": "every_step"}
    config["data"]["workers"] = 0
    return config


def end_state(run: Path) -> dict[str, Any]:
    """Everything that the run holds after its last step."""
    folder = run / "checkpoints" / "last"
    state: dict[str, Any] = {"state": json.loads((folder / "state.json").read_text())}
    state["metrics"] = json.loads((run / "metrics.json").read_text())
    state["predictions"] = (run / "predictions.json").read_bytes()
    for name in FILES:
        tensors = load_file(str(folder / f"{name}.safetensors"))
        assert tensors, f"{name} is empty"
        state |= {f"{name}|{key}": tensor for key, tensor in tensors.items()}
        other = folder / f"{name}.json"
        state[f"{name}|others"] = json.loads(other.read_text()) if other.exists() else None
    best = load_file(str(run / "checkpoints" / "best" / "model.safetensors"))
    return state | {f"best|{key}": tensor for key, tensor in best.items()}


def assert_same(left: dict[str, Any], right: dict[str, Any]) -> None:
    assert left.keys() == right.keys()
    differing = [
        key
        for key, value in left.items()
        if not (torch.equal(value, right[key]) if isinstance(value, torch.Tensor) else value == right[key])
    ]
    assert not differing


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory, tiny_dataset: Path) -> dict[str, Any]:
    """The end of the run that nobody interrupts, and the numbers that say that it is a test at all."""
    config = schedule(tiny_dataset, tmp_path_factory.mktemp("straight") / "run")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runs, "build_run", doomed.with_noise)
        run = tlvision.train(config).run
    rows = json.loads((run / "ledger.json").read_text())["rows"]
    assert {row["trainable_from"] for row in rows} == {0, *FREED, None}
    assert {row["rewarm"] for row in rows if row["trainable_from"]} == {2}
    steps = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert sum(line["kind"] == "step" for line in steps) == 12
    return end_state(run)


@pytest.mark.parametrize("step", first_fast([6, 7, 1, 2, 3, 4, 5, 8, 9, 10, 11]))
def test_ctrl_c_after_any_step(
    straight: dict[str, Any], tiny_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    monkeypatch.setattr(runs, "build_run", doomed.with_noise)
    with interrupted(step):
        tlvision.train(schedule(tiny_dataset, tmp_path / "run"))
    assert_same(straight, end_state(tlvision.train({}, resume=tmp_path / "run").run))


@pytest.mark.parametrize(
    ("step", "moment", "resumes_at", "workers"),
    first_fast(
        [
            (7, "saving", 6, 0),
            (1, "saved", 1, 0),
            (2, "saved", 2, 0),  # right before a group is freed
            (3, "saved", 3, 0),  # between the last step of an epoch and its evaluation; within a re-warm
            (6, "evaluated", 6, 0),
            (10, "saved", 10, 2),
        ]
    ),
)
def test_a_process_killed_at_any_moment(  # noqa: PLR0917
    straight: dict[str, Any],
    tiny_dataset: Path,
    tmp_path: Path,
    run_script: Callable[..., subprocess.CompletedProcess[str]],
    step: int,
    moment: str,
    resumes_at: int,
    workers: int,
) -> None:
    config = schedule(tiny_dataset, tmp_path / "run")
    config["data"]["workers"] = workers
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(config))
    assert run_script(str(path), str(step), moment).returncode == -9
    resumed = run_script("--resume", str(tmp_path / "run"))
    assert resumed.returncode == 0, resumed.stderr[-3000:]
    assert f"resumed at step {resumes_at} of 12" in resumed.stdout
    assert_same(straight, end_state(tmp_path / "run"))


@pytest.fixture
def run_script() -> Callable[..., subprocess.CompletedProcess[str]]:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return launch.run_script(SCRIPT, *arguments)

    return run
