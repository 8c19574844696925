"""Losses of objective hooks, computed while the model of another trainer runs on a batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tlvision.hooks import Context, Hook, ObjectiveHook, StepData
from tlvision.hooks.generators import generator_states, own_generators
from tlvision.plugin import capture
from tlvision.types import RunError

if TYPE_CHECKING:
    from torch import Tensor

Losses = Mapping[str, "Tensor"]
Arguments = tuple[Any, ...]


def first_images(args: Arguments, kwargs: Mapping[str, Any]) -> Tensor | None:
    """Return the first floating-point tensor of four dimensions among the arguments of a forward pass, or None.

    >>> import torch
    >>> first_images((torch.ones(2, 3, 4, 4),), {}).shape, first_images((), {"labels": torch.ones(2)})
    (torch.Size([2, 3, 4, 4]), None)
    """
    import torch

    values = (*args, *kwargs.values())
    return next(
        (each for each in values if torch.is_tensor(each) and each.is_floating_point() and each.ndim == 4), None
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """How a trainer calls its model in training.

    add:     puts losses into the model's output: `add(output, losses, args, kwargs)` returns the new output.
    is_loss: whether a call with these arguments computes the losses of a batch.
    images:  the images among the arguments, (N, 3, H, W), or None.
    """

    add: Callable[[Any, Losses, Arguments, Mapping[str, Any]], Any]
    is_loss: Callable[[Arguments, Mapping[str, Any]], bool] = lambda args, kwargs: True
    images: Callable[[Arguments, Mapping[str, Any]], Tensor | None] = first_images


class HookLosses:
    """Computes the losses of objective hooks for one forward pass after another: `begin`, the pass, `end`."""

    def __init__(self, context: Context, hooks: Sequence[Hook]) -> None:
        self._context = context
        self._hooks = [hook for hook in hooks if isinstance(hook, ObjectiveHook)]
        wanted = {name for hook in self._hooks for name in hook.taps}
        self._taps = [tap for tap in context.adapter.taps if tap.name in wanted]
        self._passes = 0
        self._stack = ExitStack()
        self._features: Mapping[str, Tensor] = {}

    def begin(self, images: Tensor | None) -> None:
        """Note what the hooks compute with, right before the pass. Raises RunError if one needs images without any."""
        import torch

        self.abort()
        if not self._hooks:
            return
        if images is None and self._taps:
            raise RunError("hooks: the model was not given one tensor of images, (N, 3, H, W), which features are of")
        data = StepData(batch=None, images=torch.zeros(0) if images is None else images)  # type: ignore[arg-type]
        data.generators = generator_states()
        self._context.step_data = data
        self._features = self._stack.enter_context(capture(self._context.adapter.module, self._taps))

    def end(self) -> dict[str, Tensor]:
        """Return `{"<hook>/<name>": 0-d tensor}`, weights applied, right after the pass."""
        if not self._hooks:
            return {}
        features = dict(self._features)
        self._stack.close()
        self._context.step_data.features = features
        losses: dict[str, Tensor] = {}
        for hook in self._hooks:
            with own_generators(hook.key(), self._context.step, self._passes):
                found = hook.losses(self._context)
            losses.update({f"{hook.key()}/{name}": value.float() for name, value in found.items()})
        self._passes += 1
        self._context.losses = {name: float(loss.detach()) for name, loss in losses.items()}
        self._context.step_data = None
        return losses

    def abort(self) -> None:
        """Leave a pass that has failed."""
        self._stack.close()
