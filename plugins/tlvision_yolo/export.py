"""A YOLO model as a pure tensor graph: boxes and scores of every place, decoded by upstream's own head."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from tlvision.plugin.export import Candidates, ExportGraphs, Graph


class YoloGraph(nn.Module):
    """Images (N, 3, H, W) to boxes (N, A, 4), scores (N, A, C), and with masks coefficients and prototypes.

    They are those of the branch that the head is set to.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Return the outputs: boxes, scores, coefficients, prototypes."""
        head = self.model.model[-1]
        with _every_place(head):
            output = self.model(images)[0]
        rows, rest = (output[0], (output[1],)) if isinstance(output, tuple) else (output, ())
        if head.end2end:
            boxes = rows[..., :4]  # (N, A, 4 + C + M), boxes by their corners
        else:
            rows = rows.transpose(1, 2)  # (N, 4 + C + M, A) -> (N, A, 4 + C + M)
            centre, half = rows[..., :2], rows[..., 2:4] / 2
            boxes = torch.cat([centre - half, centre + half], dim=-1)
        scores, coefficients = rows[..., 4 : 4 + head.nc], rows[..., 4 + head.nc :]
        return (boxes, scores, coefficients, *rest) if rest else (boxes, scores)


def export_graphs(model: Any, images: Tensor, decoder: Candidates) -> ExportGraphs:
    """Return the graph of a model, and how it is read."""
    outputs = ("boxes", "scores", "coefficients", "prototypes") if decoder.masks else ("boxes", "scores")
    graph = Graph(
        module=YoloGraph(model).eval(),
        inputs={"images": images},
        outputs=outputs,
        free={"images": {2: "height", 3: "width"}},
    )
    return ExportGraphs(graphs={"model": graph}, decoder=decoder)


@contextmanager
def _every_place(head: Any) -> Iterator[None]:
    """Let the head give every place inside the with-block, not the best of its one-to-one branch."""
    head.shape = None  # the anchor grid is a part of the graph
    head.postprocess = _unchanged
    try:
        yield
    finally:
        del head.postprocess
        head.shape = None


def _unchanged(rows: Tensor) -> Tensor:
    return rows
