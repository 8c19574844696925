"""A moving average of the weights, used for evaluation and for the best checkpoint.

Source: Polyak & Juditsky, "Acceleration of stochastic approximation by averaging", 1992. Equation:
shadow <- d * shadow + (1 - d) * weight with d = decay * (1 - exp(-updates / warmup)). Different here: pairs by name,
averages parameters *and* floating-point buffers (others are copied), in full precision, saved and restored.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from tlvision.hooks.base import Context, ObserverHook

if TYPE_CHECKING:
    from torch import Tensor

    from tlvision.plugin import Adapter


class Ema(ObserverHook):
    """Keep an exponential moving average of the model's whole state, which is also the teacher of hooks that want one.

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
        self._floating: list[str] = []

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
        self._floating = [name for name, tensor in self._shadow.items() if tensor.is_floating_point()]

    def _as_teacher(self, context: Context) -> Adapter:
        """Return a copy of the model that lives on the average: what is averaged is at once what it predicts with."""
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
        with torch.no_grad():
            get_ema_multi_avg_fn(keep)(  # type: ignore[no-untyped-call]
                [self._shadow[name] for name in self._floating], [state[name] for name in self._floating], self._updates
            )
            for name in self._shadow.keys() - set(self._floating):
                self._shadow[name].copy_(state[name])

    def evaluation_weights(self) -> Mapping[str, Tensor] | None:
        """Return the averaged state by name."""
        return self._shadow or None

    def state_dict(self) -> dict[str, Any]:
        """Return the average and the number of updates."""
        return {"updates": self._updates, **{f"shadow.{name}": tensor for name, tensor in self._shadow.items()}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        self._updates = int(state["updates"])
        prefix = "shadow."
        self._shadow = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
