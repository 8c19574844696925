"""Keep the fine-tuned weights near the pretrained ones.

Source: Li, Grandvalet & Davoine, "Explicit Inductive Bias for Transfer Learning with Convolutional Networks", ICML
2018, equation 3: alpha / 2 * ||w_s - w_s0||^2 + beta / 2 * ||w_new||^2, w_s the weights that the pretrained model
shares, w_s0 their pretrained values, w_new the rest. Differences: norms and biases (vectors) are left out, as weight
decay leaves them out; and with an adaptive optimizer the pull is normalised like any gradient, so that alpha is not
comparable to the paper's, which used SGD. It takes the place of weight decay: set `train.weight_decay: 0`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from tlvision.hooks.base import Context, ObjectiveHook
from tlvision.types import InputError

if TYPE_CHECKING:
    from torch import Tensor


class L2Sp(ObjectiveHook):
    """Add alpha / 2 * the squared distance from the pretrained weights, and beta / 2 * the squared new weights.

    alpha: weight of the distance, 0 or more; 0.1 in the authors' published commands (SGD).
    beta:  weight of the new part (parameters not loaded whole: the head's last layers), 0 or more; 0.01 there.

    Only parameters that are trained in the current step count. Raises InputError if nothing was pretrained.
    """

    only_model = True

    def __init__(
        self, *, alpha: Annotated[float, Field(ge=0)] = 0.1, beta: Annotated[float, Field(ge=0)] = 0.01
    ) -> None:
        self.alpha, self.beta = alpha, beta
        self._start: dict[str, Tensor] = {}

    def before_fit(self, context: Context) -> None:
        """Remember the pretrained weights, unless a resumed run brought them along."""
        module = context.adapter.module
        if not self._start:
            loaded = set(context.weights.loaded)
            self._start = {
                name: parameter.detach().clone()
                for name, parameter in module.named_parameters()
                if name in loaded and parameter.ndim > 1
            }
        if not self._start:
            raise InputError(
                f"l2_sp: nothing was pretrained ({context.weights.summary()}), so there is nothing to stay near; give "
                "model.weights, or leave l2_sp out"
            )
        device = next(module.parameters()).device
        self._start = {name: tensor.to(device) for name, tensor in self._start.items()}

    def losses(self, context: Context) -> Mapping[str, Tensor]:
        """Return {"distance", "new"}, weights applied; "new" only where something new is trained."""
        import torch

        trained = [
            (name, parameter)
            for name, parameter in context.adapter.module.named_parameters()
            if parameter.requires_grad and parameter.ndim > 1
        ]
        moved = [parameter - self._start[name] for name, parameter in trained if name in self._start]
        new = [parameter for name, parameter in trained if name not in self._start]
        losses = {}
        for key, weight, tensors in (("distance", self.alpha, moved), ("new", self.beta, new)):
            if tensors and not weight:
                losses[key] = tensors[0].new_zeros(())
            elif tensors:
                losses[key] = 0.5 * weight * torch.stack([tensor.square().sum() for tensor in tensors]).sum()
        return losses

    def state_dict(self) -> dict[str, Any]:
        """Return the pretrained weights by name."""
        return dict(self._start)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self._start = dict(state)
