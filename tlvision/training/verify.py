"""Proof of the five facts of frozen, at run time: a freeze that is verified and not only set.

    1. no gradient;
    2. eval mode, also while the model runs: every norm, dropout and drop-path;
    3. parameters and buffers stay bit-equal, through momentum and weight decay, in an averaged copy (EMA) as well;
    4. not in the optimizer if frozen for good, without state there if freed later;
    5. a frozen prefix of the model builds no graph.

And the other way round: what is trained has a gradient and is in exactly one optimizer group. Tensors are compared by a
hash, so that a proof needs no second copy of the model.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from itertools import chain
from typing import TYPE_CHECKING, Any, NoReturn

import torch

from tlvision.training.modes import Modes, frozen_depths, module_depths
from tlvision.types import RunError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from tlvision.hooks import Plan

FIRST_STEPS = 3
"""Steps that are watched at the start of a run and of every phase: enough for momentum and decay to show."""

REMEDY = "the plugin or a hook does this: try without the hooks one by one, and `tlvision check-plugin` on the plugin"


class FrozenProof:
    """Hashes of everything frozen at one step of a plan, to prove some steps later that it has not changed.

    Create it right before the steps, after `Modes.apply`; run the steps inside `watching()`; then call `check()`.
    Every fact that does not hold raises RunError with the name of the layer, and ends with `remedy`.
    """

    def __init__(
        self,
        module: nn.Module,
        plan: Plan,
        optimizer: torch.optim.Optimizer,
        step: int,
        *,
        remedy: str = REMEDY,
    ) -> None:
        self._module, self._plan, self._optimizer, self._step = module, plan, optimizer, step
        self._remedy = remedy
        self._modes = Modes(module, plan, step)
        self._frozen_depths = frozen_depths(plan, step)
        self._hashes = {name: _hash(tensor) for name, tensor in self._frozen_tensors()}

    @property
    def frozen(self) -> tuple[str, ...]:
        """Return the names of the parameters and buffers that must not move."""
        return tuple(self._hashes)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Check modes and graph of frozen modules during every forward pass inside the with-block."""
        prefix, uses = self._prefix(), module_depths(self._module, self._plan)
        with ExitStack() as stack:
            for name, (child, training) in self._modes.modules.items():
                if not training:
                    stack.callback(child.register_forward_pre_hook(self._mode_guard(name)).remove)
                if uses[id(child)] <= prefix:
                    stack.callback(child.register_forward_hook(self._graph_guard(name)).remove)
            yield

    def check(self, averaged: Mapping[str, Tensor] | None = None, *, bits: bool = True) -> None:
        """Raise RunError if a fact does not hold.

        averaged: a moving average of the weights by state-dict name, whose frozen part must equal the model's.
        bits:     compare the hashes as well; without, only what costs next to nothing is checked.
        """
        self._check_gradients()
        self._check_optimizer()
        for name, (child, training) in self._modes.modules.items():
            if not training and child.training:
                self._fail(name, "is in train mode")
        if not bits:
            return
        for name, tensor in self._frozen_tensors():
            if _hash(tensor) != self._hashes[name]:
                self._fail(name, "has moved")
            if averaged is not None and name in averaged and _hash(averaged[name]) != self._hashes[name]:
                self._fail(name, "differs in the averaged copy of the weights")

    def _frozen_tensors(self) -> Iterator[tuple[str, Tensor]]:
        """Yield the parameters that are not trained, and the buffers of modules in eval mode or of frozen groups."""
        for name, (parameter, is_trained) in self._modes.parameters.items():
            if not is_trained:
                yield name, parameter
        for name, buffer in self._module.named_buffers():
            owner = name.rpartition(".")[0]
            in_eval = owner in self._modes.modules and not self._modes.modules[owner][1]
            if in_eval or self._plan.groups.buffers.get(name) in self._frozen_depths:
                yield name, buffer

    def _prefix(self) -> set[int | None]:
        """Return the depths of the frozen groups from the input up to the first that is trained."""
        prefix: set[int | None] = set()
        for depth in range(len(self._plan.groups.groups)):
            if depth not in self._frozen_depths:
                break
            prefix.add(depth)
        return prefix

    def _check_gradients(self) -> None:
        now = dict(self._module.named_parameters())
        for name, (parameter, is_trained) in self._modes.parameters.items():
            if now.get(name) is not parameter:
                self._fail(name, "is not the parameter that it was when the run began: the model has replaced it")
            if parameter.requires_grad and not is_trained:
                self._fail(name, "requires a gradient")
            if parameter.grad is not None and not is_trained:
                self._fail(name, "has a gradient")
            if is_trained and not parameter.requires_grad:
                self._fail(name, "is to be trained but requires no gradient", frozen=False)

    def _check_optimizer(self) -> None:
        held = Counter(id(parameter) for group in self._optimizer.param_groups for parameter in group["params"])
        for name, (parameter, is_trained) in self._modes.parameters.items():
            count = held[id(parameter)]
            if self._plan.parameters[name].trainable_from is None:
                if count:
                    self._fail(name, "is in the optimizer")
            elif count != 1:
                self._fail(name, f"is in {count} optimizer groups; it must be in one", frozen=False)
            if not is_trained and self._optimizer.state.get(parameter):
                self._fail(name, "has a state in the optimizer (momentum)")

    def _mode_guard(self, name: str) -> Callable[..., None]:
        def guard(module: nn.Module, inputs: object) -> None:
            if module.training:
                self._fail(name, "runs in train mode")

        return guard

    def _graph_guard(self, name: str) -> Callable[..., None]:
        def guard(module: nn.Module, inputs: object, output: object) -> None:
            if any(tensor.requires_grad for tensor in _tensors(output)):
                self._fail(name, "builds a graph: its output requires a gradient, although all before it is frozen")

        return guard

    def _fail(self, name: str, fact: str, *, frozen: bool = True) -> NoReturn:
        depth = (self._plan.groups.parameters | self._plan.groups.buffers | self._plan.groups.modules).get(name)
        group = "" if depth is None else f" of layer group '{self._plan.groups.groups[depth].name}'"
        state = "is frozen but " if frozen else ""
        raise RunError(f"step {self._step}: '{name}'{group} {state}{fact}; {self._remedy}")


