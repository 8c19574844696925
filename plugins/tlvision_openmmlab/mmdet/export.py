"""An mmdet detector with standard regions as pure tensor graphs: up to the proposals, and the heads of its regions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from tlvision.plugin import PredictSpec
from tlvision.plugin.export import Deltas, ExportGraphs, Graph, Pooling, Proposals, TwoStage, as_boxes
from tlvision.types import InputError

_WHAT = "only Faster and Mask R-CNN with standard heads are: RPN, one box head with softmax, plain suppression"


class UpToProposals(nn.Module):
    """Images (N, 3, H, W) to objectness, deltas of each level of the proposals, and the levels that are pooled from."""

    def __init__(self, model: Any, anchors: Sequence[int], pooled: int) -> None:
        super().__init__()
        self.model, self.anchors, self.pooled = model, tuple(anchors), pooled

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Return objectness (N, h, w, A), deltas (N, h, w, A, 4) and levels (N, F, h, w), kind after kind."""
        maps = self.model.extract_feat(images)
        objectness, deltas = self.model.rpn_head(maps)
        by_cell = [each.permute(0, 2, 3, 1) for each in objectness]
        moves = [
            each.permute(0, 2, 3, 1).unflatten(3, (count, 4)) for each, count in zip(deltas, self.anchors, strict=True)
        ]
        return (*by_cell, *moves, *maps[: self.pooled])


class RegionHead(nn.Module):
    """Regions (K, F, size, size) to scores (K, C) without background, and deltas (K, C, 4) or (K, 1, 4)."""

    def __init__(self, head: Any) -> None:
        super().__init__()
        self.head = head

    def forward(self, regions: Tensor) -> tuple[Tensor, Tensor]:
        """Return scores and deltas."""
        logits, deltas = self.head(regions)
        return logits.softmax(-1)[:, :-1], deltas.unflatten(1, (-1, 4))


class MaskHead(nn.Module):
    """Regions (K, F, size, size) to masks (K, C, m, m) or (K, 1, m, m), 0..1."""

    def __init__(self, head: Any) -> None:
        super().__init__()
        self.head = head

    def forward(self, regions: Tensor) -> Tensor:
        """Return the masks."""
        masks: Tensor = self.head(regions).sigmoid()
        return masks


def export_graphs(model: Any, images: Tensor, predict: PredictSpec, most: int, *, masks: bool) -> ExportGraphs:
    """Return the graphs of Faster or Mask R-CNN, and how they are read; InputError for other models."""
    _check(model, masks=masks)
    rpn, heads = model.rpn_head, model.roi_head
    anchors = [len(level) for level in rpn.prior_generator.base_anchors]
    extractor = heads.bbox_roi_extractor
    pooled = extractor.num_inputs
    levels = range(len(anchors))
    names = (
        *(f"objectness_{level}" for level in levels),
        *(f"deltas_{level}" for level in levels),
        *(f"level_{level}" for level in range(pooled)),
    )
    graphs = {
        "model": Graph(
            module=UpToProposals(model, anchors, pooled).eval(),
            inputs={"images": images},
            outputs=names,
            free={"images": {2: "height", 3: "width"}},
        ),
        "head": _region_graph(RegionHead(heads.bbox_head), images, extractor, ("scores", "deltas")),
    }
    if masks:
        graphs["masks"] = _region_graph(MaskHead(heads.mask_head), images, heads.mask_roi_extractor, ("masks",))
    test = heads.test_cfg
    floor = max(test["score_thr"], predict.score_floor or 0.0)
    decoder = TwoStage(
        proposals=_proposals(rpn),
        pooling=_pooling(extractor),
        deltas=_deltas(heads.bbox_head.bbox_coder),
        score_floor=floor,
        nms_iou=test["nms"]["iou_threshold"],
        most=min(most, test["max_per_img"]),
        mask_pooling=_pooling(heads.mask_roi_extractor) if masks else None,
    )
    return ExportGraphs(graphs=graphs, decoder=decoder)


