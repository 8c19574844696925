"""Instance masks: their form, that they are learnt, and that a loss asks for them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from tlvision.conformance.check import check
from tlvision.conformance.checks.losses import check_losses, without_finite_gradient
from tlvision.conformance.checks.predictions import predict_one
from tlvision.conformance.checks.tools import quiet_dropout, total, total_loss
from tlvision.conformance.overfit import MASK_ENOUGH, best_of, find, mask_overlaps, one_image, overfitted
from tlvision.types import listing

if TYPE_CHECKING:
    from torch import Tensor

    from tlvision.conformance.case import BatchName, Case
    from tlvision.types import Prediction, Target

MOST = 100
"""Masks in an image by the contract."""
SLACK = 2.0
"""Pixels by which a mask may reach beyond its box without that being counted."""


@check(labels="masks", requires=("groups_partition", "losses_finite_and_differentiable"), trains=True)
def masks_are_masks(case: Case) -> None:
    """predict() gives a mask of zeros and ones in the size of the network input for each of at most 100 objects."""
    fresh, _ = case.build()
    shapes: tuple[BatchName, ...] = ("square", "wide", "all_empty")
    for adapter, kind in ((fresh, "fresh"), (overfitted(case), "trained")):
        adapter.module.eval()
        for images in (*(case.batch(adapter, shape)[0] for shape in shapes), one_image(case, adapter).images):
            with torch.no_grad():
                predictions = adapter.predict(images)
            for prediction in predictions:
                _check_masks(prediction, images, f"on a {kind} model predict() gives")


def _check_masks(prediction: Prediction, images: Tensor, where: str) -> None:
    masks, size = prediction.masks, tuple(images.shape[2:])
    assert masks is not None, f"{where} no masks"
    assert len(prediction) <= MOST, f"{where} {len(prediction)} objects with masks in one image; at most {MOST}"
    # That they are (K, ?, ?) uint8 is checked by Prediction itself.
    assert tuple(masks.shape[1:]) == size, (
        f"{where} masks of {masks.shape[1]} x {masks.shape[2]} for a network input of {size[0]} x {size[1]}"
    )
    values = masks.unique().tolist()
    assert set(values) <= {0, 1}, f"{where} masks with the values {listing(values)}; expected 0 and 1"


@check(labels="masks", requires=("overfits_one_image", "masks_are_masks", "loss_depends_on_masks"), trains=True)
def masks_are_learnt(case: Case) -> None:
    """Trained on one image that is not square, the masks cover the drawn objects and lie in their own boxes."""
    adapter = overfitted(case)
    one = one_image(case, adapter)
    overlaps = mask_overlaps(find(case, adapter, one), one.drawing)
    names = [case.classes.names[label] for label in one.drawing.labels]
    for name, overlap in zip(names, overlaps, strict=True):
        assert overlap >= MASK_ENOUGH, (
            f"trained on one image, the mask of '{name}' overlaps the drawn one by {overlap:.2f}; expected an IoU of "
            f"{MASK_ENOUGH} or more"
        )
    prediction = predict_one(adapter, one.images)
    for name, label in zip(names, one.drawing.labels.tolist(), strict=True):
        share = _share_inside(prediction, best_of(prediction, label))
        assert share >= 0.95, f"only {share:.0%} of the mask of '{name}' lies in its box"


def _share_inside(prediction: Prediction, row: int | None) -> float:
    """Return the share of a mask's pixels whose centres lie in its box, or near it."""
    if row is None or prediction.masks is None or not bool(prediction.masks[row].any()):
        return 0.0
    x0, y0, x1, y1 = prediction.boxes[row].tolist()
    y, x = (0.5 + place for place in prediction.masks[row].nonzero().unbind(1))
    inside = (x > x0 - SLACK) & (x < x1 + SLACK) & (y > y0 - SLACK) & (y < y1 + SLACK)
    return float(inside.float().mean())


@check(labels="masks", requires=("losses_finite_and_differentiable",))
def loss_depends_on_masks(case: Case) -> None:
    """Other masks in the same boxes give another loss, and tiny or empty masks a finite one with finite gradients."""
    adapter, _ = case.build()
    quiet_dropout(adapter.module)
    shapes: tuple[BatchName, ...] = ("square", "wide")
    for shape in shapes:
        images, targets = case.batch(adapter, shape)
        with torch.no_grad():
            drawn = total_loss(adapter, images, targets).item()
            halved = total_loss(adapter, images, _upper_halves(targets)).item()
        assert abs(drawn - halved) > 1e-4 * abs(drawn), (
            f"the loss is {drawn:.6g}, whether objects are whole or their lower halves are not in their masks"
        )
        for labelled, what in ((_points(targets), "objects of one pixel"), (_unseen(targets), "empty masks")):
            losses = adapter.loss(images, labelled)
            check_losses(losses, f"{shape} images with {what}")
            adapter.module.zero_grad(set_to_none=True)
            total(losses.values()).backward()  # type: ignore[no-untyped-call]
            bad = without_finite_gradient(adapter.module)
            assert not bad, f"{shape} images with {what} give gradients that are not finite to {listing(bad)}"


def _upper_halves(targets: Sequence[Target]) -> list[Target]:
    """Return the targets without what their masks have below the middle of the boxes."""
    halved = []
    for target in targets:
        middle = (target.boxes[:, 1] + target.boxes[:, 3]) / 2
        masks = _masks(target)
        upper = (torch.arange(masks.shape[1]) + 0.5 < middle[:, None])[:, :, None]
        halved.append(replace(target, masks=masks * upper.to(torch.uint8)))
    return halved


def _points(targets: Sequence[Target]) -> list[Target]:
    """Return the targets with one pixel in the middle of each object, in a box that is barely kept by a warp."""
    points = []
    for target in targets:
        x, y = ((target.boxes[:, axis] + target.boxes[:, axis + 2]).div(2).long() for axis in (0, 1))
        masks = torch.zeros_like(_masks(target))
        masks[torch.arange(len(target)), y, x] = 1
        boxes = torch.stack([x - 0.6, y - 0.6, x + 1.6, y + 1.6], 1)
        points.append(replace(target, boxes=boxes, masks=masks))
    return points


def _unseen(targets: Sequence[Target]) -> list[Target]:
    """Return the targets with masks in which nothing is set."""
    return [replace(target, masks=torch.zeros_like(_masks(target))) for target in targets]


def _masks(target: Target) -> Tensor:
    masks: Tensor | None = target.masks
    assert masks is not None, "`Case.batch` makes masks for every instance segmenter"
    return masks
