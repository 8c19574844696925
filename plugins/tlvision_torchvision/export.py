"""A torchvision two-stage detector as pure tensor graphs: up to the proposals, and the heads of its regions."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from tlvision.plugin.export import Deltas, ExportGraphs, Graph, Pooling, Proposals, TwoStage, as_boxes


class UpToProposals(nn.Module):
    """Images (N, 3, H, W) to objectness, deltas of each level of the proposals, and the levels that are pooled from."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.backbone, self.head = model.backbone, model.rpn.head
        self.pooled = tuple(model.roi_heads.box_roi_pool.featmap_names)
        self.anchors: list[int] = model.rpn.anchor_generator.num_anchors_per_location()

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Return objectness (N, h, w, A), deltas (N, h, w, A, 4) and levels (N, F, h, w), kind after kind."""
        maps = self.backbone(images)
        objectness, deltas = self.head(list(maps.values()))
        by_cell = [each.permute(0, 2, 3, 1) for each in objectness]
        moves = [
            each.permute(0, 2, 3, 1).unflatten(3, (count, 4)) for each, count in zip(deltas, self.anchors, strict=True)
        ]
        return (*by_cell, *moves, *(maps[name] for name in self.pooled))


class RegionHead(nn.Module):
    """Regions (K, F, size, size) to scores (K, C) without background, and deltas (K, C, 4)."""

    def __init__(self, heads: Any) -> None:
        super().__init__()
        self.head, self.predictor = heads.box_head, heads.box_predictor

    def forward(self, regions: Tensor) -> tuple[Tensor, Tensor]:
        """Return scores and deltas."""
        logits, deltas = self.predictor(self.head(regions))
        return logits.softmax(-1)[:, 1:], deltas.unflatten(1, (-1, 4))[:, 1:]


class MaskHead(nn.Module):
    """Regions (K, F, size, size) to masks (K, C, m, m), 0..1, without background."""

    def __init__(self, heads: Any) -> None:
        super().__init__()
        self.head, self.predictor = heads.mask_head, heads.mask_predictor

    def forward(self, regions: Tensor) -> Tensor:
        """Return the masks of all classes."""
        masks: Tensor = self.predictor(self.head(regions)).sigmoid()[:, 1:]
        return masks


def export_graphs(model: Any, images: Tensor) -> ExportGraphs:
    """Return the graphs of Faster or Mask R-CNN, and how they are read."""
    rpn, heads = model.rpn, model.roi_heads
    with torch.no_grad():
        maps = model.backbone(images)
    count = len(maps)
    pooled = heads.box_roi_pool.featmap_names
    names = (
        *(f"objectness_{level}" for level in range(count)),
        *(f"deltas_{level}" for level in range(count)),
        *(f"level_{level}" for level in range(len(pooled))),
    )
    strides = tuple(round(images.shape[2] / maps[name].shape[2]) for name in pooled)
    channels = maps[pooled[0]].shape[1]
    graphs = {
        "model": Graph(
            module=UpToProposals(model).eval(),
            inputs={"images": images},
            outputs=names,
            free={"images": {2: "height", 3: "width"}},
        ),
        "head": _region_graph(RegionHead(heads), images, channels, heads.box_roi_pool, ("scores", "deltas")),
    }
    masks = None
    if heads.has_mask():
        graphs["masks"] = _region_graph(MaskHead(heads), images, channels, heads.mask_roi_pool, ("masks",))
        masks = _pooling(heads.mask_roi_pool, strides)
    decoder = TwoStage(
        proposals=Proposals(
            anchors=as_boxes(rpn.anchor_generator.cell_anchors),
            strides=None,
            deltas=_deltas(rpn.box_coder),
            pre_nms=rpn.pre_nms_top_n(),
            most=rpn.post_nms_top_n(),
            nms_iou=rpn.nms_thresh,
            min_size=rpn.min_size,
        ),
        pooling=_pooling(heads.box_roi_pool, strides),
        deltas=_deltas(heads.box_coder),
        score_floor=heads.score_thresh,
        nms_iou=heads.nms_thresh,
        most=heads.detections_per_img,
        min_size=1e-2,
        mask_pooling=masks,
        paste="whole pixels",
    )
    return ExportGraphs(graphs=graphs, decoder=decoder)


def _region_graph(head: nn.Module, images: Tensor, channels: int, pool: Any, outputs: tuple[str, ...]) -> Graph:
    regions = images.new_zeros((2, channels, *pool.output_size))
    return Graph(module=head.eval(), inputs={"regions": regions}, outputs=outputs)


def _pooling(pool: Any, strides: tuple[int, ...]) -> Pooling:
    # Upstream's level 4 is that of stride 16, which a region of the canonical scale comes from; here level 0 counts.
    finest = pool.canonical_scale * strides[0] / 2**pool.canonical_level
    return Pooling(
        strides=strides,
        size=pool.output_size[0],
        finest=float(finest),
        sampling_ratio=pool.sampling_ratio,
        aligned=False,
    )


def _deltas(coder: Any) -> Deltas:
    x, y, width, height = coder.weights
    return Deltas(std=(1 / x, 1 / y, 1 / width, 1 / height), most_log=coder.bbox_xform_clip)
