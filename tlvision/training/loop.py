"""The loop, and nothing else.

    before_fit
    for each epoch:
        before_epoch
        for each step of the epoch:
            learning rates and modes of this step, pure functions of it; before_step between the two
            for each micro-batch:
                losses = adapter.loss(images, targets) + those of objective hooks; stop if not finite; backward
            average the gradients over processes; clip; after_backward
            optimizer step; average the buffers of what is in train mode over processes; after_step
            in the first steps of a phase: proof that what is frozen is frozen (verify.py)
        evaluate, if this epoch is due; after_evaluation
        after_epoch
    after_fit
    close, also after an error

A run resumed at step n continues exactly as the uninterrupted one: images, augmentation, modes and learning rates
depend on the step alone, everything else is restored before `fit` is called.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from tlvision.hooks import ObjectiveHook
from tlvision.plugin import HasTrainingProgress
from tlvision.training.fabric import average, average_gradients, average_numbers, mean_by_name
from tlvision.training.failure import fail_on_bad_loss
from tlvision.training.losses import batch_losses
from tlvision.training.optim import schedule_factor, set_learning_rates

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from tlvision.data.batches import Batch
    from tlvision.training.session import Session


def fit(session: Session) -> None:
    """Train from `session.context.step` to the end of the run, to `session.until`, or until a hook or Ctrl-C stops it.

    Raises RunError if a loss is not finite (the batch is saved) or the disk is full.
    """
    context = session.context
    try:
        session.call("before_fit")
        batches = session.batches(context.step, context.duration.total_steps)
        while session.closed_epochs < context.duration.epochs and not (
            session.stopped or session.paused or session.interrupted()
        ):
            if not train_epoch(session, batches):
                break  # Ctrl-C within an epoch; a complete one is evaluated first, or a resumed run would lack that
            if session.evaluation_is_due():
                session.evaluate()
                session.call("after_evaluation")
            session.closed_epochs += 1
            session.call("after_epoch")
        if not (session.paused or session.interrupted()):
            session.call("after_fit")
    finally:
        session.call_close()


def train_epoch(session: Session, batches: Iterator[Batch]) -> bool:
    """Train to the end of the first epoch that is not closed and return True, or False if Ctrl-C came before it."""
    context = session.context
    last = (session.closed_epochs + 1) * context.duration.steps_per_epoch
    if context.step >= last:
        return True  # resumed between the last step of an epoch and its evaluation
    session.modes().apply()
    if isinstance(context.adapter, HasTrainingProgress):
        context.adapter.set_progress(context.epoch / max(context.duration.epochs - 1, 1))
    session.call("before_epoch")
    first = context.step
    sums: dict[str, float] = {}
    steps = 0
    while context.step < last and not session.interrupted():
        with session.verifier.watch(context.step):
            train_step(session, [next(batches) for _ in range(session.settings.accumulate)])
            steps += 1
            for name, value in context.losses.items():
                sums[name] = sums.get(name, 0.0) + value
            context.losses_mean = {name: value / steps for name, value in sums.items()}
            session.call("after_step")
            context.measures = {}
    if context.step >= last:
        session.check_targets(first)
    return context.step >= last


def train_step(session: Session, batches: list[Batch]) -> None:
    """Take one optimizer step on these micro-batches; afterwards `context.losses` and `context.step` are fresh."""
    context, optimizer = session.context, session.optimizer
    factor = schedule_factor(context.step, context.plan, session.settings)
    set_learning_rates(optimizer, factor, context.step)
    context.lr = session.settings.base_lr * factor
    session.call("before_step")
    session.modes().apply()  # every step: what a hook or an evaluation did to the modes since does not matter
    optimizer.zero_grad(set_to_none=True)
    losses = [_backward(session, batch) for batch in batches]
    flat = iter(torch.stack([value for each in losses for value in each.values()]).tolist())  # the only device sync
    rows = [{name: next(flat) for name in each} for each in losses]
    for batch, row in zip(batches, rows, strict=True):
        if not math.isfinite(sum(row.values())):
            fail_on_bad_loss(session, batch, row)
    context.losses = average_numbers(session.fabric, mean_by_name(rows))

    parameters = [p for group in optimizer.param_groups for p in group["params"] if p.requires_grad]
    average_gradients(session.fabric, parameters)
    torch.nn.utils.clip_grad_norm_(parameters, session.settings.clip)
    session.call("after_backward")
    optimizer.step()
    average(session.fabric, _moving_buffers(session))
    context.step_data = None  # frees its memory
    context.images_seen += sum(len(batch) for batch in batches) * session.fabric.world_size
    context.step += 1


def _backward(session: Session, batch: Batch) -> dict[str, Tensor]:
    """Propagate the summed losses of one micro-batch back and return them, detached, as float32."""
    context = session.context
    session.has_targets = session.has_targets or batch.has_targets()  # on the CPU still
    moved = batch.to(session.fabric.device)
    with session.fabric.autocast():
        losses = {name: loss.float() for name, loss in batch_losses(context, session.hooks, moved).items()}
    total = torch.stack(list(losses.values())).sum()
    (total / session.settings.accumulate).backward()  # type: ignore[no-untyped-call]
    return {name: loss.detach() for name, loss in losses.items()}


def _moving_buffers(session: Session) -> list[Tensor]:
    """Return the floating-point buffers that a step may have moved: of modules in train mode, of hooks' as well."""
    owned = [hook.module for hook in session.hooks if isinstance(hook, ObjectiveHook) and hook.module is not None]
    modules = [each for whole in (session.context.adapter.module, *owned) for each in whole.modules() if each.training]
    found = [buffer for module in modules for buffer in module.buffers(recurse=False) if buffer.is_floating_point()]
    return list({id(buffer): buffer for buffer in found}.values())  # one that two modules share is averaged once
