"""The optimizer, with groups fixed at step 0, and the learning rate as a pure function of the step."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch

from tlvision.types import InputError

if TYPE_CHECKING:
    from torch import nn

    from tlvision.hooks import Duration, ParameterPlan, Plan
    from tlvision.training.settings import TrainSettings


def weight_decay_of(row: ParameterPlan, parameter: torch.Tensor, settings: TrainSettings) -> float:
    """Return the weight decay of one parameter: none on norms, biases and other vectors unless a hook asks for it."""
    if row.weight_decay is not None:
        return row.weight_decay
    return settings.weight_decay if parameter.ndim > 1 else 0.0


def build_optimizer(
    module: nn.Module, plan: Plan, settings: TrainSettings, extra: Mapping[str, nn.Module]
) -> torch.optim.Optimizer:
    """Return an optimizer that holds every parameter that is ever trained, exactly once.

    Each group has an explicit `lr` (set for every step by `set_learning_rates`), its peak `peak_lr`, and a `name`
    such as "backbone.stage2/decay". A parameter that is freed later is in its group from the start and has no
    gradient until then, so the optimizer passes it over. `extra` are modules of objective hooks, by hook name.
    """
    groups: dict[tuple[str, float, float], list[torch.Tensor]] = {}
    for name, parameter in module.named_parameters():
        row = plan.parameters[name]
        if row.trainable_from is not None:
            key = (plan.groups.groups[row.depth].name, row.lr_scale, weight_decay_of(row, parameter, settings))
            groups.setdefault(key, []).append(parameter)
    for hook, owned in extra.items():
        for parameter in owned.parameters():
            decay = settings.weight_decay if parameter.ndim > 1 else 0.0
            groups.setdefault((f"hook.{hook}", 1.0, decay), []).append(parameter)
    if not groups:
        raise InputError("hooks: nothing is left to train; freeze less")
    rows = [
        {
            "params": parameters,
            "name": f"{name}/{'decay' if decay else 'no_decay'}",
            "lr": settings.lr * scale,
            "peak_lr": settings.lr * scale,
            "weight_decay": decay,
        }
        for (name, scale, decay), parameters in groups.items()
    ]
    if settings.optimizer == "adamw":
        return torch.optim.AdamW(rows, lr=settings.lr, betas=(settings.momentum, 0.999), fused=True)
    return torch.optim.SGD(rows, lr=settings.lr, momentum=settings.momentum, nesterov=settings.momentum > 0, fused=True)


def schedule_factor(step: int, duration: Duration, settings: TrainSettings) -> float:
    """Return the learning rate at `step` (from 0) as a fraction of its peak, 0..1.

    >>> from types import SimpleNamespace
    >>> settings = SimpleNamespace(warmup=0.1, schedule="linear", final_lr=0.0)
    >>> duration = SimpleNamespace(total_steps=100)
    >>> [round(schedule_factor(step, duration, settings), 2) for step in (0, 9, 10, 55)]
    [0.1, 1.0, 1.0, 0.5]
    """
    warmup = round(settings.warmup * duration.total_steps)
    if step < warmup:
        return (step + 1) / warmup
    done = (step - warmup) / max(duration.total_steps - warmup, 1)
    if settings.schedule == "cosine":
        return settings.final_lr + (1 - settings.final_lr) * 0.5 * (1 + math.cos(math.pi * done))
    if settings.schedule == "linear":
        return settings.final_lr + (1 - settings.final_lr) * (1 - done)
    return 1.0


def set_learning_rates(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Write the learning rate of every group for the coming step."""
    for group in optimizer.param_groups:
        group["lr"] = group["peak_lr"] * factor
