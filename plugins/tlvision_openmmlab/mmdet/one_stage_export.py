"""A one-stage mmdet detector as a pure tensor graph: decoded boxes and scores of every place of its feature maps.

Heads that read their outputs as upstream's base class does are exported: the best places of each level, then
suppression by class. GFL, which reads distances from distributions, and YOLOX, which takes the best class of each
place, have the same ending.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from tlvision.plugin import PredictSpec
from tlvision.plugin.export import Candidates, ExportGraphs, Graph
from tlvision.types import InputError
from tlvision_openmmlab.common.engine import without_old_style
from tlvision_openmmlab.mmdet.upstream import BaseDenseHead, GFLHead, SingleStageDetector, YOLOXHead

_ALL = 1_000_000
"""More candidates than any level has, for configs that do not limit them."""
_NMS_KEYS = {"type", "iou_threshold", "split_thr"}
_WHAT = (
    "the exported one-stage heads are YOLOX, GFL and those that read each level as mmdet's base class does "
    "(RetinaNet, FCOS, ATSS, SSD, VFNet, RTMDet and others), with plain suppression by class"
)


class PlacesGraph(nn.Module):
    """Images (N, 3, H, W) to boxes (N, A, 4), scores (N, A, C), levels (N, A), and factors (N, A) if there are any."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Return boxes in pixels, cut at the edges of the images, scores, levels, and factors."""
        head = self.model.bbox_head
        with without_old_style():
            logits, codes, *factors = head(self.model.extract_feat(images))
            sizes = [each.shape[-2:] for each in logits]
            priors = head.prior_generator.grid_priors(sizes, dtype=images.dtype, device=images.device)
        boxes = torch.cat([_boxes(head, at, *each) for at, each in enumerate(zip(codes, priors, strict=True))], dim=1)
        # Shapes, as len() would make a free axis a constant of the exported graph.
        levels = [each.new_full((each.shape[0],), at, dtype=torch.int64) for at, each in enumerate(priors)]
        scores = torch.cat([_flat(each, head.cls_out_channels) for each in logits], dim=1)
        scores = scores.sigmoid() if _is_sigmoid(head) else scores.softmax(-1)[..., :-1]
        found = (_clip(boxes, images), scores, torch.cat(levels).expand(images.shape[0], -1))
        return (
            (*found, torch.cat([_flat(each, 1) for each in factors[0]], dim=1)[..., 0].sigmoid()) if factors else found
        )


class YoloxGraph(nn.Module):
    """Images (N, 3, H, W) to boxes (N, A, 4) and scores (N, A, C)."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return boxes in pixels and scores."""
        head = self.model.bbox_head
        with without_old_style():
            logits, codes, objectness = head(self.model.extract_feat(images))
            sizes = [each.shape[-2:] for each in logits]
            priors = head.prior_generator.grid_priors(sizes, dtype=images.dtype, device=images.device, with_stride=True)
        boxes = head._bbox_decode(torch.cat(priors), torch.cat([_flat(each, 4) for each in codes], dim=1))
        classes = torch.cat([_flat(each, head.cls_out_channels) for each in logits], dim=1).sigmoid()
        return boxes, classes * torch.cat([_flat(each, 1) for each in objectness], dim=1).sigmoid()


def export_graphs(model: Any, images: Tensor, predict: PredictSpec, most: int, *, masks: bool) -> ExportGraphs:
    """Return the graph of a detector with a one-stage head, and how it is read; InputError for other heads."""
    _check(model, masks=masks)
    head, test = model.bbox_head, model.bbox_head.test_cfg
    floor, iou = predict.score_floor or 0.0, test["nms"]["iou_threshold"]
    if isinstance(head, YOLOXHead):
        decoder = Candidates(
            score_floor=max(test["score_thr"], floor), best_class=True, most_before=_ALL, nms_iou=iou, most=most
        )
        return _exported(YoloxGraph(model), images, ("boxes", "scores"), decoder)
    with torch.no_grad(), without_old_style():
        has_factors = len(head(model.extract_feat(images[:1]))) > 2
    before = test.get("nms_pre", -1)
    decoder = Candidates(
        score_floor=max(test.get("score_thr", 0.0), floor),
        most_before=before if before > 0 else _ALL,
        most_before_of="level",
        factor_floor=floor if has_factors else None,
        nms_iou=iou,
        most=min(most, test["max_per_img"]),
        clip="after" if test.get("min_bbox_size", -1) < 0 else "before",
    )
    outputs = ("boxes", "scores", "levels", *(("factors",) if has_factors else ()))
    return _exported(PlacesGraph(model), images, outputs, decoder)