def _check(model: Any, *, masks: bool) -> None:
    """Raise InputError unless the runtime computes what upstream does after the graphs."""
    rpn: Any = getattr(model, "rpn_head", None)
    heads: Any = getattr(model, "roi_head", None)
    kinds = [type(part).__name__ for part in (rpn, heads)]
    if kinds != ["RPNHead", "StandardRoIHead"] or heads.with_shared_head:
        raise InputError(f"mmdet: the export of this detector ({type(model).__name__}) is not written; {_WHAT}")
    box_head = heads.bbox_head
    parts: list[tuple[str, Any, Sequence[str]]] = [
        ("anchors", rpn.prior_generator, ["AnchorGenerator"]),
        ("coder of the proposals", rpn.bbox_coder, ["DeltaXYWHBBoxCoder"]),
        ("coder of the boxes", box_head.bbox_coder, ["DeltaXYWHBBoxCoder"]),
        ("regions", heads.bbox_roi_extractor, ["SingleRoIExtractor"]),
        ("pooling", heads.bbox_roi_extractor.roi_layers[0], ["RoIAlign"]),
    ]
    if masks:
        parts += [
            ("mask head", heads.mask_head, ["FCNMaskHead"]),
            ("regions of masks", heads.mask_roi_extractor, ["SingleRoIExtractor"]),
            ("pooling of masks", heads.mask_roi_extractor.roi_layers[0], ["RoIAlign"]),
        ]
    for what, part, known in parts:
        if type(part).__name__ not in known:
            raise InputError(
                f"mmdet: the export of a detector with '{type(part).__name__}' ({what}) is not written; {_WHAT}"
            )
    plain = rpn.use_sigmoid_cls and not box_head.custom_activation and not box_head.loss_cls.use_sigmoid
    hard = all(cfg["nms"].get("type", "nms") == "nms" for cfg in (rpn.test_cfg, heads.test_cfg))
    centred = rpn.prior_generator.center_offset == 0
    pooled = all(layer.pool_mode == "avg" for layer in heads.bbox_roi_extractor.roi_layers)
    if not (plain and hard and centred and pooled) or rpn.bbox_coder.add_ctr_clamp or box_head.bbox_coder.add_ctr_clamp:
        raise InputError(f"mmdet: the export of this detector is not written; {_WHAT}")


def _proposals(rpn: Any) -> Proposals:
    test = rpn.test_cfg
    return Proposals(
        anchors=as_boxes(rpn.prior_generator.base_anchors),
        strides=tuple(int(stride[0]) for stride in rpn.prior_generator.strides),
        deltas=_deltas(rpn.bbox_coder),
        pre_nms=test["nms_pre"],
        most=test["max_per_img"],
        nms_iou=test["nms"]["iou_threshold"],
        min_size=test.get("min_bbox_size", -1),
        strict=True,
    )


def _region_graph(head: nn.Module, images: Tensor, extractor: Any, outputs: tuple[str, ...]) -> Graph:
    size = extractor.roi_layers[0].output_size
    regions = images.new_zeros((2, extractor.out_channels, *size))
    return Graph(module=head.eval(), inputs={"regions": regions}, outputs=outputs)


def _pooling(extractor: Any) -> Pooling:
    layer = extractor.roi_layers[0]
    return Pooling(
        strides=tuple(int(stride) for stride in extractor.featmap_strides),
        size=int(layer.output_size[0]),
        finest=float(extractor.finest_scale),
        sampling_ratio=int(layer.sampling_ratio),
        aligned=bool(layer.aligned),
    )


def _deltas(coder: Any) -> Deltas:
    x, y, width, height = (float(value) for value in coder.means)
    spread = tuple(float(value) for value in coder.stds)
    return Deltas(
        means=(x, y, width, height),
        std=(spread[0], spread[1], spread[2], spread[3]),
        most_log=abs(math.log(16 / 1000)),
        both=True,
    )
