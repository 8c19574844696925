"""Assign objects to cells and compute the losses (task-aligned assignment, Feng et al., TOOD, 2021)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from tlvision.types import Target
from tlvision_toy.detector import Dense

TOP_CELLS = 9
"""Cells that learn one object."""
CLASS_POWER, BOX_POWER = 1.0, 6.0
"""How much score and overlap count when cells compete for an object."""
BOX_WEIGHT = 2.0


def detection_losses(dense: Dense, targets: Sequence[Target]) -> dict[str, Tensor]:
    """Return {"loss_class", "loss_box"}: quality focal loss and GIoU loss, each a mean over the images.

    Within an image both are divided by the sum of its target scores (at least 1), so that a crowded image counts as
    much as a sparse one.
    """
    boxes, labels, real = _padded(targets, dense.boxes)
    scores, matched = assign(dense, boxes, labels, real)
    weight = scores.sum(dim=2)
    share = 1.0 / weight.sum(dim=1).clamp(min=1.0)
    gap = (scores - dense.logits.sigmoid()).abs()
    focal = functional.binary_cross_entropy_with_logits(dense.logits, scores, reduction="none") * gap**2
    giou = _giou(dense.boxes, torch.gather(boxes, 1, matched[..., None].expand(-1, -1, 4)))
    loss_box = torch.where(weight > 0, weight * (1.0 - giou), weight.new_zeros(()))
    return {
        "loss_class": (focal.sum(dim=(1, 2)) * share).mean(),
        "loss_box": BOX_WEIGHT * (loss_box.sum(dim=1) * share).mean(),
    }


def _padded(targets: Sequence[Target], like: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(N, M, 4) boxes, (N, M) labels, (N, M) True where there is an object; M at least 1."""
    rows = max(1, *(len(target) for target in targets)) if targets else 1
    boxes = like.new_zeros((len(targets), rows, 4))
    labels = torch.zeros((len(targets), rows), dtype=torch.int64, device=like.device)
    real = torch.zeros_like(labels, dtype=torch.bool)
    for index, target in enumerate(targets):
        boxes[index, : len(target)] = target.boxes
        labels[index, : len(target)] = target.labels
        real[index, : len(target)] = True
    return boxes, labels, real


@torch.no_grad()
def assign(dense: Dense, boxes: Tensor, labels: Tensor, real: Tensor) -> tuple[Tensor, Tensor]:
    """Give every object the cells whose score and box agree on it best.

    boxes, labels, real: (N, M, 4), (N, M), (N, M) as `_padded` makes them.

    Returns target scores (N, P, classes) float32 in 0..1, zero where a cell learns background, and (N, P) int64, the
    row of `boxes` that a cell learns (0 where it learns none).
    """
    predicted = dense.logits.sigmoid()
    own_score = torch.gather(predicted.transpose(1, 2), 1, labels[..., None].expand(-1, -1, predicted.shape[1]))
    iou = _iou(boxes[:, :, None], dense.boxes[:, None]).clamp(min=0.0)
    # Around thin and small objects a cell may be up to one stride outside: no centre might be inside.
    reach = dense.cells[:, 2]
    half = torch.maximum((boxes[..., None, 2:] - boxes[..., None, :2]) / 2, reach[:, None])
    offset = (dense.cells[:, :2] - (boxes[..., None, :2] + boxes[..., None, 2:]) / 2).abs()
    near = (offset <= half).all(dim=-1) & real[..., None]
    # The tiny constant keeps an order among the cells while no box overlaps yet.
    merit = (own_score**CLASS_POWER * (iou + 1e-4) ** BOX_POWER) * near
    best = merit.topk(min(TOP_CELLS, merit.shape[2]), dim=2).indices
    chosen = torch.zeros_like(near).scatter_(2, best, True) & near
    # One object per cell: the one that it overlaps most.
    rival = torch.where(chosen, iou, iou.new_full((), -1.0))
    matched = rival.argmax(dim=1)
    chosen &= torch.zeros_like(chosen).scatter_(1, matched[:, None], True)
    merit = merit * chosen
    # The best cell of an object gets its IoU as the score to learn, the others less in proportion.
    quality = (iou * chosen).amax(dim=2, keepdim=True)
    graded = merit / merit.amax(dim=2, keepdim=True).clamp(min=torch.finfo(merit.dtype).tiny) * quality
    value = graded.amax(dim=1)
    scores = torch.zeros_like(predicted).scatter_(2, torch.gather(labels, 1, matched)[..., None], value[..., None])
    return scores, matched


def _iou(a: Tensor, b: Tensor) -> Tensor:
    """IoU of boxes (..., 4) with broadcasting; 0 where both are empty."""
    inter, union = _inter_union(a, b)
    return inter / union.clamp(min=1e-9)


def _giou(a: Tensor, b: Tensor) -> Tensor:
    """Generalised IoU, -1..1 (Rezatofighi et al., 2019)."""
    inter, union = _inter_union(a, b)
    hull = (torch.maximum(a[..., 2:], b[..., 2:]) - torch.minimum(a[..., :2], b[..., :2])).clamp(min=0).prod(dim=-1)
    return inter / union.clamp(min=1e-9) - (hull - union) / hull.clamp(min=1e-9)


def _inter_union(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    inter = (torch.minimum(a[..., 2:], b[..., 2:]) - torch.maximum(a[..., :2], b[..., :2])).clamp(min=0).prod(dim=-1)
    areas = (a[..., 2:] - a[..., :2]).prod(dim=-1) + (b[..., 2:] - b[..., :2]).prod(dim=-1)
    return inter, areas - inter
