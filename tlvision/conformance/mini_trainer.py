"""A plain training step out of the core's own parts, for checks that need a model to be trained."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from tlvision.plugin import HasTrainingProgress
from tlvision.training.modes import set_modes
from tlvision.training.optim import build_optimizer, schedule_factor, set_learning_rates
from tlvision.types import counted

if TYPE_CHECKING:
    from torch import Tensor

    from tlvision.hooks import Plan
    from tlvision.plugin import Adapter
    from tlvision.training.settings import TrainSettings
    from tlvision.types import Target


class MiniTrainer:
    """A training loop on given batches, without data loading, hooks, precision and processes.

    adapter:   the model; its modes, gradients and weights are changed.
    plan:      of what is trained when.
    settings:  learning rate, optimizer, schedule and clipping; the rest is not used.
    optimizer: as the core builds it for this plan.
    step:      steps taken so far.
    """

    def __init__(self, adapter: Adapter, plan: Plan, settings: TrainSettings) -> None:
        self.adapter, self.plan, self.settings = adapter, plan, settings
        self.optimizer = build_optimizer(adapter.module, plan, settings, {})
        self.step = 0

    def take_step(self, images: Tensor, targets: Sequence[Target]) -> dict[str, float]:
        """Train on one batch, given as `Adapter.loss` takes it, and return the losses.

        Raises AssertionError if a loss is not finite.
        """
        duration = self.plan.duration
        set_learning_rates(self.optimizer, schedule_factor(self.step, self.plan, self.settings), self.step)
        set_modes(self.adapter.module, self.plan, self.step)
        if isinstance(self.adapter, HasTrainingProgress) and self.step % duration.steps_per_epoch == 0:
            epoch = self.step // duration.steps_per_epoch
            self.adapter.set_progress(min(epoch / max(duration.epochs - 1, 1), 1.0))
        self.optimizer.zero_grad(set_to_none=True)
        losses = {name: loss.float() for name, loss in self.adapter.loss(images, targets).items()}
        values = {name: loss.item() for name, loss in losses.items()}
        for name, value in values.items():
            assert math.isfinite(value), f"the loss '{name}' is {value} after {counted(self.step, 'step')} of training"
        torch.stack(list(losses.values())).sum().backward()  # type: ignore[no-untyped-call]
        held = [p for group in self.optimizer.param_groups for p in group["params"] if p.requires_grad]
        torch.nn.utils.clip_grad_norm_(held, self.settings.clip)
        self.optimizer.step()
        self.step += 1
        return values
