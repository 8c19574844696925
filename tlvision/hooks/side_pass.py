"""Forward passes in addition to that of the model's own loss, which change nothing in the model."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tlvision.hooks.generators import kept_generators

if TYPE_CHECKING:
    from torch import Tensor, nn

    from tlvision.plugin import Adapter

    Buffers = list[tuple[nn.Module, str, Tensor]]


def copied_buffers(module: nn.Module) -> Buffers:
    """Return copies of all buffers that a pass in train mode could move, each with its owner and its name there."""
    return [
        (owner, name, buffer.detach().clone())
        for owner in module.modules()
        if owner.training
        for name, buffer in owner._buffers.items()
        if buffer is not None
    ]


@contextmanager
def lent_buffers(copies: Buffers) -> Iterator[None]:
    """Let a module use `copies` in the place of its buffers inside the with-block, and its own afterwards.

    The copies are what is moved, and what a backward pass later reads; the module's own buffers are not touched, also
    not when the block fails.
    """
    own = [(owner, name, owner._buffers[name]) for owner, name, _ in copies]
    try:
        for owner, name, copied in copies:
            owner._buffers[name] = copied
        yield
    finally:
        for owner, name, buffer in own:
            owner._buffers[name] = buffer


@contextmanager
def side_pass(adapter: Adapter, buffers: Buffers | None = None) -> Iterator[None]:
    """Have a model compute inside the with-block as evaluation will, with gradients, and without a trace.

    buffers: what `copied_buffers` gave, the state to compute with; None takes the present one.

    What an objective compares (two domains, or two models) has to pass through the same function, or it sees the
    difference between the functions. So each image is on its own: norms use their running statistics, and dropout and
    drop path are off. Batch statistics would depend on the size of the batch, which differs between domains, and give
    both domains mean 0 and variance 1 in every norm: the very difference that evaluation meets is then not seen.
    Norms that are frozen do the same outside of a side pass. Random numbers that are drawn nevertheless are the same
    in blocks that follow one another, and the generators are restored.

    Containers of a head, and the model itself, keep their mode, because models choose their outputs by it.
    Gradients flow into everything that is trained.
    """
    module = adapter.module
    copies = copied_buffers(module) if buffers is None else [(o, n, copy.clone()) for o, n, copy in buffers]
    silenced = _silenced(adapter)
    try:
        for part in silenced:
            part.training = False
        with lent_buffers(copies), kept_generators():
            yield
    finally:
        for part in silenced:
            part.training = True


def _silenced(adapter: Adapter) -> list[nn.Module]:
    """Return the modules that go into eval mode: all before the heads, and leaf modules of the heads."""
    before = {path for group in adapter.groups if group.role != "head" for path in group.modules}
    found = []
    for path, part in adapter.module.named_modules():
        if path and path.rpartition(".")[0] in before:
            before.add(path)
        silent = path in before or _is_leaf(part) if path else _has_statistics(part)
        if part.training and silent:
            found.append(part)
    return found


def _is_leaf(part: nn.Module) -> bool:
    from torch.nn import MultiheadAttention

    return isinstance(part, MultiheadAttention) or not any(True for _ in part.children())


def _has_statistics(module: nn.Module) -> bool:
    return getattr(module, "running_mean", None) is not None
