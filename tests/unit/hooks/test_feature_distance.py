from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import tlvision
from tlvision.data.batches import Views
from tlvision.hooks import StepData
from tlvision.hooks.objectives.feature_distance import FeatureDistance
from tlvision.hooks.side_pass import side_pass
from tlvision.plugin import InputSpec, LayerGroup, Tap, WeightReport, tap_features
from tlvision.training.checkpoint import load_tensors, save_tensors
from tlvision.training.losses import batch_losses
from tlvision.types import InputError

TAPS = (Tap("fine", "0", 4, 1), Tap("coarse", "2", 2, 2))


class TwoTaps:
    input_spec = InputSpec()

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.module = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 2, stride=2))

    @property
    def taps(self) -> tuple[Tap, ...]:
        return TAPS

    @property
    def groups(self) -> tuple[LayerGroup, ...]:
        return (LayerGroup("stem", "stem", ("0", "1", "2")),)

    def features(self, images: Tensor) -> dict[str, Tensor]:
        return tap_features(self.module, TAPS, images)

    def loss(self, images: Tensor, targets: Any) -> dict[str, Tensor]:
        return {"own": self.module(images).mean()}


def make_context(adapter: TwoTaps, loaded: tuple[str, ...] = ("0.weight", "2.weight")) -> Any:
    images = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(2))
    weights = WeightReport(source="file", loaded=loaded)
    context = SimpleNamespace(
        adapter=adapter,
        weights=weights,
        step_data=StepData(batch=None, images=images),  # type: ignore[arg-type]
    )
    return context


def build(adapter: TwoTaps, **options: Any) -> FeatureDistance:
    hook = FeatureDistance(**options)
    hook.prepare(adapter)  # type: ignore[arg-type]
    return hook


def change(adapter: TwoTaps) -> None:
    with torch.no_grad():
        for parameter in adapter.module.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(5)))


def by_hand(adapter: TwoTaps, start: nn.Module, images: Tensor, *, training: bool) -> float:
    """The mean over taps, value by value, with both models in one mode."""
    found, wanted = (
        tap_features(copy.deepcopy(module).train(training), TAPS, images) for module in (adapter.module, start)
    )
    ratios = []
    for tap in ("fine", "coarse"):
        pairs = list(zip(found[tap].flatten().tolist(), wanted[tap].flatten().tolist(), strict=True))
        ratios.append(sum((a - b) ** 2 for a, b in pairs) / sum(b**2 for _, b in pairs))
    return sum(ratios) / 2


def test_losses_are_those_of_a_slow_loop_on_labelled_and_unlabelled_images() -> None:
    adapter = TwoTaps()
    start = copy.deepcopy(adapter.module)
    context, hook = make_context(adapter), build(adapter, taps=["all"], weight=0.3)
    hook.before_fit(context)
    change(adapter)
    context.step_data.features = adapter.features(context.step_data.images)
    losses = hook.losses(context)
    assert [*losses] == ["labelled"]
    assert losses["labelled"].item() == pytest.approx(
        0.3 * by_hand(adapter, start, context.step_data.images, training=True), rel=1e-4
    )
    losses["labelled"].backward()  # type: ignore[no-untyped-call]
    assert adapter.module[0].weight.grad is not None
    assert hook._pretrained is not None
    assert all(p.grad is None and not p.requires_grad for p in hook._pretrained.module.parameters())

    context.step_data.unlabelled = SimpleNamespace(weak=2 * torch.randn(3, 3, 4, 4), strong=None)
    with side_pass(adapter):  # type: ignore[arg-type]
        context.step_data.unlabelled_features = adapter.features(context.step_data.unlabelled.weak)
    own = hook.losses(context)["unlabelled"].item()
    assert own == pytest.approx(
        0.3 * by_hand(adapter, start, context.step_data.unlabelled.weak, training=False), rel=1e-4
    )
    assert not any(part.training for part in hook._pretrained.module.modules())
    assert all(torch.equal(value, start.state_dict()[name]) for name, value in hook.state_dict().items())


def test_it_is_0_while_no_weight_has_moved_and_with_a_weight_of_0_no_statistic_moves() -> None:
    """Whatever other hooks look at; with batch statistics and dropout alike, and with a norm that is frozen."""
    for frozen in (False, True):
        adapter = TwoTaps()
        adapter.module = nn.Sequential(
            adapter.module[0], nn.Sequential(adapter.module[1], nn.Dropout(0.5)), adapter.module[2]
        )
        adapter.module[1].train(not frozen)
        views = Views(weak=torch.zeros(1, 3, 4, 4, dtype=torch.uint8), strong=None, image_ids=(3,))  # type: ignore[arg-type]
        ends = []
        for weight in (None, 0.0, 1.0):
            context = make_context(adapter)
            images = (50 * context.step_data.images + 100).to(torch.uint8)
            batch: Any = SimpleNamespace(
                images=images,
                targets=[],
                image_ids=(1, 2),
                unlabelled=replace(views, weak=images[:1], strong=images[:1]),
            )
            context.progress = 0.0
            hooks = [] if weight is None else [build(adapter, weight=weight, taps=["all"])]
            for hook in hooks:
                hook.before_fit(context)
            state = copy.deepcopy(adapter.module.state_dict())
            losses = batch_losses(context, hooks, batch)
            if weight:
                assert {name: value.item() for name, value in losses.items() if "/" in name} == {
                    "feature_distance/labelled": 0.0,
                    "feature_distance/unlabelled": 0.0,
                }
            ends.append(copy.deepcopy(adapter.module.state_dict()))
            adapter.module.load_state_dict(state)
        for end in ends[1:]:
            assert all(torch.equal(end[name], ends[0][name]) for name in end)


