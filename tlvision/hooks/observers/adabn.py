"""Take the statistics of batch norm from the unlabelled images, for evaluation and for the best checkpoint.

Source: Li, Wang, Shi, Hou & Liu, "Adaptive Batch Normalization for practical domain adaptation", Pattern Recognition
80, 2018 (arXiv 1603.04779), algorithm 1: mean and variance of each neuron over the target images, weights as they are.
Differences: mean and variance over all images are combined exactly (Chan, Golub & LeVeque, 1983), not averaged batch
by batch; each layer's input is normalised with the statistics so far, in one pass over the images; and part of the
source's statistics may be kept. The trained weights are not touched: training goes on with its own statistics.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from tlvision.hooks.base import Context, ObserverHook
from tlvision.types import InputError

if TYPE_CHECKING:
    from torch import Tensor, nn


class Adabn(ObserverHook):
    """Re-estimate the running mean and variance of every batch norm on the unlabelled images before each evaluation.

    momentum: how much the target's statistics count against those of training, above 0 up to 1, which is AdaBN.

    Norms of frozen parts, and those that are frozen for good (FrozenBatchNorm2d), take the target's statistics too:
    frozen is a promise about training, whose weights stay bit-equal, and AdaBN is most useful where little is trained.
    Each evaluation costs a prediction of all unlabelled images. Raises InputError if the model has no batch norm.
    """

    uses_target = True

    def __init__(self, *, momentum: Annotated[float, Field(gt=0, le=1)] = 1.0) -> None:
        self.momentum = momentum

    def before_fit(self, context: Context) -> None:
        """Raise InputError if there is nothing to adapt, before a step is wasted."""
        if not _norms(context.adapter.module):
            raise InputError(
                "hooks: 'adabn' needs batch norm with running statistics, and this model has none (its norms, if any, "
                "keep no statistics of images). Remove it."
            )

    def adapt_weights(self, context: Context, weights: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Return copies of the weights, with the statistics of the unlabelled images; see `ObserverHook`."""
        import torch

        module = context.adapter.module
        adapted = {name: tensor.detach().clone() for name, tensor in weights.items()}
        before = {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}
        modes = [(child, child.training) for child in module.modules()]
        # Loading images may draw from torch's generator, which training goes on with.
        with ExitStack() as stack, torch.random.fork_rng(devices=[]), torch.no_grad():
            stack.callback(_set_modes, modes)
            stack.callback(module.load_state_dict, before)
            module.load_state_dict(adapted)
            module.eval()
            norms = _norms(module)
            for norm in {id(each): each for each in norms.values()}.values():
                stack.callback(norm.register_forward_pre_hook(_Estimate(norm, self.momentum)).remove)
            for images in context.unlabelled_batches():
                context.adapter.predict(images)
            for path, norm in norms.items():
                for name in ("running_mean", "running_var"):
                    adapted[f"{path}.{name}"] = getattr(norm, name).detach().clone()
        return adapted


class _Estimate:
    """Statistics of all that a norm has been given so far, written into it before it uses them."""

    def __init__(self, norm: Any, momentum: float) -> None:
        self._momentum = momentum
        self._source = norm.running_mean.double(), norm.running_var.double()
        self._count = 0
        self._mean = self._source[0].new_zeros(self._source[0].shape)
        self._squares = self._mean.clone()

    def __call__(self, norm: Any, inputs: tuple[Tensor, ...]) -> None:
        import torch

        values = inputs[0].float()
        count = values.numel() // values.shape[1]
        if not count:
            return
        variance, mean = torch.var_mean(values, dim=[0, *range(2, values.ndim)], correction=0)
        total, gap = self._count + count, mean.double() - self._mean
        self._squares += count * variance.double() + gap.square() * (self._count * count / total)
        self._mean += gap * (count / total)
        self._count = total
        if total > 1:  # one value has no variance
            share = self._momentum
            variance = self._squares / (total - 1)
            norm.running_mean.copy_((1 - share) * self._source[0] + share * self._mean)
            norm.running_var.copy_((1 - share) * self._source[1] + share * variance)


def _norms(module: nn.Module) -> dict[str, Any]:
    """Return every batch norm that keeps running statistics, under each name it has, frozen variants included."""
    from torch.nn.modules.instancenorm import _InstanceNorm

    return {
        name: child
        for name, child in module.named_modules(remove_duplicate=False)
        if getattr(child, "running_mean", None) is not None
        and getattr(child, "running_var", None) is not None
        and not isinstance(child, _InstanceNorm)
    }


def _set_modes(modes: list[tuple[nn.Module, bool]]) -> None:
    for child, training in modes:
        child.training = training
