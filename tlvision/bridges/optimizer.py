"""Put a plan into the optimizer of another trainer: rates and weight decay by layer group, and nothing frozen."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from tlvision.types import InputError, listing

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from tlvision.hooks import ParameterPlan, Plan


def regroup(optimizer: torch.optim.Optimizer, module: nn.Module, plan: Plan) -> None:
    """Split the groups of `optimizer` in place until each holds parameters of one rate and decay.

    Parameters that are never trained leave the optimizer. Every other option of a group is kept, as is a parameter
    that is not in `module`. A weight decay that no hook sets stays the trainer's.

    Raises InputError if a learning-rate schedule was built on the optimizer before, which counts its groups, or if the
    optimizer lacks a parameter that the plan trains.
    """
    if any("initial_lr" in group for group in optimizer.param_groups):
        raise InputError(
            "optimizer: a learning-rate schedule was built on it already. Build the schedule after the bridge, because "
            "the bridge changes the optimizer's groups."
        )
    names = {id(parameter): name for name, parameter in module.named_parameters()}
    _check_complete(optimizer, names, plan)
    rows: dict[tuple[Any, ...], dict[str, Any]] = {}
    for index, group in enumerate(optimizer.param_groups):
        for parameter in group["params"]:
            row = plan.parameters[names[id(parameter)]] if id(parameter) in names else None
            if row is not None and row.trainable_from is None:
                optimizer.state.pop(parameter, None)
                continue
            options = {} if row is None else _options(group, row, parameter)
            key = (index, *options.values(), *((row.trainable_from, row.rewarm) if row is not None else ()))
            rows.setdefault(key, {**group, **options, "params": []})["params"].append(parameter)
    optimizer.param_groups[:] = rows.values()


def rates(optimizer: torch.optim.Optimizer, module: nn.Module) -> dict[str, tuple[float, float]]:
    """Return `{parameter name: (learning rate, weight decay)}` of what `optimizer` holds of `module`."""
    names = {id(parameter): name for name, parameter in module.named_parameters()}
    return {
        names[id(parameter)]: (float(group["lr"]), float(group.get("weight_decay", 0.0)))
        for group in optimizer.param_groups
        for parameter in group["params"]
        if id(parameter) in names
    }


def rewarm_of_groups(optimizer: torch.optim.Optimizer, module: nn.Module, plan: Plan) -> list[tuple[int, int]]:
    """Return for each group of `optimizer` the step from which it is trained, and the steps of its re-warm (0: none).

    Raises InputError if the parameters of a group differ in this.
    """
    names = {id(parameter): name for name, parameter in module.named_parameters()}
    found = []
    for group in optimizer.param_groups:
        rows = [plan.parameters[names[id(each)]] for each in group["params"] if id(each) in names]
        kinds = {(row.trainable_from or 0, row.rewarm) for row in rows if row.rewarm} or {(0, 0)}
        if len(kinds) > 1 or (kinds != {(0, 0)} and not all(row.rewarm for row in rows)):
            raise InputError(
                "optimizer: a group has parameters that are freed at different steps, so their rates cannot rise "
                "separately. Do not change the optimizer's groups after the bridge."
            )
        found.append(kinds.pop())
    return found


def _options(group: dict[str, Any], row: ParameterPlan, parameter: Tensor) -> dict[str, float]:
    """Return what the plan says of one parameter, on top of the options of its group."""
    options = {"lr": (group["lr"] if row.lr is None else row.lr) * row.lr_scale}
    if row.weight_decay is not None and parameter.ndim > 1:
        options["weight_decay"] = row.weight_decay
    return options


def _check_complete(optimizer: torch.optim.Optimizer, names: dict[int, str], plan: Plan) -> None:
    held = Counter(names.get(id(parameter)) for group in optimizer.param_groups for parameter in group["params"])
    missing = [name for name in plan.trained() if name not in held]
    if missing:
        raise InputError(
            f"optimizer: it lacks parameters that are to be trained: {listing(missing)}. Add them to the optimizer, "
            "turn off their requires_grad before the bridge, or freeze them with the hook 'freeze'."
        )
