"""Training: freezing, learning rates and modes work on the model as they do on any other."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

from tlvision.conformance.check import check
from tlvision.conformance.checks.tools import changed, flat_tensors, restore, same, snapshot, total_loss
from tlvision.training.modes import set_modes
from tlvision.training.optim import schedule_factor
from tlvision.training.verify import FrozenProof
from tlvision.types import listing

if TYPE_CHECKING:
    from torch import Tensor, nn

    from tlvision.conformance.case import Case
    from tlvision.hooks import Plan
    from tlvision.plugin import Adapter
    from tlvision.types import Target

LR = 0.01
STEPS = 3
"""Enough for momentum and weight decay to move what they should not."""


@check(requires=("groups_partition", "gradients_reach_every_group"))
def group_learning_rates(case: Case) -> None:
    """Each layer group has its own learning rate through the schedule, and moves by it."""
    adapter, _ = case.build()
    plan = case.plan(adapter, steps=4)
    count = len(plan.groups.groups)
    for depth in range(count):
        plan = plan.scale_lr(plan.in_groups([depth]), 0.8 ** (count - 1 - depth), "layer-wise")
    practice = case.trainer(adapter, plan, lr=LR, momentum=0.0, weight_decay=0.0, schedule="linear", clip=1e30)
    batch = case.batch(adapter, "square")
    for step in range(2):
        factor = schedule_factor(step, plan, practice.settings)
        before = snapshot(adapter.module)
        practice.take_step(*batch)
        written = {id(p): group["lr"] for group in practice.optimizer.param_groups for p in group["params"]}
        for name, parameter in adapter.module.named_parameters():
            row = plan.parameters[name]
            if row.trainable_from is None:
                continue
            lr = LR * row.lr_scale * factor
            assert id(parameter) in written, (
                f"'{name}' is not the parameter that the optimizer holds: the model has replaced it"
            )
            assert abs(written[id(parameter)] - lr) <= 1e-6 * lr, (
                f"'{name}' has the learning rate {written[id(parameter)]:.4g} in step {step}; expected {lr:.4g}"
            )
            moved = before[name] - parameter.detach()
            wanted = torch.zeros_like(moved) if parameter.grad is None else lr * parameter.grad
            # The difference of two rounded numbers is as exact as the larger of them.
            slack = 1e-6 * before[name].abs().max() + 1e-4 * wanted.abs().max()
            assert bool(((moved - wanted).abs() <= slack).all()), (
                f"'{name}' does not move by learning rate times gradient in step {step}"
            )


@check(requires=("groups_partition", "group_order", "group_learning_rates"), trains=True)
def frozen_prefix(case: Case) -> None:
    """However many groups are frozen from the input on, they stay as they are while the rest is trained."""
    adapter, _ = case.build()
    batch = case.batch(adapter, "square")
    count = len(adapter.groups)
    # All of them before the first step: a parameter that is frozen by then would count as a constant of the model.
    plans = [case.prefix_plan(adapter, depth) for depth in range(count)]
    untouched = snapshot(adapter.module)
    for depth, plan in enumerate(plans):
        restore(adapter.module, untouched)
        _train_frozen(case, adapter, plan, depth, batch)
        moved = changed(adapter.module, untouched)
        depths = plan.groups.parameters | plan.groups.buffers
        early = [name for name in moved if depths[name] < depth]
        assert not early, f"with the first {depth} groups frozen, {listing(early)} moved"
        for late in range(depth, count):
            name = plan.groups.names()[late]
            own = set(plan.in_groups([late])) & set(plan.trained())
            assert not own or own & set(moved), f"with the first {depth} groups frozen, group '{name}' did not move"


def _train_frozen(case: Case, adapter: Adapter, plan: Plan, depth: int, batch: tuple[Tensor, Sequence[Target]]) -> None:
    """Take some steps with the first `depth` groups frozen, and prove of all of them what frozen means."""
    practice = case.trainer(adapter, plan, lr=LR, momentum=0.9, weight_decay=0.1)
    set_modes(adapter.module, plan, 0)
    proof = FrozenProof(adapter.module, plan, practice.optimizer, 0)
    seen: list[list[Tensor]] = []
    with proof.watching():
        for step in range(STEPS):
            adapter.module.train()  # as a hook or an evaluation may have done; the next step sets the modes again
            torch.manual_seed(step)
            with _last_outputs(adapter.module, plan, depth) as outputs:
                practice.take_step(*batch)
            seen.append(list(flat_tensors(outputs)))
    proof.check()
    assert all(same(outputs, seen[0]) for outputs in seen[1:]), (
        f"with the first {depth} groups frozen, their output still changes from step to step on the same images: "
        "something random or averaging in them is in no layer group"
    )


@contextmanager
def _last_outputs(module: nn.Module, plan: Plan, depth: int) -> Iterator[dict[str, Any]]:
    """Collect the last output of every module that the first `depth` groups name."""
    outputs: dict[str, Any] = {}
    modules = dict(module.named_modules())
    handles = []
    for group in plan.groups.groups[:depth]:
        for name in group.modules:
            if name in modules:
                handles.append(modules[name].register_forward_hook(_keeper(name, outputs)))
    try:
        yield outputs
    finally:
        for handle in handles:
            handle.remove()


def _keeper(name: str, outputs: dict[str, Any]) -> Any:
    def keep(module: nn.Module, inputs: Any, output: Any) -> None:
        outputs[name] = [tensor.clone() for tensor in flat_tensors(output)]

    return keep


@check(requires=("groups_partition",))
def evaluation_deterministic(case: Case) -> None:
    """After freezing, training and unfreezing, predictions are the same every time and change nothing in the model."""
    adapter, _ = case.build()
    batch = case.batch(adapter, "wide")
    plan, half = case.plan(adapter), case.prefix_plan(adapter, len(adapter.groups) // 2)
    for each in (half, plan):
        practice = case.trainer(adapter, each, lr=LR)
        for _ in range(2):
            practice.take_step(*batch)
    adapter.module.eval()
    before = snapshot(adapter.module)
    with torch.no_grad():
        first, second = adapter.predict(batch[0]), adapter.predict(batch[0])
    assert same(first, second), "two predictions of the same images differ in eval mode"
    moved = changed(adapter.module, before)
    assert not moved, f"predict() changes {listing(moved)}"
    with torch.no_grad():
        adapter.features(batch[0])
    moved = changed(adapter.module, before)
    assert not moved, f"features() changes {listing(moved)} in eval mode"
    assert not any(child.training for child in adapter.module.modules()), "predict() or features() leaves eval mode"


@check(requires=("losses_finite_and_differentiable",))
def training_goes_on_after_evaluation(case: Case) -> None:
    """An evaluation in between changes nothing for training: the next loss is the same and has its gradients."""
    adapter, _ = case.build()
    images, targets = case.batch(adapter, "square")
    wide, _ = case.batch(adapter, "wide")
    with torch.no_grad():
        before = total_loss(adapter, images, targets)
    adapter.module.eval()
    with torch.inference_mode():
        for each in (wide, images):
            adapter.predict(each)
    adapter.module.train()
    after = total_loss(adapter, images, targets)
    after.backward()  # type: ignore[no-untyped-call]
    assert same(before, after), f"the loss is {before.item():.6g} before an evaluation and {after.item():.6g} after it"


@check(requires=("losses_finite_and_differentiable", "fresh_builds_are_seeded", "evaluation_deterministic"))
def copies_are_separate(case: Case) -> None:
    """A deep copy of the adapter is independent, as a teacher must be: training the first does not change it."""
    adapter, _ = case.build()
    copied = copy.deepcopy(adapter)
    shared = {id(p) for p in adapter.module.parameters()} & {id(p) for p in copied.module.parameters()}
    assert not shared, f"a deep copy of the adapter shares {len(shared)} parameters with it"
    before = snapshot(copied.module)
    practice = case.trainer(adapter, case.plan(adapter), lr=LR)
    for _ in range(STEPS):
        practice.take_step(*case.batch(adapter, "square"))
    moved = changed(copied.module, before)
    assert not moved, f"training the adapter changes {listing(moved)} of its copy"
    other, _ = case.build()
    images, _ = case.batch(other, "square")
    for each in (copied, other):
        each.module.eval()
    found = []
    for each in (copied, other):
        torch.manual_seed(0)  # some models draw at random in eval mode too (SegNeXt's matrix factorisation)
        with torch.no_grad():
            found.append((each.features(images), each.predict(images)))
    (features, predictions), (wanted, expected) = found
    assert same(features, wanted), "features() of a copy are not those of its own weights"
    assert same(predictions, expected), "predict() of a copy is not that of its own weights"
