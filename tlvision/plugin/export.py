"""What a plugin gives an export: pure tensor graphs, and how their outputs are read.

A graph has no suppression, no choice of the best objects and no pooling of regions: these depend on data, which export
formats do not follow. `tlvision.runtime` does them with numpy, by the settings here. Importing this imports no torch.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol, runtime_checkable

from tlvision.plugin.dense import ScoreKind

if TYPE_CHECKING:
    from torch import Tensor, nn

Box = tuple[float, float, float, float]
"""x0, y0, x1, y1."""
Axes = Mapping[int, str]
"""Axes of a tensor whose length may change, by number, with a name for each."""
TAP_PREFIX = "tap/"
"""How outputs of the graph "model" begin that no prediction needs: statistics of taps, which the export adds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidates:
    """Read boxes that the graph has decoded, one or more for each place of the image.

    Outputs of the graph "model": `boxes` (N, A, 4) x0 y0 x1 y1 in network-input pixels and `scores` (N, A, C) 0..1;
    with masks also `coefficients` (N, A, M) and `prototypes` (N, M, h, w), whose product is the logit of a mask.

    score_floor:    boxes with a lower or equal score are left out.
    best_class:     whether a place has one candidate, of its best class, instead of one for each class.
    most_before:    candidates that take part in the suppression at most, the best ones.
    most_before_of: whether that limit is for an image, for each class of an image, or for each level of its feature
                    maps. For levels there is the output `levels` (N, A) int64, the number of the level of each place.
    factor_floor:   None if scores are final. Otherwise they are multiplied by the output `factors` (N, A) 0..1 after
                    that choice and before the suppression, and boxes whose product is lower than this are left out.
    nms_iou:        a box is suppressed by a better one of its class with a higher IoU; None for models that suppress
                    nothing.
    most:           objects of an image at most.
    clip:           whether boxes are cut at the edges of the input after or before the suppression. Boxes without an
                    area are left out if it is before.
    masks:          whether objects have masks.
    """

    kind: Literal["candidates"] = "candidates"
    score_floor: float
    nms_iou: float | None
    most: int
    best_class: bool = False
    most_before: int = 30_000
    most_before_of: Literal["image", "class", "level"] = "image"
    factor_floor: float | None = None
    clip: Literal["after", "before"] = "after"
    masks: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class DenseScores:
    """Read a score for every class at every pixel.

    Output of the graph "model": `scores` (N, C, h, w), h and w the height and width of the images, or those divided by
    one whole stride.

    score_kind:    as for `HasDenseLogits`.
    align_corners: whether scores of another size than the images are first brought to theirs with the centres of the
                   outermost pixels aligned, instead of the outer edges.
    """

    kind: Literal["dense"] = "dense"
    score_kind: ScoreKind = "logits"
    align_corners: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Deltas:
    """Turn differences to reference boxes into boxes: centre moves by sizes, and sizes by exponentials.

    means, std: (dx, dy, dw, dh) is multiplied by `std`, and `means` is added.
    most_log:   upper limit of dw and dh, and with `both` also minus the lower one.
    """

    means: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    std: tuple[float, float, float, float] = (1.0, 1.0, 1.0, 1.0)
    most_log: float
    both: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposals:
    """Settings of the first stage.

    anchors:     for each level, (A, 4) boxes around the origin of a cell, x0 y0 x1 y1 in network-input pixels.
    strides:     for each level, pixels of a cell; None divides the size of the input by that of the level, rounded
                 down.
    pre_nms:     best anchors of a level that are decoded. most: proposals of an image at most.
    nms_iou:     of the suppression within a level.
    min_size:    proposals with a shorter side are dropped; with `strict`, those with a side as short too.
    """

    anchors: tuple[tuple[Box, ...], ...]
    strides: tuple[int, ...] | None
    deltas: Deltas
    pre_nms: int
    most: int
    nms_iou: float
    min_size: float
    strict: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Pooling:
    """Pool regions from the level that fits their size.

    strides:       of the levels that are pooled from, in network-input pixels.
    size:          side of the pooled features in cells.
    finest:        regions with a root of their area below twice this, in pixels, come from the first level.
    sampling_ratio: samples along a side of a cell; 0 for as many as the cell is long.
    aligned:       whether coordinates are moved by half a cell before sampling.
    """

    strides: tuple[int, ...]
    size: int
    finest: float
    sampling_ratio: int
    aligned: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class TwoStage:
    """Read a detector with proposals: graph "model", then regions are pooled, then graph "head", then "masks".

    Graph "model": images -> `objectness_<i>` (N, h_i, w_i, A) logits and `deltas_<i>` (N, h_i, w_i, A, 4) for each
    level i of the proposals, and `level_<i>` (N, F, h_i, w_i) for each level that is pooled from.
    Graph "head": `regions` (K, F, size, size) -> `scores` (K, C) after the softmax, without background, and `deltas`
    (K, C, 4), or (K, 1, 4) where all classes share one box.
    Graph "masks": `regions` (K, F, size, size) -> `masks` (K, C, m, m), 0..1, or (K, 1, m, m).
    The export puts the pooling (RoIAlign, an operator of ONNX) before the two, so that they take one level, places on
    it and the number of the image of each place.

    score_floor, nms_iou, most: as for `Candidates`.
    min_size:  boxes with a shorter side are dropped.
    paste:     how a mask of m x m comes into its box: "whole pixels" grows the box by a cell of the mask on each side
               and rounds it, "exact" samples the mask at the centre of each pixel.
    """

    kind: Literal["two_stage"] = "two_stage"
    proposals: Proposals
    pooling: Pooling
    deltas: Deltas
    score_floor: float
    nms_iou: float
    most: int
    min_size: float = 0.0
    mask_pooling: Pooling | None = None
    paste: Literal["whole pixels", "exact"] = "exact"


