"""The methods, and one heat map of one image by one of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch

from tlvision.analysis.saliency.attention import attention_layers, attention_map
from tlvision.analysis.saliency.d_rise import d_rise
from tlvision.analysis.saliency.maps import CAMS, eigen_cam
from tlvision.inference.dense import at_original_size
from tlvision.plugin import HasDenseLogits, HasScoreGradients, capture, interpolate
from tlvision.types import InputError, nearest
from tlvision.types.shown import clip

if TYPE_CHECKING:
    from torch import Tensor

    from tlvision.analysis.saliency.subject import Subject, View
    from tlvision.plugin import Adapter, Tap

DEFAULT_MASKS = 500
METHODS = (*CAMS, "d_rise", "attention")
"""Names of the methods."""
Heat = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """A method for one model, with its settings.

    name:  one of `METHODS`. tap: where features are taken; None chooses it for each image, or d_rise has none.
    masks: number of random masks of d_rise. seed: of those masks.
    """

    name: str
    tap: Tap | None = None
    masks: int = DEFAULT_MASKS
    seed: int = 0
    progress: Callable[[int], None] = lambda done: None

    def heat(self, adapter: Adapter, view: View, subject: Subject) -> tuple[Heat | None, Tap | None]:
        """Return the heat at every pixel of the original image, (h, w) float32, at least 0, and the tap.

        The map is None if there is nothing to explain: the model finds no object, or its score does not depend on the
        tap.
        """
        if self.name == "d_rise":
            assert subject.objects is not None
            heat: Tensor | None = d_rise(
                adapter, view.inputs, subject.objects, masks=self.masks, seed=self.seed, progress=self.progress
            )
            tap = None
        elif self.name == "attention":
            inputs = view.inputs.detach().clone().requires_grad_()
            heat, tap = attention_map(adapter, inputs, lambda images: subject.score(adapter, images)), None
        elif self.name == "eigen_cam":
            assert self.tap is not None
            with torch.no_grad():
                heat, tap = eigen_cam(adapter.features(view.inputs)[self.tap.name][0]), self.tap
        else:
            heat, tap = _gradient_map(self.name, adapter, view, subject, self.tap)
        return (None if heat is None else _to_image(heat, view)), tap


def choose_method(adapter: Adapter, name: str | None, tap_name: str | None) -> Method:
    """Return the method of this name, or the default for this model, at a tap.

    Raises InputError if the model cannot do it, or has no such tap.
    """
    dense = isinstance(adapter, HasDenseLogits)
    differentiable = dense or isinstance(adapter, HasScoreGradients)
    if name is None:
        name = "grad_cam" if dense else "hires_cam" if differentiable else "d_rise"
    if name == "d_rise" and dense:
        raise InputError(
            "explain: d_rise explains detections, and this model predicts label maps. Use grad_cam, hires_cam or "
            "eigen_cam."
        )
    if name in {"grad_cam", "hires_cam", "attention"} and not differentiable:
        raise InputError(
            f"explain: {name} needs scores with gradients, which this model does not offer (HasScoreGradients). Use "
            "d_rise or eigen_cam."
        )
    if name == "attention" and not attention_layers(adapter):
        raise InputError(
            "explain: this model has no attention maps (torch.nn.MultiheadAttention). Use another --method."
        )
    tap = find_tap(adapter, tap_name)
    if name not in CAMS and tap is not None:
        raise InputError(f"explain: {name} uses no tap. Remove --tap.")
    if tap is None and name in CAMS and (name == "eigen_cam" or dense):
        tap = [each for each in adapter.taps if each.stride == max(tap.stride for tap in adapter.taps)][-1]
    return Method(name=name, tap=tap)


def find_tap(adapter: Adapter, name: str | None) -> Tap | None:
    """Return the tap of this name, None for None; InputError with the nearest name if there is none."""
    if name is None:
        return None
    taps = {tap.name: tap for tap in adapter.taps}
    if name not in taps:
        raise InputError(f"explain: --tap: this model has no tap '{clip(name)}'.{nearest(name, taps)}")
    return taps[name]


def _gradient_map(
    method: str, adapter: Adapter, view: View, subject: Subject, tap: Tap | None
) -> tuple[Tensor | None, Tap | None]:
    """Return the map (h, w) and its tap: the given one, or the last that the model runs and the score depends on.

    Of a pyramid this is the level that a detection comes from.
    """
    taps = [tap] if tap is not None else list(adapter.taps)
    inputs = view.inputs.detach().clone().requires_grad_()  # a graph exists also if every parameter is frozen
    with torch.enable_grad(), capture(adapter.module, taps) as features:
        score = subject.score(adapter, inputs)
    if score is None:
        return None, tap
    gradients = _gradients(score, [*features.values()], method)
    by_name = {each.name: each for each in taps}
    for (name, values), gradient in reversed([*zip(features.items(), gradients, strict=True)]):  # as they ran
        if gradient is not None and bool(gradient.any()):
            return CAMS[method](values[0], gradient[0]), by_name[name]
    return None, tap


def _gradients(score: Tensor, features: Sequence[Tensor], method: str) -> Sequence[Tensor | None]:
    """Return the gradient of a score at each feature map; InputError if upstream's code has none."""
    with suppress(NotImplementedError):  # of an operator without a backward pass
        if score.requires_grad:
            return torch.autograd.grad(score, features, allow_unused=True)
    raise InputError(f"explain: {method} needs gradients, which this model's own code cuts. Use d_rise or eigen_cam.")


def _to_image(heat: Tensor, view: View) -> Heat:
    """Return a map of the network input, at any stride, at the pixels of the original image."""
    whole = interpolate(heat[None, None].cpu(), view.inputs.shape[2:])[0]
    ((_, part),) = at_original_size(whole, view.matrix, view.size)
    found: Heat = part[0].clamp(min=0).numpy()
    return found
