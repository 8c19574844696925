"""Losses of classes with weights and focal parameters, in the place of upstream's, which have neither.

The heads keep their modules, their tensors and their names: only their class changes, to one that computes the loss of
classes anew. Heads without such options stay as upstream has them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torchvision.models.detection.fcos import FCOSHead
from torchvision.models.detection.retinanet import RetinaNetClassificationHead
from torchvision.models.detection.roi_heads import RoIHeads

from tlvision.plugin import BuildSpec, constants
from tlvision.plugin.class_weights import weights_in_order
from tlvision.types import InputError
from tlvision_torchvision.architectures import Architecture
from tlvision_torchvision.options import TorchvisionOptions

_FOCAL = ("focal_alpha", "focal_gamma")
_TAKEN: Mapping[str, tuple[str, ...]] = {
    "fasterrcnn": ("class_weights",),
    "maskrcnn": ("class_weights",),
    "retinanet": ("class_weights", *_FOCAL),
    "fcos": ("class_weights", *_FOCAL),
    "ssdlite": (),
}
"""Detector -> its options."""


@dataclass(frozen=True, slots=True)
class ClassLoss:
    """How the loss of classes is computed. weights: of the classes of the data, in order; others as in the options."""

    weights: tuple[float, ...]
    alpha: float
    gamma: float

    def focal(self, logits: Tensor, wanted: Tensor) -> Tensor:
        """Return the sigmoid focal loss, 0-d: Lin et al. 2017, equation 5, times the weight of each class, as a sum.

        logits: (..., C). wanted: (..., C) 0 or 1, of the same type.
        """
        entropy = functional.binary_cross_entropy_with_logits(logits, wanted, reduction="none")
        missed = (wanted - logits.sigmoid()).abs()
        share = wanted * self.alpha + (1 - wanted) * (1 - self.alpha)
        return (constants(self.weights, logits) * share * missed**self.gamma * entropy).sum()


def set_class_loss(model: Any, arch: Architecture, spec: BuildSpec) -> None:
    """Give a detector the loss of classes that `spec.options` ask for; without options it keeps upstream's.

    Raises InputError for an option that the detector has not, or class weights that name no class.
    """
    options = spec.options if spec.options is not None else TorchvisionOptions()
    if not isinstance(options, TorchvisionOptions):
        raise InputError(
            f"model.options: plugin 'torchvision' expects TorchvisionOptions, got {type(options).__name__}"
        )
    taken = _TAKEN[arch.detector]
    if odd := [name for name in options.given() if name not in taken]:
        raise InputError(
            f"model.options: '{arch.name}' has no {' and no '.join(odd)}; remove it"
            + (f". Its options: {', '.join(taken)}." if taken else ", it has no options.")
        )
    weights = weights_in_order(options.class_weights, spec.classes.names)
    alpha = 0.25 if options.focal_alpha is None else options.focal_alpha
    gamma = 2.0 if options.focal_gamma is None else options.focal_gamma
    loss = ClassLoss(weights or (1.0,) * len(spec.classes), alpha, gamma)
    if loss == ClassLoss((1.0,) * len(spec.classes), 0.25, 2.0):
        return  # upstream's own code gives upstream's own bits
    if hasattr(model, "roi_heads"):
        head, kind = model.roi_heads, _WeightedRoIHeads
    elif arch.detector == "fcos":
        head, kind = model.head, _WeightedFCOSHead
    else:
        head, kind = model.head.classification_head, _WeightedRetinaNetHead
    head.__class__ = kind
    head.class_loss = loss


class _WeightedRoIHeads(RoIHeads):  # type: ignore[misc]  # upstream has no types
    """Box heads whose cross entropy has weights of classes."""

    class_loss: ClassLoss

    def select_training_samples(self, proposals: Any, targets: Any) -> Any:
        """Return upstream's samples, and keep their labels."""
        samples = super().select_training_samples(proposals, targets)
        self._labels = torch.cat(samples[2])
        return samples

    def forward(self, features: Any, proposals: Any, image_shapes: Any, targets: Any = None) -> Any:
        """Return what upstream does, with the weighted loss in training."""
        if not self.training:
            return super().forward(features, proposals, image_shapes, targets)
        outputs: list[Any] = []
        watch = self.box_predictor.register_forward_hook(lambda module, inputs, output: outputs.append(output))
        try:
            found, losses = super().forward(features, proposals, image_shapes, targets)
        finally:
            watch.remove()
        logits = outputs[0][0]
        weights = constants((1.0, *self.class_loss.weights), logits)  # the background is the first
        loss = functional.cross_entropy(logits, self._labels, weights)
        del self._labels
        return found, {**losses, "loss_classifier": loss}


class _WeightedRetinaNetHead(RetinaNetClassificationHead):  # type: ignore[misc]
    """The class branch of RetinaNet with weights of classes and focal parameters."""

    class_loss: ClassLoss

    def compute_loss(self, targets: Any, head_outputs: Any, matched_idxs: Any) -> Tensor:
        """Return the loss of the batch: for each image a sum over its anchors, divided by the number of its objects'.

        targets, head_outputs, matched_idxs: upstream's, an item for each image; -1 is background and -2 ignored.
        """
        losses = []
        for target, logits, matched in zip(targets, head_outputs["cls_logits"], matched_idxs, strict=True):
            wanted = _one_hot(target["labels"], matched, logits)
            used = matched != self.BETWEEN_THRESHOLDS
            losses.append(self.class_loss.focal(logits[used], wanted[used]) / (matched >= 0).sum().clamp(min=1))
        return torch.stack(losses).mean()


class _WeightedFCOSHead(FCOSHead):  # type: ignore[misc]
    """The head of FCOS with weights of classes and focal parameters."""

    class_loss: ClassLoss

    def compute_loss(self, targets: Any, head_outputs: Any, anchors: Any, matched_idxs: Any) -> dict[str, Tensor]:
        """Return upstream's losses, that of the classes computed anew; arguments as upstream's."""
        losses: dict[str, Tensor] = super().compute_loss(targets, head_outputs, anchors, matched_idxs)
        scores = head_outputs["cls_logits"]
        rows = [
            _one_hot(each["labels"], matched, logits)
            for each, logits, matched in zip(targets, scores, matched_idxs, strict=True)
        ]
        objects = sum((matched >= 0).sum() for matched in matched_idxs)
        loss = self.class_loss.focal(scores, torch.stack(rows)) / torch.as_tensor(objects).clamp(min=1)
        return {**losses, "classification": loss}


def _one_hot(labels: Tensor, matched: Tensor, logits: Tensor) -> Tensor:
    """Return (A, C) with a 1 where an anchor has an object of the class. matched: (A,), below 0 for none."""
    wanted = torch.zeros_like(logits)
    anchors = torch.where(matched >= 0)[0]
    wanted[anchors, labels[matched[anchors]]] = 1.0
    return wanted
