"""A detector of transformers behind the contract of `tlvision.plugin.Adapter`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from tlvision.plugin import PredictSpec, constants, tap_features
from tlvision.plugin.export import ExportGraphs
from tlvision.types import InputError, InputSpec, Prediction, Target
from tlvision_transformers.export import export_detector
from tlvision_transformers.groups import find_groups
from tlvision_transformers.taps import add_taps
from tlvision_transformers.upstream import image_processor_class

_WEIGHTED = ("rt_detr", "rt_detr_v2", "d_fine", "deimv2")
"""Kinds of model whose `loss_dict` has its weights applied."""
_LOSS = re.compile(r"(loss_[a-z]+)(?:_\w+)?")


class DetectorAdapter:
    """One detector, ready to be fine-tuned.

    model:      upstream's, in train mode; it gets places for taps, which have no state.
    input_spec: image format of its image processor.
    predict:    limits on the objects of `predict`.
    """

    module: nn.Module

    def __init__(self, model: Any, input_spec: InputSpec, predict: PredictSpec) -> None:
        self.taps = add_taps(model)
        self.groups = find_groups(model)
        self.module = self._model = model
        self.input_spec = input_spec
        self._limits, self._floor, self._most = predict, predict.floor, predict.most()
        self._processor = image_processor_class(model.config)()

    def loss(self, images: Tensor, targets: Sequence[Target]) -> Mapping[str, Tensor]:
        """Return upstream's own losses, weights applied, over the objects of the batch as in upstream.

        images:  (N, 3, H, W) float32, normalised by `input_spec`.
        targets: N targets on the device of `images`, boxes in network-input pixels; may be empty.

        Returns 0-d float32 tensors by upstream's names; "…_0" is of the first decoder layer, "…_enc" of the encoder.
        Their sum is upstream's `loss`. What upstream gives as a plain zero is a part of the graph here.

        Raises InputError if the model predicts boxes that are no numbers.
        """
        labels = [_upstream_target(target, images.shape[-2:]) for target in targets]
        try:
            found = self._model(pixel_values=images, labels=labels)
        except ValueError as error:
            if "(corner) format" not in str(error):
                raise
            raise InputError(
                "train: the model predicts boxes that are no numbers, so training has diverged; lower train.lr"
            ) from error
        weights = self._weights()
        zero = 0 * found.logits.float().sum()
        return {
            name: (weights[match[1]] * value).float() + zero
            for name, value in found.loss_dict.items()
            if (match := _LOSS.fullmatch(name)) and match[1] in weights
        }

    def features(self, images: Tensor) -> Mapping[str, Tensor]:
        """Return `{tap name: (N, C, H / s, W / s)}` of the current mode, with gradients if they are enabled."""
        return tap_features(self.module, self.taps, images)

    def predict(self, images: Tensor) -> Sequence[Prediction]:
        """Return one prediction per image, highest score first, always in float32.

        images: as in `loss`. Boxes are those of upstream's `post_process_object_detection`, clipped to the network
        input, in its pixels. `BuildSpec.predict` limits the objects; nothing is suppressed by IoU.

        Raises RuntimeError if the module is in train mode.
        """
        with torch.no_grad():
            return self.predict_with_gradients(images)

    def predict_with_gradients(self, images: Tensor) -> Sequence[Prediction]:
        """Return what `predict` does, with gradients of the scores if they are enabled."""
        if self._model.training:
            raise RuntimeError("DetectorAdapter.predict: the module must be in eval mode; call module.eval() first")
        size = (images.shape[-2], images.shape[-1])
        with torch.autocast(images.device.type, enabled=False):
            outputs = self._model(pixel_values=images.float())
            found = self._processor.post_process_object_detection(
                outputs, threshold=self._floor, target_sizes=[size] * len(images)
            )
        return [self._prediction(each, size) for each in found]

    def export_graphs(self, images: Tensor) -> ExportGraphs:
        """Return the model up to boxes and scores of every query; see `tlvision.plugin.Exportable`."""
        return export_detector(self._model, self._processor, images, self.input_spec, self._limits)

    def _prediction(self, found: Mapping[str, Tensor], size: tuple[int, int]) -> Prediction:
        best = found["scores"].argsort(descending=True, stable=True)[: self._most]
        limit = constants([size[1], size[0], size[1], size[0]], found["boxes"])
        return Prediction(
            boxes=found["boxes"][best].clamp(min=0).minimum(limit),
            scores=found["scores"][best],
            labels=found["labels"][best].long(),
        )

    def _weights(self) -> dict[str, float]:
        """Return the weight of each kind of loss; what is not in it, a count of objects, is no loss."""
        config = self._model.config
        if config.model_type in _WEIGHTED:
            return dict.fromkeys(("loss_vfl", "loss_mal", "loss_bbox", "loss_giou", "loss_fgl", "loss_ddf"), 1.0)
        return {
            "loss_ce": getattr(config, "class_loss_coefficient", 1.0),
            "loss_bbox": config.bbox_loss_coefficient,
            "loss_giou": config.giou_loss_coefficient,
        }


def _upstream_target(target: Target, size: Sequence[int]) -> dict[str, Tensor]:
    """Return classes, and boxes as centre and size in shares of the image."""
    x0, y0, x1, y1 = target.boxes.float().unbind(-1)
    boxes = torch.stack([(x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0], dim=-1)
    return {"class_labels": target.labels, "boxes": boxes / constants([size[1], size[0], size[1], size[0]], boxes)}
