"""An mmdet detector behind the contract of `tlvision.plugin.Adapter`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.ops import masks_to_boxes

from tlvision.plugin import InstanceFeatures, PredictSpec, capture, constants
from tlvision.plugin.export import ExportGraphs
from tlvision.types import InputSpec, Prediction, Target
from tlvision_openmmlab.common.engine import InstanceData, MessageHub, without_old_style
from tlvision_openmmlab.common.losses import named_losses
from tlvision_openmmlab.mmdet import one_stage_export
from tlvision_openmmlab.mmdet.export import export_graphs
from tlvision_openmmlab.mmdet.gradients import keeping_gradients
from tlvision_openmmlab.mmdet.groups import add_taps, find_groups
from tlvision_openmmlab.mmdet.upstream import BitmapMasks, DetDataSample


class MmdetAdapter:
    """One mmdet detector, ready to be fine-tuned.

    model:      the detector that mmdet built, on the CPU in train mode.
    input_spec: image format of its config.
    masks:      whether it finds a mask for each object.
    predict:    limits of `predict`; `tlvision_openmmlab.mmdet.build.set_predict` has set them in the model.
    """

    module: nn.Module

    def __init__(self, model: Any, input_spec: InputSpec, *, masks: bool, predict: PredictSpec) -> None:
        self.taps = add_taps(model)
        self.groups = find_groups(model)
        self.module = self._model = model
        self.input_spec, self._masks = input_spec, masks
        self._limits = predict
        self._floor, self._most = predict.score_floor, predict.most(masks=masks)
        # TOOD asks upstream's runner for the epoch, and assigns in another way in its first ones; here it never does.
        self._epoch: int | None = getattr(getattr(model, "bbox_head", None), "initial_epoch", None)
        # Guided anchoring's, which upstream can run on a single image only.
        self._one_by_one = any(type(module).__name__ == "MaskedConv2d" for module in model.modules())

    def loss(self, images: Tensor, targets: Sequence[Target]) -> Mapping[str, Tensor]:
        """Return upstream's own losses, weights applied, averaged as in upstream.

        images:  (N, 3, H, W) float32, normalised by `input_spec`.
        targets: N targets on the device of `images`, boxes in network-input pixels; may be empty. A model that finds
                 masks needs theirs.

        Returns 0-d tensors: those of upstream's results whose name has "loss" in it, which are what upstream sums;
        those for several levels or stages are summed here. What upstream gives as a plain zero, where nothing is there
        to learn from, is a part of the graph here.
        """
        samples = [self._sample(images, target) for target in targets]
        if self._epoch is not None:
            MessageHub.get_current_instance().update_info("epoch", self._epoch)
        with without_old_style():
            return named_losses(self._model.loss(images, samples))

    def features(self, images: Tensor) -> Mapping[str, Tensor]:
        """Return `{tap name: (N, C, H / s, W / s)}` of the current mode, with gradients if they are enabled."""
        with capture(self._model, self.taps) as features, without_old_style():
            self._model.extract_feat(images)
        return features

    def predict(self, images: Tensor) -> Sequence[Prediction]:
        """Return one prediction per image, highest score first, always in float32.

        images: as in `loss`. Boxes are clipped to the network input, in its pixels. `BuildSpec.predict`
        limits the objects; by default the config's test settings do, with scores from 0.001.

        Raises RuntimeError if the module is in train mode.
        """
        with torch.no_grad():
            return self._find(images)

    def predict_with_gradients(self, images: Tensor) -> Sequence[Prediction]:
        """Return what `predict` does, with gradients of the scores if they are enabled."""
        with keeping_gradients():
            return self._find(images)

    def export_graphs(self, images: Tensor) -> ExportGraphs:
        """Return a one-stage model up to boxes and scores of every place; see `tlvision.plugin.Exportable`."""
        return one_stage_export.export_graphs(self._model, images, self._limits, self._most, masks=self._masks)

    def _find(self, images: Tensor) -> Sequence[Prediction]:
        if self._model.training:
            raise RuntimeError("MmdetAdapter.predict: the module must be in eval mode; call module.eval() first")
        batches = torch.split(images.float(), 1 if self._one_by_one else len(images))
        with torch.autocast(images.device.type, enabled=False), without_old_style():
            # In network-input pixels the image has its own size, so that "back to the original" changes nothing.
            found = [
                sample
                for batch in batches
                for sample in self._model.predict(batch, [self._sample(batch, None) for _ in batch], rescale=True)
            ]
        return [self._prediction(sample.pred_instances, images.shape[-2:]) for sample in found]

    def _sample(self, images: Tensor, target: Target | None) -> Any:
        height, width = (int(side) for side in images.shape[-2:])
        size = height, width
        sample = DetDataSample(
            metainfo={
                "img_id": 0,
                "img_shape": size,
                "ori_shape": size,
                "pad_shape": size,
                "batch_input_shape": size,
                "scale_factor": (1.0, 1.0),
                "flip": False,
                # Of upstream's way to pad for keypoint detectors: top, bottom, left, right.
                "border": np.array([0, height, 0, width]),
            }
        )
        if target is None:
            return sample
        sample.gt_instances = InstanceData(bboxes=target.boxes, labels=target.labels)
        if self._masks:
            masks = np.zeros((0, *size), np.uint8) if target.masks is None else target.masks.cpu().numpy()
            sample.gt_instances.masks = BitmapMasks(masks, height, width)
        sample.ignored_instances = InstanceData(bboxes=target.boxes[:0], labels=target.labels[:0])
        return sample

    def _prediction(self, found: Any, size: Sequence[int]) -> Prediction:
        limit = constants([size[1], size[0], size[1], size[0]], found.bboxes)
        best = found.scores.argsort(descending=True, stable=True)[: self._most]
        if self._floor is not None:
            best = best[found.scores[best] >= self._floor]
        boxes, masks = found.bboxes[best].float().clamp(min=0).minimum(limit), None
        if self._masks:
            masks = found.masks[best].to(torch.uint8) if len(best) else boxes.new_zeros((0, *size), dtype=torch.uint8)
            boxes = _with_mask_bounds(boxes, masks)
        return Prediction(boxes=boxes, scores=found.scores[best].float(), labels=found.labels[best].long(), masks=masks)


class TwoStageAdapter(MmdetAdapter):
    """An mmdet detector with proposals. Also has the capability `HasInstanceFeatures`."""

    @property
    def pyramid_path(self) -> str:
        """The neck, or the backbone where the model has none."""
        return "neck" if self._model.with_neck else "backbone"

    def instance_features(
        self,
        images: Tensor,
        boxes: Sequence[Tensor] | None = None,
        *,
        most: int | None = None,
        pyramid: Any = None,
    ) -> Sequence[InstanceFeatures]:
        """Return the features that the box head pools for each box, of the current mode, with gradients if enabled.

        images: as in `loss`. boxes: (K, 4) float32 in network-input pixels for each image; None takes the model's own
        proposals, best first, without gradients of their places. most: how many of these an image has at most. pyramid:
        what the part at `pyramid_path` gave for `images`; None runs it.
        """
        maps = self._model.extract_feat(images) if pyramid is None else pyramid
        if boxes is None:
            boxes = [each[:most] for each in self._proposals(images, maps)]
        from mmdet.structures.bbox import bbox2roi

        extractor = self._model.roi_head.bbox_roi_extractor
        extractor = extractor[0] if isinstance(extractor, nn.ModuleList) else extractor
        pooled = extractor(maps[: extractor.num_inputs], bbox2roi(list(boxes)))  # (sum of K, C, h, w)
        if self._model.roi_head.with_shared_head:
            pooled = self._model.roi_head.shared_head(pooled)
        counts = [len(each) for each in boxes]
        return [
            InstanceFeatures(boxes=own, features=each)
            for own, each in zip(boxes, pooled.mean(dim=(2, 3)).split(counts), strict=True)
        ]

    def export_graphs(self, images: Tensor) -> ExportGraphs:
        """Return the model up to the proposals, and the heads of regions; see `tlvision.plugin.Exportable`."""
        return export_graphs(self._model, images, self._limits, self._most, masks=self._masks)

    def _proposals(self, images: Tensor, maps: Sequence[Tensor]) -> list[Tensor]:
        samples = [self._sample(images, None) for _ in images]
        with torch.no_grad():
            found = self._model.rpn_head.predict(maps, samples, rescale=False)
        return [each.bboxes for each in found]


def _with_mask_bounds(boxes: Tensor, masks: Tensor) -> Tensor:
    """Return the boxes around the masks, for models that predict only masks; for others their boxes."""
    if not len(boxes) or bool((boxes[:, 2:] > boxes[:, :2]).any()):
        return boxes
    bounds = torch.zeros_like(boxes)
    seen = masks.bool().flatten(1).any(dim=1)
    # torchvision's bounds end with the last pixel, boxes behind it.
    bounds[seen] = masks_to_boxes(masks[seen]) + constants([0, 0, 1, 1], boxes)
    return bounds