def _check(model: Any, *, masks: bool) -> None:
    """Raise InputError unless the runtime computes what the head does after its feature maps."""
    head: Any = getattr(model, "bbox_head", None)
    what = f"mmdet: the export of '{type(model).__name__}' with '{type(head).__name__}' is not written"
    single = getattr(type(model), "predict", None) is SingleStageDetector.predict
    if masks or not single or not (isinstance(head, YOLOXHead) or _reads_as_base(head)):
        raise InputError(f"{what}; {_WHAT}")
    test = head.test_cfg or {}
    nms = test.get("nms", {})
    hard = nms.get("type", "nms") == "nms" and nms.keys() <= _NMS_KEYS and "iou_threshold" in nms
    clipped = isinstance(head, YOLOXHead) or getattr(head.bbox_coder, "clip_border", True)
    if not hard or test.get("min_bbox_size", -1) > 0 or not clipped:
        raise InputError(f"{what} for these test settings; {_WHAT}")


def _reads_as_base(head: Any) -> bool:
    """Return whether a head's way from feature maps to objects is that of upstream's base class, or GFL's."""
    kind: Any = type(head)
    if not issubclass(kind, BaseDenseHead):
        return False
    single = kind._predict_by_feat_single
    return (
        kind.predict is BaseDenseHead.predict
        and kind.predict_by_feat is BaseDenseHead.predict_by_feat
        and kind._bbox_post_process is BaseDenseHead._bbox_post_process
        and single in (BaseDenseHead._predict_by_feat_single, GFLHead._predict_by_feat_single)
        and not getattr(head.loss_cls, "custom_cls_channels", False)
    )


def _boxes(head: Any, level: int, codes: Tensor, priors: Tensor) -> Tensor:
    """Return (N, A, 4) boxes of a level. codes: (N, A * k, h, w). priors: (h * w * A, 2 or 4)."""
    rows = codes.permute(0, 2, 3, 1)
    if isinstance(head, GFLHead):
        rows = head.integral(rows.flatten(0, 2)) * head.prior_generator.strides[level][0]
        priors = head.anchor_center(priors)
    rows = rows.reshape(-1, 4)
    boxes: Tensor = head.bbox_coder.decode(priors.repeat(codes.shape[0], 1), rows)
    return boxes.reshape(codes.shape[0], -1, 4)


def _is_sigmoid(head: Any) -> bool:
    return bool(head.use_sigmoid_cls) or isinstance(head, GFLHead)


def _flat(maps: Tensor, channels: int) -> Tensor:
    """Return (N, h * w * A, channels) of maps (N, A * channels, h, w)."""
    return maps.permute(0, 2, 3, 1).reshape(maps.shape[0], -1, channels)


def _clip(boxes: Tensor, images: Tensor) -> Tensor:
    height, width = images.shape[-2:]
    x0, y0, x1, y1 = boxes.unbind(-1)
    return torch.stack([x0.clamp(0, width), y0.clamp(0, height), x1.clamp(0, width), y1.clamp(0, height)], dim=-1)


def _exported(module: nn.Module, images: Tensor, outputs: Sequence[str], decoder: Candidates) -> ExportGraphs:
    graph = Graph(
        module=module.eval(),
        inputs={"images": images},
        outputs=tuple(outputs),
        free={"images": {2: "height", 3: "width"}},
    )
    return ExportGraphs(graphs={"model": graph}, decoder=decoder)
