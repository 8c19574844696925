"""Hooks in mmengine's Runner, for any config of mmdet or mmseg: two lines, docs/bridges.md.

    optim_wrapper = dict(constructor="tlvision_bridges.mmengine.TlvisionConstructor",
                         paramwise_cfg=dict(hooks=[dict(layerwise_lr=dict(decay=0.7))]))
    custom_hooks = [dict(type="tlvision_bridges.mmengine.TlvisionHook")]

Steps are iterations of the runner. Importing this module imports mmengine.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from mmengine.hooks import Hook
from mmengine.optim import DefaultOptimWrapperConstructor
from mmengine.registry import HOOKS, OPTIM_WRAPPER_CONSTRUCTORS, OPTIM_WRAPPERS, OPTIMIZERS

from tlvision.bridges.losses import Arguments, Call, Losses
from tlvision.bridges.run import BridgeReport, BridgeRun, ModelParts
from tlvision.hooks import Duration
from tlvision.training.optim import weight_decay_of
from tlvision.training.settings import TrainSettings
from tlvision.types import InputError, InputSpec

if TYPE_CHECKING:
    from torch import Tensor, nn

TRAINER = "mmengine's Runner"
_ANY_LENGTH = Duration(10_000, 10_000)
"""The optimizer is built before the runner tells anyone how long it trains; only steps depend on the length."""
_OWN_KEYS = ("hooks", "new")


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class TlvisionConstructor(DefaultOptimWrapperConstructor):  # type: ignore[misc]
    """Builds an optimizer wrapper whose groups follow the hooks in `paramwise_cfg.hooks`.

    paramwise_cfg: `hooks`, as in a config of tlvision; `new`, globs of parameters that are not pretrained (see
                   `tlvision.bridges.run.ModelParts`). Any other key is mmengine's, and weight decay and rates are then
                   those of its DefaultOptimWrapperConstructor, times what the hooks say. Without other keys, norms,
                   biases and other vectors have no weight decay, as in tlvision's own training.
    """

    def __init__(self, optim_wrapper_cfg: dict[str, Any], paramwise_cfg: dict[str, Any] | None = None) -> None:
        own = dict(paramwise_cfg or {})
        self._specs, self._new = (_plain(own.pop(key, [])) for key in _OWN_KEYS)
        super().__init__(optim_wrapper_cfg, own or None)

    def __call__(self, model: nn.Module) -> Any:
        """Return the optimizer wrapper for `model`; its attribute `tlvision` is the run that the hook drives."""
        module: nn.Module = getattr(model, "module", model)
        parts = ModelParts(new=self._new, input_spec=_input_spec(module))
        run = BridgeRun(module, self._specs, trainer=TRAINER, parts=parts)
        wrapper = super().__call__(module) if self.paramwise_cfg else self._build(module, run)
        run.set_up(wrapper.optimizer, _ANY_LENGTH)
        settings = {**self.optim_wrapper_cfg, "type": self.optim_wrapper_cfg.get("type", "OptimWrapper")}
        # Built again: a wrapper notes how many groups its optimizer has.
        wrapper = OPTIM_WRAPPERS.build(settings, default_args={"optimizer": wrapper.optimizer})
        wrapper.tlvision = run
        wrapper.optimizer.register_step_pre_hook(lambda *_: _require_started(run))
        return wrapper

    def _build(self, module: nn.Module, run: BridgeRun) -> Any:
        """Return a wrapper with one group of each weight decay, by the rule of tlvision's own training."""
        settings = TrainSettings(epochs=1, weight_decay=self.optimizer_cfg.get("weight_decay", 0.0))
        rows = run.plan(_ANY_LENGTH).parameters
        groups: dict[float, list[Tensor]] = {}
        for name, parameter in module.named_parameters():
            groups.setdefault(weight_decay_of(rows[name], parameter, settings), []).append(parameter)
        listed = [{"params": parameters, "weight_decay": decay} for decay, parameters in groups.items()]
        optimizer = OPTIMIZERS.build({**self.optimizer_cfg, "params": listed})
        return OPTIM_WRAPPERS.build({"type": "OptimWrapper"}, default_args={"optimizer": optimizer})


