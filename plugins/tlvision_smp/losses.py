"""Adapt smp's losses to the contract: ignore IGNORE_INDEX, stay finite and always in the graph.

What keeps smp's own from being taken as they are (0.6):

- SoftCrossEntropyLoss divides by all pixels, the ignored included, has no class weights and fails without smoothing;
  cross entropy is torch's here.
- FocalLoss is nan where every pixel is ignored, LovaszLoss gives no 0-d tensor then, and fails for a single class.
- Cross entropy and focal are means over the known pixels of an image, then over the images. Dice, Jaccard, Lovász and
  Tversky are ratios over all images of the batch at once, as in smp: an image alone rarely has every class.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from segmentation_models_pytorch.losses import DiceLoss, FocalLoss, JaccardLoss, LovaszLoss, TverskyLoss
from torch import Tensor
from torch.nn import functional

from tlvision.plugin import constants
from tlvision.plugin.class_weights import weights_in_order
from tlvision.types import IGNORE_INDEX, InputError, Target
from tlvision_smp.options import SmpOptions

_MODE = "multiclass"
# https://arxiv.org/abs/1706.05721, section 3: missed pixels cost more than invented ones.
_TVERSKY = {"alpha": 0.3, "beta": 0.7}

Loss = Callable[[Tensor, Tensor], Tensor]
"""Of (N, C, H, W) float32 logits and (N, H, W) int64 labels, of which one pixel at least is known; 0-d."""


class Losses:
    """The losses of one model.

    options: which, and their weights. classes: names in the order of the logits.

    Raises InputError if the class weights do not fit the classes.
    """

    def __init__(self, options: SmpOptions, classes: Sequence[str]) -> None:
        weights = weights_in_order(options.class_weights, classes)
        made = _make_losses(options, weights)
        self._terms = {f"loss_{name}": (made[name], weight) for name, weight in options.losses.items()}

    def __call__(self, logits: Tensor, labels: Tensor) -> Mapping[str, Tensor]:
        """Return `{"loss_<name>": 0-d float32}`, weights applied.

        logits: (N, C, H, W) of any floating-point type. labels: (N, H, W) int64, IGNORE_INDEX if nothing is known.
        """
        # Half precision cannot count pixels.
        with torch.autocast(logits.device.type, enabled=False):
            logits = logits.float()
            return {name: weight * loss(logits, labels) for name, (loss, weight) in self._terms.items()}


def _make_losses(options: SmpOptions, weights: tuple[float, ...] | None) -> dict[str, Loss]:
    """Return every loss by name, ready to be called."""
    by_class = None if weights is None else list(weights)
    return {
        "cross_entropy": _cross_entropy(options.label_smoothing, weights),
        "focal": _mean_over_images(FocalLoss(_MODE, ignore_index=IGNORE_INDEX, class_weights=by_class)),
        "dice": DiceLoss(_MODE, ignore_index=IGNORE_INDEX, class_weights=by_class),
        "jaccard": JaccardLoss(_MODE, ignore_index=IGNORE_INDEX, class_weights=by_class),
        "lovasz": _lovasz,
        "tversky": TverskyLoss(_MODE, ignore_index=IGNORE_INDEX, class_weights=by_class, **_TVERSKY),
    }


def _cross_entropy(smoothing: float, weights: tuple[float, ...] | None) -> Loss:
    """Return cross entropy: in each image the mean over known pixels, each as heavy as its class, then over images."""

    def loss(logits: Tensor, labels: Tensor) -> Tensor:
        weight = constants((1.0,) * logits.shape[1] if weights is None else weights, logits)
        pixels = functional.cross_entropy(
            logits, labels, weight=weight, ignore_index=IGNORE_INDEX, label_smoothing=smoothing, reduction="none"
        )
        known = labels != IGNORE_INDEX
        heavy = weight[labels.where(known, 0)] * known
        total = heavy.sum(dim=(1, 2))
        # An image of which nothing is known has the loss 0.
        return (pixels.sum(dim=(1, 2)) / total.where(total > 0, 1.0)).mean()

    return loss


def _mean_over_images(loss: Loss) -> Loss:
    """Return the mean of `loss` over images computed one by one; 0 for an image without a labelled pixel."""

    def mean(logits: Tensor, labels: Tensor) -> Tensor:
        found = [
            loss(scores[None], truth[None]) if bool((truth != IGNORE_INDEX).any()) else scores.sum() * 0.0
            for scores, truth in zip(logits, labels, strict=True)
        ]
        return torch.stack(found).mean()

    return mean


def _lovasz(logits: Tensor, labels: Tensor) -> Tensor:
    """Return Lovász softmax over the classes that are there; 0 with a single class or no known pixel."""
    if logits.shape[1] == 1 or not bool((labels != IGNORE_INDEX).any()):
        return logits.sum() * 0.0
    found: Tensor = LovaszLoss(_MODE, ignore_index=IGNORE_INDEX)(logits, labels)
    return found


def stack_labels(targets: Sequence[Target], arch: str) -> Tensor:
    """Return the label maps of a batch, (N, H, W) int64; InputError if a target has none."""
    maps = [target.semantic for target in targets if target.semantic is not None]
    if len(maps) < len(targets):
        raise InputError(
            f"{arch}: expected a label map for every image, {len(targets) - len(maps)} of {len(targets)} lack it; give "
            "`data` label maps or polygons"
        )
    return torch.stack(maps)
