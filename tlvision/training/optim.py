"""The optimizer, with groups fixed at step 0, and the learning rate as a pure function of the step."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import torch

from tlvision.types import InputError

MILESTONES = (8 / 12, 11 / 12)
"""Fractions of the run at which the schedule "step" divides the rate by ten."""

if TYPE_CHECKING:
    from torch import nn

    from tlvision.hooks import ParameterPlan, Plan
    from tlvision.training.settings import TrainSettings


def weight_decay_of(row: ParameterPlan, parameter: torch.Tensor, settings: TrainSettings) -> float:
    """Return the weight decay of one parameter: its own or the run's, and none on norms, biases and other vectors."""
    if parameter.ndim <= 1:
        return 0.0
    return settings.weight_decay if row.weight_decay is None else row.weight_decay


def peak_lr_of(row: ParameterPlan, settings: TrainSettings) -> float:
    """Return the learning rate of one parameter where the schedule is at its peak."""
    return (settings.base_lr if row.lr is None else row.lr) * row.lr_scale


def build_optimizer(
    module: nn.Module, plan: Plan, settings: TrainSettings, extra: Mapping[str, nn.Module]
) -> torch.optim.Optimizer:
    """Return an optimizer that holds every parameter that is ever trained, exactly once.

    Each group has an explicit `lr` (set for every step by `set_learning_rates`), its peak `peak_lr`, the step `since`
    which it is trained, the steps of its `rewarm`, and a `name` such as "backbone.stage2/decay". A parameter that is
    freed later is in its group from the start and has no gradient until then, so the optimizer passes it over. `extra`
    are modules of objective hooks, by hook name.

    Raises InputError if nothing is trained, or if the schedule does not fit into the steps after the warm-up.
    """
    schedule_factor(plan.duration.total_steps - 1, plan, settings)  # a schedule that does not fit raises
    groups: dict[tuple[str, float, float, int, int], list[torch.Tensor]] = {}
    for name, parameter in module.named_parameters():
        row = plan.parameters[name]
        if row.trainable_from is not None:
            group, decay = plan.groups.groups[row.depth].name, weight_decay_of(row, parameter, settings)
            key = (group, peak_lr_of(row, settings), decay, row.trainable_from, row.rewarm)
            groups.setdefault(key, []).append(parameter)
    for hook, owned in extra.items():
        for parameter in owned.parameters():
            decay = settings.weight_decay if parameter.ndim > 1 else 0.0
            groups.setdefault((f"hook.{hook}", settings.base_lr, decay, 0, 0), []).append(parameter)
    check_trained(since for _, _, _, since, _ in groups)
    rows = [
        {
            "params": parameters,
            "name": f"{name}/{'decay' if decay else 'no_decay'}",
            "lr": peak,
            "peak_lr": peak,
            "weight_decay": decay,
            "since": since,
            "rewarm": rewarm,
        }
        for (name, peak, decay, since, rewarm), parameters in groups.items()
    ]
    rate, momentum = settings.base_lr, settings.momentum
    if settings.optimizer == "adamw":
        return torch.optim.AdamW(rows, lr=rate, betas=(momentum, 0.999), fused=True)
    return torch.optim.SGD(rows, lr=rate, momentum=momentum, nesterov=momentum > 0, fused=True)


def check_trained(starts: Iterable[int]) -> None:
    """Raise InputError if nothing is trained, or nothing from the first step on.

    starts: the steps from which parameters are trained.
    """
    first = min(starts, default=None)
    if first is None:
        raise InputError("hooks: no parameter is left to train. Freeze less.")
    if first > 0:
        raise InputError(
            f"hooks: nothing is trained before step {first}, because what the hooks leave to train is freed only then; "
            "leave the head, or what else is to learn first, out of the freeze"
        )


def schedule_factor(step: int, plan: Plan, settings: TrainSettings) -> float:
    """Return the learning rate at `step` (from 0) as a fraction of its peak, 0..1.

    >>> from types import SimpleNamespace
    >>> settings = SimpleNamespace(warmup=0.1, schedule="linear", final_lr=0.0)
    >>> plan = SimpleNamespace(duration=SimpleNamespace(total_steps=100), schedule=None)
    >>> [round(schedule_factor(step, plan, settings), 2) for step in (0, 9, 10, 55)]
    [0.1, 1.0, 1.0, 0.5]
    """
    total = plan.duration.total_steps
    warmup = round(settings.warmup * total)
    if step < warmup:
        return (step + 1) / warmup
    if plan.schedule is not None:
        return plan.schedule(step - warmup, max(total - warmup, 1))
    done = (step - warmup) / max(total - warmup, 1)
    if settings.schedule == "cosine":
        return settings.final_lr + (1 - settings.final_lr) * 0.5 * (1 + math.cos(math.pi * done))
    if settings.schedule == "linear":
        return settings.final_lr + (1 - settings.final_lr) * (1 - done)
    if settings.schedule == "step":
        # The "1x" schedule of Detectron (Girshick et al. 2018), to which the recipes of Faster R-CNN go back.
        return 0.1 ** sum(step >= share * total for share in MILESTONES)
    return 1.0


def set_learning_rates(optimizer: torch.optim.Optimizer, factor: float, step: int) -> None:
    """Write the learning rate of every group for `step`: peak * `factor` of the schedule * re-warm."""
    for group in optimizer.param_groups:
        freed = step - group["since"] + 1
        rewarm = min(max(freed, 0) / group["rewarm"], 1.0) if group["rewarm"] else 1.0
        group["lr"] = group["peak_lr"] * factor * rewarm
