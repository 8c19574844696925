"""A segmenter of transformers that scores pixels, behind the contract of `tlvision.plugin.Adapter`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from tlvision.plugin import interpolate, label_maps, record, tap_features
from tlvision.plugin.export import ExportGraphs
from tlvision.types import IGNORE_INDEX, InputError, InputSpec, Prediction, Target
from tlvision_transformers.export import PixelGraph, export_segmenter
from tlvision_transformers.groups import find_groups
from tlvision_transformers.taps import add_taps

_AUXILIARY = "auxiliary_head"


class SegmenterAdapter:
    """SegFormer, UperNet or DPT, ready to be fine-tuned.

    model:      upstream's, in train mode; it gets places for taps, which have no state.
    input_spec: image format of its image processor.
    """

    module: nn.Module

    def __init__(self, model: Any, input_spec: InputSpec) -> None:
        self.taps = add_taps(model)
        self.groups = find_groups(model)
        self.module = self._model = model
        self.input_spec = input_spec
        self._auxiliary = _AUXILIARY if getattr(model, _AUXILIARY, None) is not None else None

    def loss(self, images: Tensor, targets: Sequence[Target]) -> Mapping[str, Tensor]:
        """Return "loss_pixel", and "loss_auxiliary" if the model has such a head, with upstream's weight applied.

        images:  (N, 3, H, W) float32, normalised by `input_spec`.
        targets: N targets with `semantic`, (H, W) class indices.

        Each is the cross entropy at the size of the label maps: a mean over the labelled pixels of an image, then over
        the images; 0 for an image without any. It equals upstream's for images that are labelled throughout.
        """
        labels = stack_labels(targets)
        with record(self._model, self._auxiliary) as auxiliary:
            logits = self.dense_logits(images)
        losses = {"loss_pixel": pixel_loss(logits, labels)}
        if auxiliary:
            losses["loss_auxiliary"] = self._model.config.auxiliary_loss_weight * pixel_loss(auxiliary[-1], labels)
        return losses

    def features(self, images: Tensor) -> Mapping[str, Tensor]:
        """Return the features of the taps."""
        return tap_features(self.module, self.taps, images)

    @torch.no_grad()
    def predict(self, images: Tensor) -> Sequence[Prediction]:
        """Return a label map per image, and no boxes."""
        return label_maps(self.dense_logits(images), images.shape[-2:])

    def dense_logits(self, images: Tensor) -> Tensor:
        """Return (N, classes, h, w) logits; SegFormer's have a quarter of the input's height and width."""
        logits: Tensor = self._model(pixel_values=images).logits
        return logits

    def export_graphs(self, images: Tensor) -> ExportGraphs:
        """Return the model up to the logits of every pixel; see `tlvision.plugin.Exportable`."""
        return export_segmenter(PixelGraph(self._model), images, "logits", self.input_spec)


def pixel_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Return cross entropy, float32: in each image the mean over its labelled pixels, then over the images.

    logits: (N, C, h, w) of any size and floating-point type. labels: (N, H, W) int64, IGNORE_INDEX if not labelled.
    """
    with torch.autocast(logits.device.type, enabled=False):
        scores = interpolate(logits, labels.shape[-2:])
        pixels = functional.cross_entropy(scores, labels, ignore_index=IGNORE_INDEX, reduction="none")
        known = (labels != IGNORE_INDEX).sum(dim=(1, 2))
        return (pixels.sum(dim=(1, 2)) / known.clamp(min=1)).mean()


def stack_labels(targets: Sequence[Target]) -> Tensor:
    """Return the label maps of a batch, (N, H, W) int64; InputError if a target has none."""
    maps = [target.semantic for target in targets if target.semantic is not None]
    if len(maps) < len(targets):
        raise InputError(
            f"plugin 'transformers': expected a label map for every image, {len(targets) - len(maps)} of "
            f"{len(targets)} lack it; give `data` label maps or polygons"
        )
    return torch.stack(maps)
