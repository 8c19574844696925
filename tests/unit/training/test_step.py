"""One optimizer step, with a model small enough to compute by hand."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tlvision.data.batches import Batch
from tlvision.hooks import Context, Duration, Hook, ObjectiveHook, initial_plan
from tlvision.plugin import InputSpec, LayerGroup, Tap, WeightReport, map_groups
from tlvision.training.loop import train_step
from tlvision.training.modes import Modes
from tlvision.training.optim import build_optimizer
from tlvision.training.settings import TrainSettings
from tlvision.types import ClassMap, Target


class MeanAdapter:
    """Its loss is the mean over images of (weight . pixel mean - 1) squared."""

    input_spec = InputSpec()

    def __init__(self) -> None:
        self.module = nn.Sequential(nn.Linear(3, 1, bias=False))
        nn.init.constant_(self.module[0].weight, 0.5)

    @property
    def groups(self) -> tuple[LayerGroup, ...]:
        return (LayerGroup("head", "head", ("0",)),)

    @property
    def taps(self) -> tuple[Tap, ...]:
        return (Tap("out", "0", 1, 1),)

    def loss(self, images: Tensor, targets: list[Target]) -> dict[str, Tensor]:
        assert len(images) == len(targets)
        return {"square": (self.module(images.mean((2, 3))) - 1).square().mean()}


def make_batch(values: list[int]) -> Batch:
    images = torch.tensor(values, dtype=torch.uint8)[:, None, None, None].expand(-1, 3, 2, 2)
    return Batch(
        images=images,
        boxes=torch.zeros(0, 4),
        labels=torch.zeros(0, dtype=torch.int64),
        counts=(0,) * len(values),
        image_ids=tuple(range(len(values))),
        sizes=((2, 2),) * len(values),
        matrices=torch.eye(3, dtype=torch.float64).expand(len(values), 3, 3),
    )


def make_session(hooks: list[Hook] | None = None, **settings: Any) -> Any:
    adapter = MeanAdapter()
    plan = initial_plan(adapter.module, map_groups(adapter.module, adapter.groups), Duration(1, 10))
    chosen = TrainSettings(
        epochs=1, **{"optimizer": "sgd", "lr": 0.1, "momentum": 0.0, "weight_decay": 0.0, **settings}
    )
    context = Context(
        adapter=adapter,  # type: ignore[arg-type]
        plan=plan,
        classes=ClassMap(("a",), (1,)),
        run_dir=Path(),
        weights=WeightReport(source="none"),
        is_main=True,
        duration=plan.duration,
        select="bbox/AP",
    )
    return SimpleNamespace(
        context=context,
        hooks=hooks or [],
        modes=lambda: Modes(adapter.module, plan, context.step),
        settings=chosen,
        has_targets=False,
        optimizer=build_optimizer(adapter.module, plan, chosen, {}),
        fabric=SimpleNamespace(world_size=1, device=torch.device("cpu"), autocast=nullcontext),
        call=lambda moment: [getattr(hook, moment)(context) for hook in hooks or []],
    )


def weight_after(session: Any, batches: list[Batch]) -> Tensor:
    context = session.context
    train_step(session, batches)
    return context.adapter.module[0].weight.detach().clone()  # type: ignore[no-any-return]


def test_accumulating_two_halves_is_one_whole_step() -> None:
    whole = weight_after(make_session(), [make_batch([0, 51, 102, 255])])
    halves = weight_after(make_session(accumulate=2), [make_batch([0, 51]), make_batch([102, 255])])
    torch.testing.assert_close(whole, halves)
    assert not torch.equal(whole, torch.full_like(whole, 0.5))


def test_the_step_is_the_one_computed_by_hand() -> None:
    session = make_session(warmup=0.0)
    after = weight_after(session, [make_batch([255])])
    # prediction 1.5, loss 0.25, gradient 2 * 0.5 * 1 for each weight, at the full rate 0.1
    torch.testing.assert_close(after, torch.full((1, 3), 0.4))
    assert session.context.losses == pytest.approx({"square": 0.25})
    assert (session.context.step, session.context.images_seen) == (1, 1)


def test_the_gradient_is_clipped_to_its_largest_norm() -> None:
    after = weight_after(make_session(warmup=0.0, clip=0.01), [make_batch([255])])
    assert float((after - 0.5).norm()) == pytest.approx(0.1 * 0.01, rel=1e-3)


class PullTap(ObjectiveHook):
    """Adds the mean of a tap to the loss."""

    taps = ("out",)

    def losses(self, context: Context) -> dict[str, Tensor]:
        assert context.step_data.features["out"].shape == (len(context.step_data.images), 1)
        return {"mean": 10 * context.step_data.features["out"].mean()}


def test_an_objective_adds_to_the_sum_and_sees_the_features_of_the_same_forward_pass() -> None:
    session = make_session(hooks=[PullTap()], warmup=0.0, clip=1e9)
    after = weight_after(session, [make_batch([255])])
    # 1.0 from the square as above, 10 from the objective
    torch.testing.assert_close(after, torch.full((1, 3), 0.5 - 0.1 * 11))
    assert session.context.losses == pytest.approx({"square": 0.25, "pull_tap/mean": 15.0})
    with pytest.raises(RuntimeError, match="only within a step"):
        _ = session.context.step_data.batch


def test_all_moments_of_a_step_come_once_and_in_order() -> None:
    seen: list[str] = []

    class Recorder(Hook):
        def before_step(self, context: Context) -> None:
            assert context.step == 0
            seen.append("before_step")

        def after_backward(self, context: Context) -> None:
            assert context.adapter.module[0].weight.grad is not None  # type: ignore[index,union-attr]
            seen.append("after_backward")

    session = make_session(hooks=[Recorder()])
    train_step(session, [make_batch([1])])
    assert seen == ["before_step", "after_backward"]
