"""Mask2Former, MaskFormer or EoMT for label maps, behind the contract of `tlvision.plugin.Adapter`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from tlvision.plugin import ScoreKind, label_maps, tap_features
from tlvision.plugin.export import ExportGraphs
from tlvision.types import InputSpec, Prediction, Target
from tlvision_transformers.eomt import is_eomt, record_layers
from tlvision_transformers.export import MaskGraph, export_segmenter
from tlvision_transformers.groups import find_groups
from tlvision_transformers.mask_scores import class_scores
from tlvision_transformers.segmenter import stack_labels
from tlvision_transformers.taps import add_taps


class MaskTransformer:
    """What the two tasks of a mask transformer have in common: losses by mask, and features.

    model: upstream's, in train mode; it gets places for taps, which have no state.
    """

    module: nn.Module

    def __init__(self, model: Any, input_spec: InputSpec) -> None:
        self.taps = add_taps(model)
        self.groups = find_groups(model)
        self.module = self._model = model
        self.input_spec = input_spec

    def features(self, images: Tensor) -> Mapping[str, Tensor]:
        """Return the features of the taps."""
        return tap_features(self.module, self.taps, images)

    def mask_losses(self, images: Tensor, masks: Sequence[Tensor], labels: Sequence[Tensor]) -> Mapping[str, Tensor]:
        """Return upstream's own losses, weights applied, as a mean over the masks of the batch.

        masks: (M, H, W) float32 of 0 and 1 for each image, M may be 0. labels: (M,) int64 for each.
        """
        outputs, earlier = self._run(images)
        with torch.autocast(images.device.type, enabled=False):
            losses = self._model.get_loss_dict(
                outputs.masks_queries_logits.float(),
                outputs.class_queries_logits.float(),
                list(masks),
                list(labels),
                [{name: value.float() for name, value in each.items()} for each in earlier],
            )
        return {name: value + 0 * outputs.class_queries_logits.float().sum() for name, value in losses.items()}

    def _run(self, images: Tensor) -> tuple[Any, Sequence[Mapping[str, Tensor]]]:
        """Return upstream's outputs, and mask and class logits of each layer of the decoder but the last."""
        if not is_eomt(self._model):
            outputs = self._model(pixel_values=images, output_auxiliary_logits=True)
            return outputs, outputs.auxiliary_logits
        with record_layers(self._model) as layers:
            outputs = self._model(pixel_values=images)
        return outputs, layers[:-1]


class MaskTransformerAdapter(MaskTransformer):
    """Mask2Former, MaskFormer or EoMT for the task "semantic", ready to be fine-tuned."""

    score_kind: ScoreKind = "probabilities"

    def loss(self, images: Tensor, targets: Sequence[Target]) -> Mapping[str, Tensor]:
        """Return upstream's own losses, with a mask for each class that an image has.

        images:  (N, 3, H, W) float32, normalised by `input_spec`.
        targets: N targets with `semantic`, (H, W) class indices. A pixel that is not labelled is in no mask, as in
                 upstream.
        """
        masks, labels = [], []
        for label_map in stack_labels(targets):
            present = label_map.unique()
            present = present[present < self._model.config.num_labels]
            masks.append((label_map == present[:, None, None]).float())
            labels.append(present)
        return self.mask_losses(images, masks, labels)

    @torch.no_grad()
    def predict(self, images: Tensor) -> Sequence[Prediction]:
        """Return a label map per image, and no boxes."""
        return label_maps(self.dense_logits(images), images.shape[-2:])

    def dense_logits(self, images: Tensor) -> Tensor:
        """Return (N, classes, H, W), the sum over queries of P(class) P(mask): at least 0, any sum over the classes.

        MaskFormer's have a quarter of the input's height and width.
        """
        return class_scores(self._model, images)

    def export_graphs(self, images: Tensor) -> ExportGraphs:
        """Return the model up to the scores of every pixel; see `tlvision.plugin.Exportable`."""
        return export_segmenter(MaskGraph(self._model), images, self.score_kind, self.input_spec)
