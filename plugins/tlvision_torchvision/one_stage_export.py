"""A torchvision one-stage detector as a pure tensor graph: boxes and scores of every anchor, decoded and clipped."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from tlvision.plugin.export import Axes, Candidates, ExportGraphs, Graph
from tlvision.types import InputSpec


class AnchorGraph(nn.Module):
    """Images (N, 3, H, W) to boxes (N, A, 4), scores (N, A, C) and the level (N, A) of every anchor.

    model: RetinaNet or FCOS.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.backbone, self.head = model.backbone, model.head
        self._coder, self._anchors = model.box_coder, tuple(model.anchor_generator.cell_anchors)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return boxes in pixels, scores and levels."""
        maps = list(self.backbone(images).values())
        found = self.head(maps)
        scores = found["cls_logits"].sigmoid()
        if "bbox_ctrness" in found:
            scores = (scores * found["bbox_ctrness"].sigmoid()).sqrt()
        anchors = [_grid(images, each, cells) for each, cells in zip(maps, self._anchors, strict=True)]
        # Shapes, as len() would make a free axis a constant of the exported graph.
        levels = torch.cat([each.new_full((each.shape[0],), at, dtype=torch.int64) for at, each in enumerate(anchors)])
        boxes = _decode(self._coder, found["bbox_regression"], torch.cat(anchors), images)
        return boxes, scores, levels.expand(images.shape[0], -1)


class SsdGraph(nn.Module):
    """Images (N, 3, H, W) to boxes (N, A, 4) and scores (N, A, C) of every default box, without background."""

    def __init__(self, model: Any, anchors: Tensor) -> None:
        super().__init__()
        self.backbone, self.head = model.backbone, model.head
        self._coder = model.box_coder
        self.register_buffer("anchors", anchors, persistent=False)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return boxes in pixels, and scores."""
        found = self.head(list(self.backbone(images).values()))
        boxes = _decode(self._coder, found["bbox_regression"], self.get_buffer("anchors"), images)
        return boxes, found["cls_logits"].softmax(-1)[..., 1:]


def export_graphs(model: Any, images: Tensor, input_spec: InputSpec) -> ExportGraphs:
    """Return the graph of RetinaNet, FCOS or SSDlite, and how its boxes are read."""
    stretched = input_spec.resize == "stretch"
    by_class = not hasattr(model.anchor_generator, "cell_anchors")  # SSD's default boxes
    module = SsdGraph(model, _default_boxes(model, images)) if by_class else AnchorGraph(model)
    free: dict[str, Axes] = {} if stretched else {"images": {2: "height", 3: "width"}}
    graph = Graph(
        module=module.eval(),
        inputs={"images": images},
        outputs=("boxes", "scores") if by_class else ("boxes", "scores", "levels"),
        free=free,
    )
    decoder = Candidates(
        score_floor=model.score_thresh,
        most_before=model.topk_candidates,
        most_before_of="class" if by_class else "level",
        nms_iou=model.nms_thresh,
        most=model.detections_per_img,
    )
    return ExportGraphs(graphs={"model": graph}, decoder=decoder)


def _grid(images: Tensor, level: Tensor, cells: Tensor) -> Tensor:
    """Return (h * w * A, 4) anchors of a level (N, F, h, w). cells: (A, 4), around the origin of a cell."""
    height, width = level.shape[-2:]
    y = torch.arange(height, device=images.device) * (images.shape[-2] // height)
    x = torch.arange(width, device=images.device) * (images.shape[-1] // width)
    down, across = torch.meshgrid(y, x, indexing="ij")
    shifts = torch.stack([across, down, across, down], dim=-1).reshape(-1, 1, 4)
    return (shifts + cells.to(images)).reshape(-1, 4)


@torch.no_grad()
def _default_boxes(model: Any, images: Tensor) -> Tensor:
    """Return SSD's (A, 4) boxes for images of this size, the only one that its graph takes."""
    from torchvision.models.detection.image_list import ImageList

    size: Sequence[int] = images.shape[-2:]
    boxes: Tensor = model.anchor_generator(
        ImageList(images[:1], [(size[0], size[1])]), list(model.backbone(images[:1]).values())
    )[0]
    return boxes


def _decode(coder: Any, codes: Tensor, anchors: Tensor, images: Tensor) -> Tensor:
    """Return (N, A, 4) boxes in pixels, cut at the edges of the images, of codes (N, A, 4) and anchors (A, 4)."""
    flat, places = codes.flatten(0, 1), anchors.repeat(codes.shape[0], 1)
    decode = getattr(coder, "decode_single", coder.decode)
    x0, y0, x1, y1 = decode(flat, places).reshape(codes.shape[0], -1, 4).unbind(-1)
    height, width = images.shape[-2:]
    return torch.stack([x0.clamp(0, width), y0.clamp(0, height), x1.clamp(0, width), y1.clamp(0, height)], dim=-1)
