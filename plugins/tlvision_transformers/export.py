"""Models of transformers as pure tensor graphs: boxes and scores of every query, or scores of every pixel."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from inspect import signature
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn

from tlvision.plugin import PredictSpec, ScoreKind
from tlvision.plugin.export import Axes, Candidates, DenseScores, ExportGraphs, Graph
from tlvision.types import InputSpec
from tlvision_transformers.mask_scores import class_scores

_CHECKS = "TRANSFORMERS_DISABLE_TORCH_CHECK"
"""Environment variable by which upstream leaves out checks of shapes, which no ONNX graph can hold."""

_CHOOSING = ("rt_detr", "rt_detr_v2", "d_fine", "deimv2", "rf_detr", "lw_detr")
"""Kinds of model whose queries start from the best places of the encoder, besides Deformable DETR of two stages."""


class QueryGraph(nn.Module):
    """Images (N, 3, H, W) to boxes (N, Q, 4) in pixels and scores (N, Q, C) of every query.

    softmax: whether the scores of a query are a softmax whose last class means that there is nothing, instead of one
             sigmoid per class.
    """

    def __init__(self, model: Any, *, softmax: bool) -> None:
        super().__init__()
        self.model, self.softmax = model, softmax

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return boxes and scores."""
        with _traceable(self.model):
            found = self.model(pixel_values=images)
        height, width = images.shape[-2:]
        x, y, across, down = found.pred_boxes.unbind(-1)  # centre and size in shares of the image
        left, top = (x - across / 2) * width, (y - down / 2) * height
        boxes = torch.stack([left, top, left + across * width, top + down * height], dim=-1)
        scores = found.logits.softmax(-1)[..., :-1] if self.softmax else found.logits.sigmoid()
        return boxes, scores


class PixelGraph(nn.Module):
    """Images (N, 3, H, W) to the logits of a segmenter that scores pixels, (N, C, h, w)."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits."""
        logits: Tensor = self.model(pixel_values=images).logits
        return logits


class MaskGraph(nn.Module):
    """Images (N, 3, H, W) to the scores of a mask transformer for pixels, (N, C, h, w)."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        """Return the scores."""
        with _traceable(self.model):
            return class_scores(self.model, images)


def export_detector(
    model: Any, processor: Any, images: Tensor, input_spec: InputSpec, predict: PredictSpec
) -> ExportGraphs:
    """Return the graph of a detector, and how its queries are read.

    processor: upstream's image processor. Some choose the best of all queries and classes, as many as they have a
               default for or as there are queries; others give each query its best class.
    """
    options = signature(processor.post_process_object_detection).parameters
    softmax = not options.keys() & {"top_k", "use_focal_loss"}
    with torch.no_grad():
        queries = model(pixel_values=images[:1]).logits.shape[1]
    limit = options["top_k"].default if "top_k" in options else None
    decoder = Candidates(
        score_floor=predict.floor,
        nms_iou=None,
        best_class=softmax,
        most=min(predict.most(), queries if limit is None else limit),
    )
    graph = Graph(
        module=QueryGraph(model, softmax=softmax).eval(),
        inputs={"images": images},
        outputs=("boxes", "scores"),
        free=_free(model, input_spec),
        ordered=not (model.config.model_type in _CHOOSING or getattr(model.config, "two_stage", False)),
    )
    return ExportGraphs(graphs={"model": graph}, decoder=decoder)


def export_segmenter(
    module: PixelGraph | MaskGraph, images: Tensor, kind: ScoreKind, input_spec: InputSpec
) -> ExportGraphs:
    """Return a graph that scores pixels, and how it is read."""
    free = _free(module.model, input_spec)
    graph = Graph(module=module.eval(), inputs={"images": images}, outputs=("scores",), free=free)
    return ExportGraphs(graphs={"model": graph}, decoder=DenseScores(score_kind=kind))


def _free(model: Any, input_spec: InputSpec) -> dict[str, Axes]:
    """Return the free axes besides the batch: height and width, unless every image is stretched to one square.

    SegFormer's are free all the same, for `evaluate.window`. UperNet's and DPT's graphs cannot follow other sizes.
    """
    stretched = input_spec.resize == "stretch" and model.config.model_type != "segformer"
    return {} if stretched else {"images": {2: "height", 3: "width"}}


@contextmanager
def _traceable(model: nn.Module) -> Iterator[None]:
    """Let upstream's code follow a free batch inside the with-block, without its checks of shapes.

    `len` of a tensor is a number for good, `shape[0]` stays free.
    """
    with ExitStack() as stack:
        stack.enter_context(patch.dict(os.environ, {_CHECKS: "1"}))
        for name in {type(each).__module__ for each in model.modules()}:
            if name.startswith("transformers.models."):
                stack.enter_context(patch.dict(vars(sys.modules[name]), {"len": _length}))
        yield


def _length(value: Any) -> Any:
    return value.shape[0] if isinstance(value, Tensor) else len(value)
