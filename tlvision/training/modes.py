"""Freeze parameters in one place: no gradient and eval mode, and so no graph and no moving statistics."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor, nn

    from tlvision.hooks import Plan


class Modes:
    """Gradients and modes of a whole model at one step, computed once and cheap to apply before every step.

    A parameter gets a gradient exactly while it is trained. A module that owns parameters is in eval mode while all of
    them are frozen; one without parameters of its own (dropout, drop-path, a norm without affine, a container) while
    all of every layer group that uses it is. Containers of a frozen *head* stay in train mode, because detection heads
    choose by it between returning losses' inputs and finished predictions; and so does a container that is in no group,
    the whole model above all, whose own parameters may be in one.

    parameters: every parameter, and whether it is trained.
    modules:    every module by name, and whether it is in train mode.
    """

    def __init__(self, module: nn.Module, plan: Plan, step: int) -> None:
        self.parameters: dict[str, tuple[Tensor, bool]] = {
            name: (parameter, plan.parameters[name].trainable_at(step)) for name, parameter in module.named_parameters()
        }
        trained = {id(parameter) for parameter, is_trained in self.parameters.values() if is_trained}
        frozen_groups = frozen_depths(plan, step)
        heads = {depth for depth, group in enumerate(plan.groups.groups) if group.role == "head"}
        uses = module_depths(module, plan)
        self.modules: dict[str, tuple[nn.Module, bool]] = {}
        for name, child in module.named_modules():
            own = list(child.parameters(recurse=False))
            is_container = any(True for _ in child.children())
            training = True
            if own and not (is_container and uses[id(child)] == {None}):
                training = any(id(parameter) in trained for parameter in own)
            elif uses[id(child)] <= frozen_groups:
                training = is_container and not uses[id(child)].isdisjoint(heads)
            self.modules[name] = (child, training)

    def apply(self) -> None:
        """Bring the model in line, whoever has called `train()`, `eval()` or `requires_grad_()` on it since."""
        for parameter, is_trained in self.parameters.values():
            if parameter.requires_grad is not is_trained:
                parameter.requires_grad_(is_trained)
            if not is_trained and parameter.grad is not None:
                parameter.grad = None
        for child, training in self.modules.values():
            if child.training is not training:
                child.training = training

    def restrict(self) -> list[nn.Module]:
        """Freeze what the plan freezes, and leave other modules in the modes that another trainer has given them.

        Returns the modules that were in train mode and are not any longer.
        """
        for parameter, is_trained in self.parameters.values():
            if parameter.requires_grad is not is_trained:
                parameter.requires_grad_(is_trained)
        changed = [child for child, training in self.modules.values() if child.training and not training]
        for child in changed:
            child.training = False
        return changed


def set_modes(module: nn.Module, plan: Plan, step: int) -> None:
    """Bring gradients and modes of the whole model in line with the plan at `step`; see `Modes`."""
    Modes(module, plan, step).apply()


def module_depths(module: nn.Module, plan: Plan) -> dict[int, set[int | None]]:
    """Return `{id(module): depths of the groups it is used in}`; None stands for modules in no group.

    One activation or dropout may serve several groups: some model families share a single object.
    """
    depths: dict[int, set[int | None]] = {}
    for name, child in module.named_modules(remove_duplicate=False):
        depths.setdefault(id(child), set()).add(plan.groups.modules.get(name))
    return depths


def frozen_depths(plan: Plan, step: int) -> set[int | None]:
    """Return the depths of the groups in which nothing is trained at `step`."""
    trained = {row.depth for row in plan.parameters.values() if row.trainable_at(step)}
    frozen: set[int | None] = {row.depth for row in plan.parameters.values() if row.depth not in trained}
    return frozen
