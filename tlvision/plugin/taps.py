"""Features at named places, captured with forward hooks, so that no plugin writes hook code."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from tlvision.plugin.protocol import Tap
from tlvision.types import InputError, nearest

if TYPE_CHECKING:
    from torch import Tensor, nn


@contextmanager
def capture(module: nn.Module, taps: Sequence[Tap]) -> Iterator[dict[str, Tensor]]:
    """Collect the outputs of `taps` while `module` runs inside the with-block.

    Yields a dict that is filled by the forward pass: `{tap name: (N, C, H / s, W / s)}`; a place that runs twice keeps
    its last output. The hooks are removed at the end, also after an error.

    Raises InputError if a tap names a module that does not exist, TypeError if its output is not one tensor.
    """
    submodules = dict(module.named_modules()) if taps else {}
    features: dict[str, Tensor] = {}
    handles = []
    try:
        for tap in taps:
            if tap.module_path not in submodules:
                raise InputError(
                    f"tap '{tap.name}': the model has no module '{tap.module_path}'."
                    f"{nearest(tap.module_path, submodules)}"
                )
            handles.append(submodules[tap.module_path].register_forward_hook(_recorder(tap.name, features)))
        yield features
    finally:
        for handle in handles:
            handle.remove()


def _recorder(name: str, features: dict[str, Tensor]):  # type: ignore[no-untyped-def]
    def record(module: nn.Module, inputs: object, output: object) -> None:
        if not hasattr(output, "shape"):
            raise TypeError(f"tap '{name}': expected one tensor as output, got {type(output).__name__}")
        features[name] = output  # type: ignore[assignment]

    return record


@contextmanager
def record(module: nn.Module, path: str | None) -> Iterator[list[Any]]:
    """Collect the outputs, of any type, of one part of `module` while it runs inside the with-block.

    path: of the part in `named_modules`; None records nothing. Yields a list, an item a forward pass.

    >>> from torch import nn
    >>> with record(nn.Sequential(nn.Flatten()), "0") as outputs:
    ...     outputs
    []

    Raises AttributeError where there is no such part.
    """
    outputs: list[Any] = []
    if path is None:
        yield outputs
        return
    handle = module.get_submodule(path).register_forward_hook(lambda part, inputs, output: outputs.append(output))
    try:
        yield outputs
    finally:
        handle.remove()


def tap_features(module: nn.Module, taps: Sequence[Tap], images: Tensor) -> dict[str, Tensor]:
    """Run `module(images)` and return what its taps saw: the body of an adapter's `features`.

    images: (N, 3, H, W) float32, normalised by the adapter's `input_spec`.
    """
    with capture(module, taps) as features:
        module(images)
    return features
