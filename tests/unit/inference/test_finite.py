"""A model of nan is an error, wherever it shows: in weights, in predictions, or only within."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import tlvision
from tiny import QUIET
from tlvision.cli.main import main
from tlvision.engine import train as runs
from tlvision.inference.finite import check_outputs, fail_if_silenced, first_bad_tensor, watch_for_nan
from tlvision.types import Prediction, RunError


def prediction(score: float, box: float = 1.0) -> Prediction:
    return Prediction(
        boxes=torch.tensor([[0.0, 0.0, box, 1.0]]),
        scores=torch.tensor([score]),
        labels=torch.zeros(1, dtype=torch.int64),
    )


def nothing() -> Prediction:
    return Prediction(boxes=torch.zeros(0, 4), scores=torch.zeros(0), labels=torch.zeros(0, dtype=torch.int64))


class Broken(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fine, self.root = torch.nn.ReLU(), torch.nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fine(self.root((-x).sqrt()))


def test_the_first_bad_tensor_is_named() -> None:
    module = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2))
    assert first_bad_tensor(module) is None
    module[1].running_var.fill_(float("inf"))
    assert first_bad_tensor(module) is None, "buffers may hold infinity"
    module[1].running_var.fill_(float("nan"))
    assert first_bad_tensor(module) == "1.running_var"
    with torch.no_grad():
        module[0].bias[1] = float("inf")
    assert first_bad_tensor(module) == "0.bias"


@pytest.mark.parametrize("bad", [prediction(float("nan")), prediction(0.5, float("inf"))])
def test_boxes_and_scores(bad: Prediction) -> None:
    check_outputs([prediction(0.5), nothing()], (3, 7))
    with pytest.raises(RunError, match="the model gives nan: its boxes or scores for the image 7"):
        check_outputs([prediction(0.5), bad], (3, 7))


def test_scores_of_pixels() -> None:
    scores = torch.zeros(2, 3, 4, 4)
    scores[0, 1] = float("-inf")
    check_outputs(scores, (3, 7))
    scores[1, 2, 3, 3] = float("nan")
    with pytest.raises(RunError, match="the model gives nan: its scores of pixels for the image 7"):
        check_outputs(scores, (3, 7))


def test_nan_within_counts_only_if_nothing_is_predicted() -> None:
    module, found = Broken(), list[str]()
    with watch_for_nan(module, found):
        module(torch.ones(2))
    assert found == ["root"]
    assert not any(child._forward_hooks for child in module.modules())
    fail_if_silenced([nothing(), prediction(0.5)], found)
    fail_if_silenced([nothing()], [])
    with pytest.raises(RunError, match=r"the model gives nan .*'root'"):
        fail_if_silenced([nothing(), nothing()], found)


def test_a_run_whose_weights_become_nan_stops(tiny_config: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    build = runs.build_session

    def poisoned(*arguments: Any) -> Any:
        session = build(*arguments)
        take = session.optimizer.step

        def step() -> None:
            take()
            if session.context.step == 2:  # the last step of the epoch: no loss shows it before the evaluation
                with torch.no_grad():
                    session.optimizer.param_groups[0]["params"][0].fill_(float("nan"))

        session.optimizer.step = step
        return session

    monkeypatch.setattr(runs, "build_session", poisoned)
    tiny_config["hooks"] = [QUIET]
    with pytest.raises(RunError, match="the model gives nan: its weights are not finite"):
        tlvision.train(tiny_config)
    assert not (Path(tiny_config["run"]["out"]) / "checkpoints" / "best").exists()


def test_predict_and_evaluate_of_a_model_that_gives_nan(
    tiny_config: dict[str, Any], tiny_dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from safetensors.torch import load_file, save_file

    from tlvision.training.manifest import write_manifest

    tiny_config["train"]["epochs"] = 1
    run = tlvision.train(tiny_config).run
    path = run / "checkpoints" / "best" / "model.safetensors"
    state = load_file(str(path))
    name = next(name for name in state if name.endswith("running_var"))
    state[name] = torch.full_like(state[name], -1.0)  # finite, and every output is nan
    save_file(state, str(path), metadata={"classes": '["dark", "light"]'})
    write_manifest(path.parent)
    capsys.readouterr()
    images = str(tiny_dataset / "images")
    commands = (
        ["predict", "--run", str(run), images, "--output", str(tmp_path / "out")],
        ["evaluate", "--run", str(run), "--json", str(tiny_dataset / "val.json"), "--images", images],
    )
    for command in commands:
        assert main(command) == 1
        assert "the model gives nan" in capsys.readouterr().err
