"""A torchvision detector behind the contract of `tlvision.plugin.Adapter`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.roi_heads import paste_masks_in_image
from torchvision.models.detection.rpn import concat_box_prediction_layers

from tlvision.plugin import InstanceFeatures, PredictSpec, capture
from tlvision.plugin.export import ExportGraphs
from tlvision.types import InputSpec, Prediction, Target
from tlvision_torchvision import one_stage_export
from tlvision_torchvision.export import export_graphs
from tlvision_torchvision.groups import COARSEST, find_groups, find_layers, find_taps

_MASK_THRESHOLD = 0.5


class AsGiven(nn.Module):
    """In the place of torchvision's own transform: the core has resized and normalised, and maps predictions back."""

    def forward(
        self, images: Tensor, targets: list[dict[str, Tensor]] | None = None
    ) -> tuple[ImageList, list[dict[str, Tensor]] | None]:
        """Return the images (N, 3, H, W) as torchvision's heads take them, and the targets."""
        size = (images.shape[2], images.shape[3])
        return ImageList(images, [size] * len(images)), targets

    def postprocess(
        self, found: list[dict[str, Tensor]], sizes: list[tuple[int, int]], original_sizes: list[tuple[int, int]]
    ) -> list[dict[str, Tensor]]:
        """Return predictions with masks (K, 1, 28, 28) of the boxes pasted into the input: (K, 1, H, W), 0..1."""
        return [
            {**each, "masks": paste_masks_in_image(each["masks"], each["boxes"], size)} if "masks" in each else each
            for each, size in zip(found, sizes, strict=False)  # nothing is found in training
        ]


class TorchvisionAdapter:
    """One detector of torchvision, ready to be fine-tuned.

    model:          the detector, in train mode; its transform is replaced, its thresholds are set, and what leaves its
                    backbone and heads becomes float32: boxes in half precision would be whole pixels at best.
    has_background: whether the head's first class is the background.
    predict:        limits on the objects of `predict`.
    """

    module: nn.Module

    def __init__(self, model: Any, *, has_background: bool, predict: PredictSpec) -> None:
        layers = find_layers(model)
        self.groups, self.taps = find_groups(model, layers), find_taps(model, layers)
        self._first_label = int(has_background)
        self.input_spec = _input_spec(model)
        model.transform = AsGiven()
        _set_predict(model, predict)
        for part in _parts_before_boxes(model):
            part.register_forward_hook(_in_single_precision)
        self.module = self._model = model

    def loss(self, images: Tensor, targets: Sequence[Target]) -> Mapping[str, Tensor]:
        """Return upstream's own losses, unweighted as upstream's recipe adds them up, as a mean over the images.

        images:  (N, 3, H, W) float32, normalised by `input_spec`; H and W multiples of 32.
        targets: N targets on the device of `images`, boxes in pixels of the network input, with masks (M, H, W) for
                 Mask R-CNN; may be empty.

        Returns 0-d float32 tensors by upstream's names, such as "loss_objectness" and "loss_classifier".
        """
        losses: Mapping[str, Tensor] = self.module(images, [self._upstream_target(target) for target in targets])
        return losses

    def features(self, images: Tensor) -> Mapping[str, Tensor]:
        """Return `{tap name: (N, C, H / s, W / s)}` of the current mode, with gradients if they are enabled."""
        with capture(self._model, self.taps) as features:
            self._model.backbone(images)
        return features

    def predict(self, images: Tensor) -> Sequence[Prediction]:
        """Return one prediction per image, highest score first, always in float32.

        images: as in `loss`. Boxes are clipped to the network input, in its pixels. `BuildSpec.predict`
        limits the objects; suppression is by class, by default at upstream's IoU.

        Raises RuntimeError if the module is in train mode.
        """
        with torch.no_grad():
            return self.predict_with_gradients(images)

    def predict_with_gradients(self, images: Tensor) -> Sequence[Prediction]:
        """Return what `predict` does, with gradients of the scores if they are enabled."""
        if self._model.training:
            raise RuntimeError("TorchvisionAdapter.predict: the module must be in eval mode; call module.eval() first")
        with torch.autocast(images.device.type, enabled=False):
            found = self._model(images.float())
        return [self._prediction(each) for each in found]

    def _upstream_target(self, target: Target) -> dict[str, Tensor]:
        wanted = {"boxes": target.boxes, "labels": target.labels + self._first_label}
        return wanted if target.masks is None else {**wanted, "masks": target.masks}

    def _prediction(self, found: dict[str, Tensor]) -> Prediction:
        masks = found.get("masks")
        return Prediction(
            boxes=found["boxes"],
            scores=found["scores"],
            labels=found["labels"] - self._first_label,
            masks=None if masks is None else (masks[:, 0] > _MASK_THRESHOLD).to(torch.uint8),
        )


