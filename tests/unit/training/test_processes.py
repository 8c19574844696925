"""One, two and three processes at one global batch: the same losses in the log and the same model."""

from __future__ import annotations

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file

from launch import torchrun, torchrun_itself

GLOBAL_BATCH = 6
RANKS = Path(__file__).with_name("equal_ranks.py")


def trained(config: dict[str, Any], processes: int, folder: Path) -> tuple[list[float], list[dict[str, torch.Tensor]]]:
    """Return the losses in the log, and the state of every rank at the end, of 20 steps."""
    config = deepcopy(config)
    config["data"]["batch"]["labelled"] = GLOBAL_BATCH // processes
    config["run"]["out"] = str(folder / f"of{processes}")
    path = folder / f"of{processes}.yaml"
    path.write_text(yaml.safe_dump(config))
    torchrun(RANKS, str(path), processes=processes)
    run = folder / f"of{processes}"
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    states = [load_file(str(run / f"rank{rank}.safetensors")) for rank in range(processes)]
    return [line["loss"] for line in lines if line["kind"] == "step"], states


@pytest.fixture
def steps_of_20(tiny_config: dict[str, Any]) -> dict[str, Any]:
    """Plain SGD, batch norm frozen (its statistics would be those of a part of the batch), group norm trained."""
    tiny_config["train"] |= {
        "epochs": 10,
        "optimizer": "sgd",
        "lr": 3e-3,  # at a high rate a rounding error decides which cell learns an object
        "weight_decay": 0.05,
        "warmup": 0.0,
        "verify": "every_step",
    }
    tiny_config["evaluate"] = {"every": 10}
    tiny_config["hooks"] = [
        {"freeze": {"roles": ["stem", "backbone"]}},
        {"log": {"progress": "none", "tensorboard": "off", "every": 1}},
    ]
    return tiny_config


def check_equal(
    alone: tuple[list[float], list[dict[str, torch.Tensor]]],
    together: tuple[list[float], list[dict[str, torch.Tensor]]],
) -> None:
    assert len(alone[0]) == len(together[0]) == 20
    assert together[0] == pytest.approx(alone[0], rel=1e-3)
    assert alone[0][0] != pytest.approx(alone[0][-1], rel=0.02), "it learns"
    (wanted,) = alone[1]
    assert torch.equal(wanted["head.unreached"], torch.ones(3, 3)), "no loss reaches it, so nothing decays it"
    for state in together[1]:
        assert state.keys() == wanted.keys()
        for name, tensor in state.items():
            if "constants" in name or name.startswith("backbone.") or "unreached" in name:
                assert torch.equal(tensor, wanted[name]), name
            else:
                torch.testing.assert_close(tensor, wanted[name], rtol=1e-3, atol=1e-5, msg=name)


@pytest.mark.slow
@pytest.mark.parametrize("processes", [2, 3])
def test_processes_train_as_one_does(steps_of_20: dict[str, Any], tmp_path: Path, processes: int) -> None:
    check_equal(trained(steps_of_20, 1, tmp_path), trained(steps_of_20, processes, tmp_path))


@pytest.mark.parametrize("processes", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_means_over_processes(processes: int) -> None:
    torchrun(RANKS, processes=processes)


@pytest.mark.slow
def test_means_over_processes_that_torchrun_itself_starts() -> None:
    torchrun_itself(RANKS)