Decoder = Candidates | DenseScores | TwoStage


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Graph:
    """One pure tensor graph.

    module:  in eval mode; takes the inputs in order and returns one tensor or a tuple of them.
    inputs:  names and examples. The first axis of each is free.
    outputs: names, in the order of the results.
    free:    further axes of an input that are free, by its name.
    ordered: whether the places of the outputs have an order of their own. It is False where the graph chooses its
             queries by scores: at the smallest rounding two of them change places, so an export compares the objects
             that are read, and not the outputs place by place.
    """

    module: nn.Module
    inputs: Mapping[str, Tensor]
    outputs: tuple[str, ...]
    free: Mapping[str, Axes] = field(default_factory=dict)
    ordered: bool = True


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ExportGraphs:
    """Everything that leaves a model: its graphs by name, and how they are read."""

    graphs: Mapping[str, Graph]
    decoder: Decoder


def as_boxes(levels: Iterable[Tensor]) -> tuple[tuple[Box, ...], ...]:
    """Return `Proposals.anchors` of a (A, 4) tensor for each level."""
    found = []
    for level in levels:
        rows = level.tolist()
        found.append(tuple((float(x0), float(y0), float(x1), float(y1)) for x0, y0, x1, y1 in rows))
    return tuple(found)


@runtime_checkable
class Exportable(Protocol):
    """Capability: the model leaves the training machine as pure tensor graphs."""

    def export_graphs(self, images: Tensor) -> ExportGraphs:
        """Return the graphs, which share the parameters of `Adapter.module`, and how `tlvision.runtime` reads them.

        images: an example of a network input, (N, 3, H, W) float32, normalised. The graph "model" has one input,
        `images`, with its batch free, and height and width too unless the model stretches every image to one square
        (`InputSpec.resize`). What the runtime finds must be what `Adapter.predict` finds, or
        for segmenters what `dense_logits` gives. The module is in eval mode.

        Raises InputError with the reason if this architecture has no such graph.
        """
        ...