@HOOKS.register_module()
class TlvisionHook(Hook):  # type: ignore[misc]
    """Freezes, adds losses, averages and proves during the run of an optimizer wrapper of `TlvisionConstructor`.

    With the hook `ema`, mmengine validates with the averaged weights, and saves them as `state_dict` of a checkpoint.
    `report` is the proof once training has ended; it is logged as well. RunError if something frozen has changed.
    """

    priority = "VERY_LOW"
    report: BridgeReport | None = None

    def before_train(self, runner: Any) -> None:
        """Begin, with all weights loaded."""
        run, loop = _run_of(runner), runner.train_loop
        duration = Duration(loop.max_epochs, max(loop.max_iters // loop.max_epochs, 1))
        call = Call(add=_add, is_loss=_is_loss, images=_images)
        run.start(runner.optim_wrapper.optimizer, duration, call, step=runner.iter)

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        """Prepare for the iteration."""
        _run_of(runner).begin(runner.iter)

    def after_train(self, runner: Any) -> None:
        """Prove the run."""
        self.report = _run_of(runner).finish(runner.iter)
        runner.logger.info(str(self.report))

    def before_val_epoch(self, runner: Any) -> None:
        """Let the model validate with the averaged weights."""
        if self._is_training(runner):
            self._averaged = _run_of(runner).averaged()
            self._averaged.__enter__()

    def after_val_epoch(self, runner: Any, metrics: Any = None) -> None:
        """Give the model its own weights back."""
        if self._is_training(runner):
            self._averaged.__exit__(None, None, None)

    def before_save_checkpoint(self, runner: Any, checkpoint: dict[str, Any]) -> None:
        """Add the states of hooks; the averaged weights become those that others load."""
        run = _run_of(runner)
        checkpoint["tlvision"] = run.state_dict()
        averaged = run.averaged_state()
        if averaged is not None:
            checkpoint["tlvision_trained"] = checkpoint["state_dict"]
            checkpoint["state_dict"] = type(checkpoint["state_dict"])(averaged)

    def after_load_checkpoint(self, runner: Any, checkpoint: dict[str, Any]) -> None:
        """Restore the states of hooks, and the weights that were trained, if a run is resumed."""
        if getattr(runner, "_resume", False) and "tlvision" in checkpoint:
            _run_of(runner).load_state_dict(checkpoint["tlvision"])
            checkpoint["state_dict"] = checkpoint.pop("tlvision_trained", checkpoint["state_dict"])

    @staticmethod
    def _is_training(runner: Any) -> bool:
        return getattr(runner.optim_wrapper, "tlvision", None) is not None


def _require_started(run: BridgeRun) -> None:
    if not run.started:
        raise InputError(
            "optim_wrapper.constructor: TlvisionConstructor needs the hook that freezes and proves. Add "
            "dict(type='tlvision_bridges.mmengine.TlvisionHook') to custom_hooks."
        )


def _run_of(runner: Any) -> BridgeRun:
    run = getattr(runner.optim_wrapper, "tlvision", None)
    if not isinstance(run, BridgeRun):
        raise InputError(
            "custom_hooks: TlvisionHook needs the optimizer groups of its hooks. Set optim_wrapper.constructor to "
            "'tlvision_bridges.mmengine.TlvisionConstructor', and list the hooks in optim_wrapper.paramwise_cfg.hooks."
        )
    return run


def _is_loss(args: Arguments, kwargs: Mapping[str, Any]) -> bool:
    """Return whether a call of a model computes losses; upstream passes `mode`, by name or as the third argument."""
    return "loss" in (kwargs.get("mode"), *args[2:3])


def _images(args: Arguments, kwargs: Mapping[str, Any]) -> Tensor | None:
    found: Tensor | None = args[0] if args else kwargs.get("inputs")
    return found


def _add(output: dict[str, Any], losses: Losses, args: Arguments, kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Add losses under names that upstream sums: those with "loss" in them."""
    return {**output, **{f"loss_{name.replace('/', '_')}": value for name, value in losses.items()}}


def _input_spec(module: nn.Module) -> InputSpec | None:
    """Return how the model's data_preprocessor normalises images that were loaded as mmcv loads them, as BGR."""
    preprocessor: Any = getattr(module, "data_preprocessor", None)
    if not hasattr(preprocessor, "_enable_normalize"):
        return None
    mean, std = [0.0] * 3, [1.0] * 3
    if preprocessor._enable_normalize:
        mean, std = (each.flatten().expand(3).tolist() for each in (preprocessor.mean, preprocessor.std))
    names = ("_channel_conversion", "channel_conversion")  # of mmdet and of mmseg
    order: Literal["rgb", "bgr"] = "rgb" if any(getattr(preprocessor, name, False) for name in names) else "bgr"
    return InputSpec(
        mean=(mean[0], mean[1], mean[2]), std=(std[0], std[1], std[2]), channel_order=order, value_range=255.0
    )


def _plain(value: Any) -> Any:
    """Return plain dicts and lists in place of mmengine's own."""
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    return [_plain(each) for each in value] if isinstance(value, list | tuple) else value
