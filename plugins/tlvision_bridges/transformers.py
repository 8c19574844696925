"""Hooks in the Trainer of Hugging Face: `attach(trainer, hooks)` before `trainer.train()`.

Steps are those of the optimizer (`state.global_step`). Importing this module imports transformers.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from transformers import TrainerCallback

from tlvision.bridges.hooks import HookSpec
from tlvision.bridges.losses import Arguments, Call, Losses, first_images
from tlvision.bridges.models import find_adapter
from tlvision.bridges.run import BridgeReport, BridgeRun, ModelParts
from tlvision.hooks import Duration
from tlvision.plugin import Adapter, LayerGroup, Tap
from tlvision.types import InputError, InputSpec

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

TRAINER = "Hugging Face's Trainer"


class TlvisionCallback(TrainerCallback):
    """Drives hooks during the training of one Trainer; `attach` makes it.

    report: the proof once training has ended; None before.
    """

    report: BridgeReport | None = None

    def __init__(self, run: BridgeRun, call: Call) -> None:
        self._run, self._call = run, call
        self.duration: Duration | None = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **moment: Any) -> None:
        """Begin, with all weights loaded."""
        if self.duration is None:
            raise InputError(
                "attach: the Trainer has its optimizer already. Attach the hooks before the first training."
            )
        optimizer = getattr(moment["optimizer"], "optimizer", moment["optimizer"])  # inside of accelerate's
        self._run.start(optimizer, self.duration, self._call, step=state.global_step)

    def on_step_begin(self, args: Any, state: Any, control: Any, **moment: Any) -> None:
        """Prepare for the step."""
        self._run.begin(state.global_step)

    def on_train_end(self, args: Any, state: Any, control: Any, **moment: Any) -> None:
        """Prove the run."""
        self.report = self._run.finish(state.global_step)


def attach(
    trainer: Any,
    hooks: Sequence[HookSpec],
    *,
    groups: Sequence[LayerGroup] | None = None,
    taps: Sequence[Tap] = (),
    new: Sequence[str] = (),
    input_spec: InputSpec | None = None,
) -> TlvisionCallback:
    """Let `trainer.train()` train with `hooks`; docs/bridges.md.

    trainer: a transformers.Trainer that has not trained yet. It builds its optimizer as always, whose groups are then
             split by layer group.
    hooks:   as in a config: `["ema", {"layerwise_lr": {"decay": 0.8}}]`, or built hooks.
    groups, taps, new, input_spec: see `tlvision.bridges.run.ModelParts`.

    Returns a callback that is added to the trainer; its `report` has the proof after training. With the hook `ema`,
    `trainer.evaluate` evaluates the averaged weights.

    Raises InputError if a hook does not work here, the trainer has an optimizer already, uses several devices, or, for
    hooks that add losses, computes its loss outside of the model.
    """
    module: nn.Module = trainer.model
    _refuse(trainer)
    parts = ModelParts(groups=groups, taps=taps, new=new, input_spec=input_spec)
    run = BridgeRun(module, hooks, trainer=TRAINER, parts=parts, adapter=_adapter(module, parts))
    if run.adds_losses and (trainer.compute_loss_func is not None or trainer.label_smoother is not None):
        raise InputError(
            "attach: hooks add their losses to the model's own, but this Trainer computes another loss "
            "(compute_loss_func or label_smoothing_factor). Remove that, or the hooks that add losses."
        )
    callback = TlvisionCallback(run, Call(add=_adding(trainer), images=_images_of(module)))
    trainer.add_callback(callback)
    create, evaluate = trainer.create_optimizer, trainer.evaluate

    def create_optimizer(model: nn.Module | None = None) -> torch.optim.Optimizer:
        optimizer: torch.optim.Optimizer = create(model)
        if callback.duration is None:
            callback.duration = _duration(trainer)
            run.set_up(optimizer, callback.duration)
        return optimizer

    def evaluate_averaged(*arguments: Any, **options: Any) -> Any:
        with run.averaged():
            return evaluate(*arguments, **options)

    trainer.create_optimizer, trainer.evaluate = create_optimizer, evaluate_averaged
    return callback


def _refuse(trainer: Any) -> None:
    if trainer.optimizer is not None:
        raise InputError(
            "attach: the Trainer has an optimizer already. Attach the hooks before the first training, and give the "
            "class of an optimizer (optimizer_cls_and_kwargs) instead of an optimizer."
        )
    if trainer.args.n_gpu > 1 or trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled:
        raise InputError(
            "attach: the bridge works on one device. Set CUDA_VISIBLE_DEVICES to one, without FSDP or DeepSpeed."
        )
    if trainer.args.torch_compile:
        raise InputError("attach: the bridge cannot change modes inside a compiled model. Set torch_compile=False.")


def _duration(trainer: Any) -> Duration:
    values = trainer.set_initial_training_values(trainer.args, trainer.get_train_dataloader())
    epochs, steps_per_epoch, total = values[0], values[1], values[-1]
    if epochs == sys.maxsize:  # a stream without a length
        return Duration(1, total)
    return Duration(epochs, steps_per_epoch) if epochs * steps_per_epoch == total else Duration(1, total)


def _adapter(module: nn.Module, parts: ModelParts) -> Adapter:
    """Return groups and taps; a model that no plugin knows gets its images by name."""
    name = getattr(module, "main_input_name", "pixel_values")
    return find_adapter(module, parts.groups, parts.taps, lambda model, images: model(**{name: images}))


def _images_of(module: nn.Module) -> Any:
    name = getattr(module, "main_input_name", "pixel_values")

    def images(args: Arguments, kwargs: Mapping[str, Any]) -> Tensor | None:
        found: Tensor | None = kwargs.get(name)
        return first_images(args, kwargs) if found is None else found

    return images


def _adding(trainer: Any) -> Any:
    def add(output: Any, losses: Losses, args: Arguments, kwargs: Mapping[str, Any]) -> Any:
        """Add losses to the model's own, the first of its outputs, as a mean over the accumulated batches."""
        import torch

        extra = torch.stack(list(losses.values())).sum()
        scaled = trainer.loss_is_scaled_for_ga
        if kwargs.get("num_items_in_batch") is not None if scaled is None else scaled:
            extra = extra / trainer.current_gradient_accumulation_steps  # which upstream does not do then
        if isinstance(output, tuple):
            return (output[0] + extra, *output[1:])
        output["loss"] = output["loss"] + extra
        return output

    return add
