"""A moving average of the weights, used for evaluation and for the best checkpoint.

Source: Polyak & Juditsky, "Acceleration of stochastic approximation by averaging", 1992. Equation:
shadow <- d * shadow + (1 - d) * weight with d = decay * (1 - exp(-updates / warmup)). Differences: pairs by name,
averages parameters *and* floating-point buffers, in full precision, saved and restored. Other buffers are copied, and
so is a number of a buffer whose average is not finite (the -inf of a causal mask).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from tlvision.hooks.base import Context, ObserverHook

if TYPE_CHECKING:
    from torch import Tensor

    from tlvision.plugin import Adapter


class Ema(ObserverHook):
    """Keep an exponential moving average of the model's whole state; it is also the teacher of other hooks.

    decay:  the share of the old average that each step keeps, in the long run; 0 <= decay < 1.
    warmup: number of steps over which that share rises from 0, so that the first steps are forgotten; 0 for none.
    """

    def __init__(
        self,
        *,
        decay: Annotated[float, Field(ge=0, lt=1)] = 0.9999,
        warmup: Annotated[int, Field(ge=0)] = 2000,
    ) -> None:
        self.decay, self.warmup = decay, warmup
        self._updates = 0
        self._shadow: dict[str, Tensor] = {}
        self._parameters: list[str] = []
        self._buffers: list[list[str]] = []

    def before_fit(self, context: Context) -> None:
        """Start from the weights as they are, unless a resumed run brought an average along."""
        if self._shadow:
            device = next(context.adapter.module.parameters()).device
            self._shadow = {name: tensor.to(device) for name, tensor in self._shadow.items()}
        else:
            state = context.adapter.module.state_dict()
            self._shadow = {name: tensor.detach().clone() for name, tensor in state.items()}
        if context.wants_teacher:
            context.teacher = self._as_teacher(context)
        floating = [name for name, tensor in self._shadow.items() if tensor.is_floating_point()]
        trained = {name for name, _ in context.adapter.module.named_parameters(remove_duplicate=False)}
        self._parameters = [name for name in floating if name in trained]
        by_dtype: dict[Any, list[str]] = {}
        for name in floating:
            if name not in trained:
                by_dtype.setdefault(self._shadow[name].dtype, []).append(name)
        self._buffers = list(by_dtype.values())

    def _as_teacher(self, context: Context) -> Adapter:
        """Return a copy of the model whose tensors are the averages, so that updating them updates its predictions."""
        teacher = copy.deepcopy(context.adapter)
        teacher.module.load_state_dict(self._shadow)
        teacher.module.requires_grad_(False).eval()
        self._shadow = dict(teacher.module.state_dict())
        return teacher

    def after_step(self, context: Context) -> None:
        """Move the average towards the weights of this step."""
        import torch
        from torch.optim.swa_utils import get_ema_multi_avg_fn

        self._updates += 1
        keep = self.decay * (1.0 - math.exp(-self._updates / self.warmup)) if self.warmup else self.decay
        state = context.adapter.module.state_dict()
        averaged = {*self._parameters, *(name for group in self._buffers for name in group)}
        with torch.no_grad():
            if self._parameters:
                shadow = [self._shadow[name] for name in self._parameters]
                get_ema_multi_avg_fn(keep)(shadow, [state[name] for name in self._parameters], self._updates)  # type: ignore[no-untyped-call]
            for names in self._buffers:
                _average_finite([self._shadow[name] for name in names], [state[name] for name in names], keep)
            for name in self._shadow.keys() - averaged:
                self._shadow[name].copy_(state[name])

    def evaluation_weights(self) -> Mapping[str, Tensor] | None:
        """Return the averaged state by name."""
        return self._shadow or None

    def state_dict(self) -> dict[str, Any]:
        """Return the average and the number of updates."""
        return {"updates": self._updates, **{f"shadow.{name}": tensor for name, tensor in self._shadow.items()}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self._updates = int(state["updates"])
        prefix = "shadow."
        self._shadow = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}


def _average_finite(shadow: Sequence[Tensor], now: Sequence[Tensor], keep: float) -> None:
    """Move `shadow` towards `now`, in place, and copy the numbers whose average is not finite; all of one dtype.

    In one piece: a model has hundreds of small buffers, and a GPU takes as long to begin with one as with all.
    """
    import torch

    target = torch.cat([tensor.reshape(-1) for tensor in now])  # (sum of sizes,)
    mean = torch.lerp(torch.cat([tensor.reshape(-1) for tensor in shadow]), target, 1 - keep)
    parts = torch.split(torch.where(mean.isfinite(), mean, target), [tensor.numel() for tensor in shadow])
    for tensor, part in zip(shadow, parts, strict=True):
        tensor.copy_(part.view_as(tensor))
