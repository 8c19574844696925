"""A tiny anchor-free one-stage detector: backbone, feature pyramid, one head for all levels (after FCOS and TOOD)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.ops import batched_nms

from tlvision.plugin import PredictSpec, constants
from tlvision_toy.backbone import STAGES, Backbone

LEVELS = {"p3": "stage2", "p4": "stage3", "p5": "stage4"}
"""Level of the pyramid: the backbone stage that it stands on."""
WIDTH = 64
NMS_IOU = 0.6
PRIOR = 0.01  # a fresh head says "1 % object" everywhere, or the first steps drown in background (focal loss, 4.1)


class Dense(NamedTuple):
    """Outputs of the head at each of the P cells of all levels together.

    logits: (N, P, classes), before the sigmoid.
    boxes:  (N, P, 4), x0 y0 x1 y1 in input pixels.
    cells:  (P, 3), x and y of each cell's centre and its stride, in input pixels.
    """

    logits: Tensor
    boxes: Tensor
    cells: Tensor


class Pyramid(nn.Module):
    """A feature pyramid: every level adds the features of the coarser ones (Lin et al., 2017)."""

    def __init__(self) -> None:
        super().__init__()
        self.lateral = nn.ModuleDict({level: nn.Conv2d(STAGES[stage][0], WIDTH, 1) for level, stage in LEVELS.items()})
        self.smooth = nn.ModuleDict({level: _conv_norm(WIDTH) for level in LEVELS})

    def forward(self, stages: dict[str, Tensor]) -> list[Tensor]:
        """Stage outputs to one (N, WIDTH, H / s, W / s) per level, from fine to coarse."""
        outputs: list[Tensor] = []
        above: Tensor | None = None
        for level in reversed(LEVELS):
            here: Tensor = self.lateral[level](stages[LEVELS[level]])
            if above is not None:
                here = here + functional.interpolate(above, size=here.shape[-2:], mode="nearest")
            above = here
            outputs.append(self.smooth[level](here))
        return outputs[::-1]


class Head(nn.Module):
    """Class scores and boxes for every cell; group norm, because the levels differ too much for batch statistics."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.shared = _conv_norm(WIDTH)
        self.class_tower = _conv_norm(WIDTH)
        self.box_tower = _conv_norm(WIDTH)
        self.classify = _predictor(classes, bias=-math.log((1 - PRIOR) / PRIOR))
        self.locate = _predictor(4, bias=0.0)
        self.scales = nn.Parameter(torch.ones(len(LEVELS)))

    def forward(self, levels: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Per level (N, classes, h, w) logits and (N, 4, h, w) raw boxes."""
        shared = [self.shared(level) for level in levels]
        logits = [self.classify(self.class_tower(level)) for level in shared]
        raw = [self.locate(self.box_tower(level)) * self.scales[i] for i, level in enumerate(shared)]
        return logits, raw


class TinyDetector(nn.Module):
    """The whole model; `forward` is the same in train and eval mode."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.backbone = Backbone()
        self.neck = Pyramid()
        self.head = Head(classes)

    def forward(self, images: Tensor) -> Dense:
        """(N, 3, H, W) images, H and W multiples of 32, to dense predictions."""
        return detect(self.backbone(images), self.neck, self.head)


class DenseGraph(nn.Module):
    """Images to boxes (N, P, 4) and scores (N, P, classes) of all cells: what an export writes."""

    def __init__(self, detector: nn.Module) -> None:
        super().__init__()
        self.detector = detector

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return boxes in input pixels and scores 0..1."""
        dense = self.detector(images)
        return dense.boxes, dense.logits.sigmoid()


def detect(stages: Sequence[Tensor], neck: nn.Module, head: nn.Module) -> Dense:
    """Turn the outputs of the four stages into dense predictions, through a `Pyramid` and a `Head`."""
    logits, raw = head(neck(dict(zip(STAGES, stages, strict=True))))
    strides = [STAGES[stage][1] for stage in LEVELS.values()]
    cells = torch.cat([_cells(x, stride) for x, stride in zip(logits, strides, strict=True)])
    return Dense(_flat(logits).float(), _decode(_flat(raw).float(), cells), cells)


def _conv_norm(channels: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.GroupNorm(8, channels), nn.ReLU())


def _predictor(channels: int, bias: float) -> nn.Conv2d:
    conv = nn.Conv2d(WIDTH, channels, 1)
    nn.init.normal_(conv.weight, std=0.01)
    assert conv.bias is not None
    nn.init.constant_(conv.bias, bias)
    return conv


def _flat(levels: list[Tensor]) -> Tensor:
    """Per level (N, C, h, w) to (N, P, C)."""
    return torch.cat([level.flatten(2) for level in levels], dim=2).transpose(1, 2)


def _cells(level: Tensor, stride: int) -> Tensor:
    """(h * w, 3): x, y of each cell's centre and the stride, in input pixels."""
    height, width = level.shape[-2:]
    y = (torch.arange(height, device=level.device, dtype=torch.float32) + 0.5) * stride
    x = (torch.arange(width, device=level.device, dtype=torch.float32) + 0.5) * stride
    grid = torch.stack(torch.meshgrid(y, x, indexing="ij")[::-1], dim=-1).reshape(-1, 2)
    return torch.cat([grid, torch.full_like(grid[:, :1], float(stride))], dim=1)


def _decode(raw: Tensor, cells: Tensor) -> Tensor:
    """(N, P, 4) raw values to boxes: shift of the centre, and logarithm of the size, in strides.

    A box need not contain its cell's centre, as distances to four sides would demand: a scratch of three pixels'
    height lies between the centres.
    """
    stride = cells[:, 2:]
    centre = cells[:, :2] + raw[..., :2] * stride
    half = 1.5 * stride * raw[..., 2:].clamp(-5.0, 4.0).exp()
    return torch.cat([centre - half, centre + half], dim=-1)


def select(
    dense: Dense, size: tuple[int, int], predict: PredictSpec, *, masks: bool = False
) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Turn dense predictions into objects, by non-maximum suppression within each class.

    size:    height and width of the images; boxes are cut there.
    predict: limits on the objects; boxes of a class are suppressed at IoU 0.6 by default.
    masks:   whether the objects will have masks; their default number is then lower.

    Returns per image boxes (K, 4) float32, scores (K,) float32, falling, labels (K,) int64.
    """
    height, width = size
    least, most = predict.floor, predict.most(masks=masks)
    found = []
    for logits, dense_boxes in zip(dense.logits, dense.boxes, strict=True):
        all_scores = logits.sigmoid().flatten()
        scores, order = all_scores.topk(min(max(1000, 4 * most), len(all_scores)))
        order, scores = order[scores >= least], scores[scores >= least]
        labels = order % logits.shape[1]
        boxes = dense_boxes[order // logits.shape[1]].clamp(min=0.0)
        boxes = torch.minimum(boxes, constants([width, height, width, height], boxes))
        solid = (boxes[:, 2:] > boxes[:, :2]).all(dim=1)
        boxes, scores, labels = boxes[solid], scores[solid], labels[solid]
        kept = batched_nms(boxes, scores, labels, predict.overlap(NMS_IOU))[:most]
        found.append((boxes[kept], scores[kept], labels[kept]))
    return found