def test_it_does_not_depend_on_the_scale_of_features() -> None:
    values = []
    for scale in (1.0, 100.0):
        adapter = TwoTaps()
        with torch.no_grad():
            adapter.module[0].weight *= scale
            adapter.module[0].bias *= scale  # type: ignore[operator]
        context, hook = make_context(adapter), build(adapter, taps=["finest"])
        hook.before_fit(context)
        context.step_data.features = {
            name: 1.5 * value for name, value in adapter.features(context.step_data.images).items()
        }
        values.append(hook.losses(context)["labelled"].item())
    assert values == pytest.approx([0.25, 0.25], rel=1e-5)


def test_the_pretrained_weights_survive_a_save_and_are_not_taken_again(tmp_path: Path) -> None:
    adapter = TwoTaps()
    context, hook = make_context(adapter), build(adapter)
    hook.before_fit(context)
    start = {name: value.clone() for name, value in adapter.module.state_dict().items()}
    change(adapter)
    save_tensors(tmp_path / "state.safetensors", hook.state_dict())
    resumed = build(adapter)
    resumed.load_state_dict(load_tensors(tmp_path / "state.safetensors"))
    resumed.before_fit(make_context(adapter, loaded=()))
    assert resumed.state_dict().keys() == start.keys()
    assert all(torch.equal(value, start[name]) for name, value in resumed.state_dict().items())
    context.step_data.features = adapter.features(context.step_data.images)
    assert torch.equal(resumed.losses(context)["labelled"], hook.losses(context)["labelled"])


def test_nothing_pretrained_is_an_error(tiny_config: dict[str, Any]) -> None:
    tiny_config["hooks"].append("feature_distance")
    with pytest.raises(InputError, match="feature_distance: nothing was pretrained"):
        tlvision.train(tiny_config)


def test_a_tap_that_is_fresh_or_absent_is_an_error() -> None:
    adapter = TwoTaps()
    with pytest.raises(InputError, match=r"nothing of the tap 'coarse' was pretrained .*; choose among fine"):
        build(adapter).before_fit(make_context(adapter, loaded=("0.weight",)))
    with pytest.raises(InputError, match=r"'feature_distance' needs the tap 'coarsee'.*fine \(stride 1\), coarse"):
        build(adapter, taps=["coarsee"])


@pytest.fixture
def pretrained(adapt_config: dict[str, Any], tmp_path: Path) -> dict[str, Any]:
    """A detector that begins with weights of its own, without unlabelled images in the batch."""
    adapt_config["data"]["batch"] = {"labelled": 4}
    first = tlvision.train({**adapt_config, "run": {"out": str(tmp_path / "first")}}).run
    adapt_config["model"]["weights"] = str(first / "checkpoints" / "last" / "model.safetensors")
    return adapt_config


@pytest.mark.slow
def test_runs_with_and_without_unlabelled_images(
    pretrained: dict[str, Any], tmp_path: Path, losses_of: Callable[[Path, str], list[dict[str, float]]]
) -> None:
    for name, others, expected in (
        ("alone", [], {"labelled"}),
        ("with_taps", ["coral"], {"labelled", "unlabelled"}),
    ):
        pretrained["data"]["batch"] = {"labelled": 4, "unlabelled": 4 if others else 0}
        config = {**pretrained, "hooks": [*pretrained["hooks"], "feature_distance", *others]}
        steps = losses_of(tlvision.train({**config, "run": {"out": str(tmp_path / name)}}).run, "feature_distance")
        assert len(steps) == 6
        assert all(value == 0 for value in steps[0].values()), "no weight has moved"
        for step in steps[1:]:
            assert set(step) == {f"feature_distance/{key}" for key in expected}
            assert all(math.isfinite(value) and value > 0 for value in step.values())


@pytest.mark.slow
def test_a_resumed_run_ends_with_the_same_bits(
    pretrained: dict[str, Any], assert_resumes: Callable[[dict[str, Any], int], None]
) -> None:
    pretrained["hooks"].append("feature_distance")
    assert_resumes(pretrained, 4)
