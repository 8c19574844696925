from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from tlvision.data.batches import Batch
from tlvision.engine.inspect import show
from tlvision.hooks import Duration, initial_plan
from tlvision.plugin import InputSpec, LayerGroup, map_groups
from tlvision.training.phases import find_phases
from tlvision.training.settings import TrainSettings
from tlvision.types import Target

N, SIDE = 2, 8


class Adapter:
    """Two 1x1 convolutions with a tanh between, so that what the backward pass needs can be counted by hand."""

    input_spec = InputSpec(multiple_of=1)

    def __init__(self) -> None:
        self.module: nn.Module = nn.Sequential(nn.Conv2d(3, 5, 1), nn.BatchNorm2d(5), nn.Conv2d(5, 1, 1, bias=False))

    def loss(self, images: torch.Tensor, targets: list[Target]) -> dict[str, torch.Tensor]:
        return {"sum": self.module(images).sum()}


def make_batch() -> Batch:
    return Batch(
        images=torch.zeros((N, 3, SIDE, SIDE), dtype=torch.uint8),
        boxes=torch.zeros((0, 4)),
        labels=torch.zeros(0, dtype=torch.int64),
        counts=(0,) * N,
        matrices=torch.eye(3).repeat(N, 1, 1),
        image_ids=tuple(range(N)),
        sizes=((SIDE, SIDE),) * N,
    )


def test_each_phase_says_what_it_frees_and_what_it_needs() -> None:
    adapter = Adapter()
    groups = (LayerGroup("stem", "stem", ("0", "1")), LayerGroup("head", "head", ("2",)))
    plan = initial_plan(adapter.module, map_groups(adapter.module, groups), Duration(2, 10))
    plan = plan.train_from(plan.in_groups([0]), 8, "later")
    before = {name: tensor.clone() for name, tensor in adapter.module.state_dict().items()}
    generator = torch.get_rng_state()
    settings = TrainSettings(epochs=2, optimizer="sgd", device="cpu")
    first, second = find_phases(adapter, plan, settings, make_batch(), batch_size=4)  # type: ignore[arg-type]
    assert (first.first, first.last, first.freed, first.trained, first.total) == (0, 7, ("head",), 5, 35)
    assert (second.first, second.last, second.freed, second.trained) == (8, 19, ("stem",), 35)
    assert (first.gradients, first.optimizer, second.gradients, second.optimizer) == (20, 20, 140, 140)
    assert first.weights == second.weights == 4 * 35 + 4 * 10 + 8
    pixels = 4 * SIDE * SIDE * 4  # bytes of one channel of four images
    # The head keeps its input. The stem keeps the image and the norm's input too, and the norm its two statistics of
    # five numbers, once for a batch: they are scaled with it, from two images to four.
    assert first.activations == 5 * pixels
    assert second.activations == (5 + 3 + 5) * pixels + 2 * (2 * 5 * 4)
    assert second.memory == second.weights + second.gradients + second.optimizer + second.activations
    assert all(torch.equal(before[name], tensor) for name, tensor in adapter.module.state_dict().items())
    assert torch.equal(generator, torch.get_rng_state())


def test_show_prints_the_phases(tiny_config: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    tiny_config["hooks"].append({"gradual_unfreeze": {"at": [0.2, 0.5], "down_to": "backbone.stage4"}})
    tiny_config["train"]["epochs"] = 4
    show(tiny_config)
    printed = capsys.readouterr().out
    rows = [line.split() for line in printed.split("phases; memory")[1].splitlines()[4:] if line.strip()]
    assert [(row[0], row[1]) for row in rows] == [("0", "0"), ("2", "0.6667"), ("6", "2")]
    sums = [float(row[-1]) for row in rows]
    assert sums == sorted(sums)
    assert len(set(sums)) == 3
    assert [row[2] for row in rows[1:]] == ["neck", "backbone.stage4"]
