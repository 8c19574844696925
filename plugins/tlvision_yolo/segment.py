"""An ultralytics instance segmenter (YOLO-seg) behind the contract of `tlvision.plugin.Adapter`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from tlvision.types import InputError, Prediction, Target
from tlvision_yolo.adapter import YoloAdapter, to_prediction, upstream_batch
from tlvision_yolo.upstream import process_mask_native

MASK_RATIO = 4
"""Pixels of the input for a pixel of the masks that are trained; upstream's default, and its prototypes' stride."""


class YoloSegmentAdapter(YoloAdapter):
    """One YOLO-seg model: `YoloAdapter`, and a mask for each object.

    `loss` gives besides the detector's losses "seg" (binary cross-entropy of the masks in their boxes) and, for 26,
    "sem" (of its map of classes, which is trained alone). Every target with objects needs `masks`. Where masks overlap,
    a pixel belongs to the smallest, and all are trained at a quarter of the input's size, both as in upstream.

    `predict` returns 100 objects by default (upstream's validator keeps 300), with masks cut at their boxes as
    upstream's validator does it for COCO.
    """

    masks = True

    def _loss_names(self) -> tuple[str, ...]:
        box, *rest = super()._loss_names()
        return box, "seg", *rest, "sem" if hasattr(self._model.model[-1].proto, "semseg") else ""

    def _upstream_batch(self, images: Tensor, targets: Sequence[Target]) -> dict[str, Tensor]:
        size = images.shape[2], images.shape[3]
        owners = [_owners(target, size, images.device) for target in targets]
        classes = [_classes(owner, target) for owner, target in zip(owners, targets, strict=True)]
        return upstream_batch(images, targets) | {"masks": torch.stack(owners), "sem_masks": torch.stack(classes)}

    def _read(self, output: Any, size: tuple[int, int]) -> list[Prediction]:
        rows_of, prototypes = output
        found = []
        for rows, prototype in zip(self._suppress(rows_of), prototypes, strict=True):
            masks = process_mask_native(prototype, rows[:, 6:], rows[:, :4], size)  # type: ignore[no-untyped-call]
            found.append(to_prediction(rows, size, masks))
        return found


def _owners(target: Target, size: tuple[int, int], device: torch.device) -> Tensor:
    """Return (H / 4, W / 4) int32: 1 + the row of the object that each pixel belongs to, 0 if there is none.

    Raises InputError if objects have no masks.
    """
    if not len(target):
        return torch.zeros([side // MASK_RATIO for side in size], dtype=torch.int32, device=device)
    if target.masks is None:
        raise InputError(
            "yolo: a '-seg' model needs a mask for every object, and the targets have none; give polygons or run "
            "lengths in the json, or choose a detector"
        )
    masks = shrink_masks(target.masks.to(device))
    # Of two objects that cover a pixel the smaller has it; of two as large, the later.
    order = torch.argsort(masks.sum(dim=(1, 2)), descending=True, stable=True)
    ranks = torch.arange(1, len(order) + 1, dtype=torch.int32, device=device)
    on_top = (masks[order] * ranks[:, None, None]).amax(dim=0)
    row_of_rank = torch.cat([order.new_zeros(1), order + 1]).int()
    return row_of_rank[on_top.long()]


def shrink_masks(masks: Tensor) -> Tensor:
    """Return (M, H / 4, W / 4) of the dtype of `masks`, (M, H, W) with values 0 and 1; H and W are multiples of 4.

    A pixel is set where two of the four in the middle of the 16 that it stands for are: OpenCV's linear interpolation
    at the new pixel's centre, rounded, with which upstream shrinks a mask.
    """
    middle = sum(masks[:, row::MASK_RATIO, column::MASK_RATIO] for row in (1, 2) for column in (1, 2))
    assert isinstance(middle, Tensor)
    return (middle >= 2).to(masks.dtype)


def _classes(owners: Tensor, target: Target) -> Tensor:
    """Return (H / 4, W / 4) float32: the class of the object that each pixel belongs to, 0 if there is none."""
    labels = target.labels.to(owners.device)
    return torch.cat([labels.new_zeros(1), labels]).float()[owners.long()]
