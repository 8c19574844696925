"""What frozen means, set in one place: no gradient, eval mode, and so no graph and no moving statistics."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn

    from tlvision.hooks import Plan


def set_modes(module: nn.Module, plan: Plan, step: int) -> None:
    """Bring gradients and modes of the whole model in line with the plan at `step`.

    A parameter gets a gradient exactly while it is trained. A module that owns tensors is in eval mode while all its
    parameters are frozen; one without parameters of its own (dropout, drop-path, a norm without affine, a container)
    while its whole layer group is. Containers of a frozen *head* stay in train mode, because detection heads choose by
    it between returning losses' inputs and finished predictions.
    """
    for name, parameter in module.named_parameters():
        trainable = plan.parameters[name].trainable_at(step)
        parameter.requires_grad_(trainable)
        if not trainable:
            parameter.grad = None
    module.train()
    frozen_groups = _frozen_groups(plan, step)
    heads = {depth for depth, group in enumerate(plan.groups.groups) if group.role == "head"}
    for name, child in module.named_modules():
        own = list(child.parameters(recurse=False))
        depth = plan.groups.modules.get(name)
        if own:
            child.training = any(parameter.requires_grad for parameter in own)
        elif depth in frozen_groups:
            is_container = any(True for _ in child.children())
            child.training = is_container and depth in heads


def _frozen_groups(plan: Plan, step: int) -> set[int]:
    """Return the depths of the groups in which nothing is trained at `step`."""
    trained = {row.depth for row in plan.parameters.values() if row.trainable_at(step)}
    held = {row.depth for row in plan.parameters.values()}
    return held - trained