class Verifier:
    """Proves the five facts in the first steps of a run and of every phase, or in every step.

    mode:     "first_steps", "every_step" or "off".
    averaged: returns the averaged weights that are to be proved as well, or None.
    """

    def __init__(
        self,
        module: nn.Module,
        plan: Plan,
        optimizer: torch.optim.Optimizer,
        mode: str,
        averaged: Callable[[], Mapping[str, Tensor] | None],
    ) -> None:
        self._parts = module, plan, optimizer
        self._mode, self._averaged = mode, averaged
        self._boundaries = [*plan.boundaries(), plan.duration.total_steps]
        self._proof: FrozenProof | None = None
        self._last = -1

    @contextmanager
    def watch(self, step: int) -> Iterator[None]:
        """Watch what happens inside the with-block, which is all of `step`, where it is one of the first."""
        if self._mode == "off":
            yield
            return
        if self._proof is None or step in self._boundaries:
            self._begin(step)
        if self._proof is None or step > self._last:
            yield
            return
        with self._proof.watching():
            yield
        whole = self._mode == "every_step" or step == self._last
        self._proof.check(self._averaged() if whole else None, bits=whole)

    def _begin(self, step: int) -> None:
        module, plan, optimizer = self._parts
        Modes(module, plan, step).apply()
        self._proof = FrozenProof(module, plan, optimizer, step)
        end = next(boundary for boundary in self._boundaries if boundary > step)
        self._last = end - 1 if self._mode == "every_step" else min(step + FIRST_STEPS, end) - 1


def _hash(tensor: Tensor) -> bytes:
    """Return a hash of shape, dtype and every bit."""
    flat = tensor.detach().to("cpu").contiguous().reshape(-1).view(torch.uint8)  # (bytes,)
    digest = hashlib.blake2b(f"{tuple(tensor.shape)} {tensor.dtype}".encode(), digest_size=16)
    digest.update(flat.numpy().data)
    return digest.digest()


def _tensors(value: Any) -> Iterator[Tensor]:
    """Yield the tensors in a nest of tuples, lists and dicts."""
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, Mapping):
        yield from chain.from_iterable(_tensors(item) for item in value.values())
    elif isinstance(value, list | tuple):
        yield from chain.from_iterable(_tensors(item) for item in value)