class OneStageAdapter(TorchvisionAdapter):
    """RetinaNet, FCOS or SSDlite."""

    def export_graphs(self, images: Tensor) -> ExportGraphs:
        """Return the model up to the boxes and scores of every anchor; see `tlvision.plugin.Exportable`."""
        return one_stage_export.export_graphs(self._model, images, self.input_spec)


class TwoStageAdapter(TorchvisionAdapter):
    """Faster or Mask R-CNN; also has the capability `HasInstanceFeatures`."""

    pyramid_path = "backbone"

    def instance_features(
        self,
        images: Tensor,
        boxes: Sequence[Tensor] | None = None,
        *,
        most: int | None = None,
        pyramid: Any = None,
    ) -> Sequence[InstanceFeatures]:
        """Return the box head's features of each box, in the current mode, with gradients if they are enabled.

        images:  as in `loss`.
        boxes:   (K, 4) float32 in network-input pixels for each image, K may be 0; None takes the model's own
                 proposals, best first, without gradients of their places.
        most:    how many of these proposals an image has at most; None for all.
        pyramid: what the backbone with its feature pyramid gave for `images`; None runs it.
        """
        heads, sizes = self._model.roi_heads, [(images.shape[2], images.shape[3])] * len(images)
        maps = self._model.backbone(images) if pyramid is None else pyramid
        if boxes is None:
            boxes = [each[:most] for each in self._proposals(ImageList(images, sizes), maps)]
        boxes = [each.float() for each in boxes]
        counts = [len(each) for each in boxes]
        if sum(counts):
            features = heads.box_head(heads.box_roi_pool(maps, boxes, sizes)).float()  # (sum of K, C)
        else:
            features = images.new_zeros((0, heads.box_predictor.cls_score.in_features))
        return [
            InstanceFeatures(boxes=own, features=row) for own, row in zip(boxes, features.split(counts), strict=True)
        ]

    def export_graphs(self, images: Tensor) -> ExportGraphs:
        """Return the model up to the proposals, and the heads of regions; see `tlvision.plugin.Exportable`."""
        return export_graphs(self._model, images)

    @torch.no_grad()
    def _proposals(self, images: ImageList, maps: Mapping[str, Tensor]) -> list[Tensor]:
        # In train mode upstream's own forward pass needs labels.
        rpn, levels = self._model.rpn, list(maps.values())
        objectness, deltas = rpn.head(levels)
        counts = [each[0].numel() for each in objectness]
        flat_objectness, flat_deltas = concat_box_prediction_layers(objectness, deltas)
        boxes = rpn.box_coder.decode(flat_deltas, rpn.anchor_generator(images, levels)).view(len(maps["0"]), -1, 4)
        proposals: list[Tensor] = rpn.filter_proposals(boxes, flat_objectness, images.image_sizes, counts)[0]
        return proposals


def _input_spec(model: Any) -> InputSpec:
    """Return what upstream's transform does, as data."""
    mean, std = model.transform.image_mean, model.transform.image_std
    return InputSpec(
        resize="letterbox" if model.transform.fixed_size is None else "stretch",
        place="corner",
        multiple_of=COARSEST,
        mean=(mean[0], mean[1], mean[2]),
        std=(std[0], std[1], std[2]),
        pad_value=(round(255 * mean[0]), round(255 * mean[1]), round(255 * mean[2])),
    )


def _set_predict(model: Any, predict: PredictSpec) -> None:
    """Set the prediction limits; upstream's own score floors (0.05, FCOS 0.2) are meant for display."""
    final = getattr(model, "roi_heads", model)
    most = predict.most(masks=final is not model and final.has_mask())
    final.score_thresh = predict.floor
    final.detections_per_img = most
    if predict.nms_iou is not None:
        final.nms_thresh = predict.nms_iou
    if hasattr(final, "topk_candidates"):
        final.topk_candidates = max(final.topk_candidates, most)
    if hasattr(model, "rpn"):
        model.rpn._post_nms_top_n["testing"] = max(model.rpn._post_nms_top_n["testing"], most)
        # The low-resolution Faster R-CNN has 0.05; where nothing reaches it the loss would be a mean over no region.
        model.rpn.score_thresh = 0.0


def _parts_before_boxes(model: Any) -> list[nn.Module]:
    if not hasattr(model, "roi_heads"):
        return [model.backbone, model.head]
    heads = model.roi_heads
    predictors = [part for part in (heads.box_predictor, heads.mask_predictor) if part is not None]
    return [model.backbone, model.rpn.head, *predictors]


def _in_single_precision(module: nn.Module, inputs: object, output: Any) -> Any:
    if isinstance(output, Tensor):
        return output.float()
    if isinstance(output, Mapping):
        return {name: _in_single_precision(module, inputs, value) for name, value in output.items()}
    return type(output)(_in_single_precision(module, inputs, value) for value in output)
