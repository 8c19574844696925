"""An mmseg segmenter as a pure tensor graph: backbone, neck and decode head, without the resizing of the scores."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from tlvision.plugin import ScoreKind
from tlvision.plugin.export import DenseScores, ExportGraphs, Graph
from tlvision.types import InputError


class Scores(nn.Module):
    """Images (N, 3, H, W) to scores (N, C, h, w) as the decode head gives them."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        """Return the scores."""
        scores: Tensor = self.model.decode_head(self.model.extract_feat(images))
        return scores


def export_graphs(model: Any, images: Tensor, kind: ScoreKind) -> ExportGraphs:
    """Return the graph; InputError for models that need more than one pass through one decode head."""
    head = model.decode_head
    name = type(head).__name__
    whole = model.test_cfg.get("mode", "whole") == "whole"
    if isinstance(head, nn.ModuleList) or not whole or kind == "probabilities":
        raise InputError(
            f"mmseg: the export of models with the decode head '{name}' is not written: it needs more than one pass, "
            "or turns masks into classes after it"
        )
    graph = Scores(model).eval()
    with torch.no_grad():
        scores = graph(images)
        expected = model.encode_decode(images, [{"img_shape": tuple(images.shape[-2:])}] * len(images))
    if not isinstance(scores, Tensor) or scores.ndim != 4 or scores.shape[1] != expected.shape[1]:
        raise InputError(f"mmseg: the export of models with the decode head '{name}' is not written")
    return ExportGraphs(
        graphs={
            "model": Graph(
                module=graph,
                inputs={"images": images},
                outputs=("scores",),
                free={"images": {2: "height", 3: "width"}},
            )
        },
        decoder=DenseScores(score_kind=kind, align_corners=bool(head.align_corners)),
    )
