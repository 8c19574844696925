"""Hooks in ultralytics' trainers: `attach(model, hooks)` before `model.train(…)`.

ultralytics is AGPL-3.0 and is imported by who uses it: this module works on the model that it is given, and imports
nothing of it. Steps are batches, because ultralytics changes in its warm-up how many of them an optimizer step has.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from tlvision.bridges.hooks import HookSpec, build_hooks
from tlvision.bridges.losses import Arguments, Call, Losses
from tlvision.bridges.run import BridgeReport, BridgeRun, ModelParts
from tlvision.hooks import Duration
from tlvision.plugin import LayerGroup
from tlvision.types import InputError, InputSpec

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

TRAINER = "ultralytics' trainer"
IMAGES = InputSpec()
"""How upstream normalises images: RGB, 0..1."""


class Attachment:
    """Hooks that wait for `model.train`.

    report: the proof of the last training; None before its end.
    """

    report: BridgeReport | None = None


def attach(
    model: Any,
    hooks: Sequence[HookSpec],
    *,
    trainer: type | None = None,
    groups: Sequence[LayerGroup] | None = None,
    new: Sequence[str] = (),
) -> Attachment:
    """Let `model.train(…)` train with `hooks`; docs/bridges.md.

    model:   an `ultralytics.YOLO` (or another Model of it with a trainer).
    hooks:   as in a config: `["ema", {"freeze": {"roles": ["stem", "backbone"]}}]`, or built hooks.
    trainer: a trainer class of yours; None for the one of the model's task. Do not give `model.train` one as well.
    groups, new: see `tlvision.bridges.run.ModelParts`.

    Returns an object whose `report` has the proof after training. With the hook `ema`, its average takes the place of
    ultralytics' own; without it, ultralytics' own is proved as well.

    Raises InputError if a hook does not work here, and `model.train` does if several devices, compile or distillation
    are asked for; `model.train` raises RunError if something frozen has changed.
    """
    build_hooks(hooks, TRAINER)  # what is wrong in them is told now
    base = trainer or getattr(model, "task_map", {}).get(getattr(model, "task", None), {}).get("trainer")
    if base is None:
        raise InputError(f"attach: a {type(model).__name__} has no trainer. Give a YOLO of ultralytics.")
    attachment = Attachment()

    def make(module: nn.Module) -> BridgeRun:
        return BridgeRun(module, hooks, trainer=TRAINER, parts=ModelParts(groups=groups, new=new, input_spec=IMAGES))

    bridged = _bridged(base, make, attachment)

    def require_ours(found: Any) -> None:
        if not isinstance(found, bridged):
            raise InputError(
                "model.train(trainer=…): this trainer would leave the attached hooks out. Give it to attach instead: "
                "attach(model, hooks, trainer=…)."
            )

    model.add_callback("on_pretrain_routine_start", require_ours)
    model.train = partial(model.train, trainer=bridged)
    return attachment


def _bridged(base: Any, make: Callable[[nn.Module], BridgeRun], attachment: Attachment) -> Any:
    """Return a subclass of a trainer of ultralytics that trains with hooks."""

    class BridgedTrainer(base):  # type: ignore[misc]
        """A trainer of ultralytics with hooks of tlvision."""

        _run: Any = None

        def _setup_train(self) -> None:
            _refuse(self)
            super()._setup_train()
            self._start()

        def _start(self) -> None:
            run = self._run
            own = self.ema.ema
            if run.averages:
                self.ema.enabled = False
            call = Call(add=_add, is_loss=_is_loss, images=lambda args, kwargs: args[0]["img"])
            run.start(
                self.optimizer,
                self._duration(),
                call,
                step=self.start_epoch * len(self.train_loader),
                averaged=None if run.averages else own.state_dict,
            )
            self.add_callback("on_train_epoch_start", BridgedTrainer._begin_epoch)
            self.add_callback("on_train_batch_start", BridgedTrainer._begin_batch)
            self.add_callback("on_train_batch_end", BridgedTrainer._end_batch)
            # First, so that callbacks of the user see the averaged weights.
            self.callbacks["on_train_epoch_end"].insert(0, BridgedTrainer._share_average)
            self.callbacks["on_train_end"].insert(0, BridgedTrainer._prove)

        def build_optimizer(self, model: nn.Module, *args: Any, **options: Any) -> torch.optim.Optimizer:
            """Build upstream's optimizer and put the plan of the hooks into it."""
            optimizer: torch.optim.Optimizer = super().build_optimizer(model, *args, **options)
            self._run = make(model)
            rates = {id(each): group["lr"] for group in optimizer.param_groups for each in group["params"]}
            self._run.set_up(optimizer, self._duration())
            for group in optimizer.param_groups:
                # Upstream's warm-up lowers rates of biases from an absolute one; scaled ones rise from 0 as weights do.
                if group.get("param_group") == "bias" and group["lr"] != rates[id(group["params"][0])]:
                    group["param_group"] = "scaled bias"
            return optimizer

        def _duration(self) -> Duration:
            return Duration(self.epochs, len(self.train_loader))

        def _begin_epoch(self) -> None:
            self._batches = 0  # also of an epoch that upstream begins again

        def _begin_batch(self) -> None:
            self._run.begin(self.epoch * len(self.train_loader) + self._batches)

        def _end_batch(self) -> None:
            self._batches += 1

        def _share_average(self) -> None:
            averaged = self._run.averaged_state()
            if averaged is not None:
                self.ema.ema.load_state_dict(averaged)

        def _prove(self) -> None:
            steps = (self.epoch + 1) * len(self.train_loader)
            attachment.report = self._run.finish(steps)

        def train(self) -> Any:
            """Train; what hangs on the model is taken off again if this fails."""
            try:
                return super().train()
            finally:
                if self._run is not None:
                    self._run.close()

    return BridgedTrainer


def _refuse(trainer: Any) -> None:
    """Raise InputError if the trainer would train something else than the model itself."""
    if trainer.world_size > 1:
        raise InputError(f"device: the bridge works on one device, got {trainer.args.device}. Give one.")
    if trainer.args.compile:
        raise InputError("compile: the bridge cannot change modes inside a compiled model. Set compile=False.")
    if getattr(trainer.args, "distill_model", None) is not None:
        raise InputError("distill_model: the bridge does not know the model around student and teacher. Remove it.")


def _is_loss(args: Arguments, kwargs: Mapping[str, Any]) -> bool:
    """Return whether a call of a model computes losses: upstream gives it the whole batch, a dict."""
    return bool(args) and isinstance(args[0], dict)


def _add(output: tuple[Tensor, Any], losses: Losses, args: Arguments, kwargs: Mapping[str, Any]) -> tuple[Tensor, Any]:
    """Add losses to upstream's vector of losses, which it has multiplied by the number of images and will sum."""
    import torch

    total, items = output
    extra = torch.stack(list(losses.values())).sum() * len(args[0]["img"])
    return torch.cat([total.reshape(-1), extra.reshape(1).to(total.dtype)]), items
