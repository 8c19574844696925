"""Overlaps of boxes against a loop over pairs."""

from __future__ import annotations

import pytest
import torch
from mmcv.ops import bbox_overlaps


def slow_overlap(one: list[float], two: list[float], mode: str, offset: int) -> float:
    width = max(min(one[2], two[2]) - max(one[0], two[0]) + offset, 0)
    height = max(min(one[3], two[3]) - max(one[1], two[1]) + offset, 0)
    first, second = ((box[2] - box[0] + offset) * (box[3] - box[1] + offset) for box in (one, two))
    return width * height / (first + second - width * height if mode == "iou" else first)


@pytest.mark.parametrize("offset", [0, 1])
@pytest.mark.parametrize("mode", ["iou", "iof"])
@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [(torch.float64, 1e-12), (torch.float32, 1e-5), (torch.float16, 1e-3), (torch.bfloat16, 1e-2)],
)
def test_overlaps_are_those_of_a_slow_loop(  # noqa: PLR0917
    rng: torch.Generator, device: torch.device, dtype: torch.dtype, tolerance: float, mode: str, offset: int
) -> None:
    corner = torch.randint(0, 20, (2, 8, 2), generator=rng)
    boxes = torch.cat([corner, corner + torch.randint(1, 16, (2, 8, 2), generator=rng)], dim=2).to(device, dtype)
    one, two = boxes[0], boxes[1, :6]
    found = bbox_overlaps(one, two, mode=mode, offset=offset)
    expected = [[slow_overlap(a, b, mode, offset) for b in two.tolist()] for a in one.tolist()]
    assert found.dtype == dtype
    torch.testing.assert_close(
        found.double().cpu(), torch.tensor(expected, dtype=torch.float64), rtol=tolerance, atol=tolerance
    )
    aligned = bbox_overlaps(one[:6], two, mode=mode, offset=offset, aligned=True)
    torch.testing.assert_close(aligned, found[:6].diagonal())


def test_overlaps_of_large_boxes_in_half_precision(device: torch.device) -> None:
    box = torch.tensor([[0, 0, 1000, 1000]], device=device, dtype=torch.float16)
    assert bbox_overlaps(box, box).item() == 1


def test_overlaps_of_small_boxes_are_not_rounded_to_nothing() -> None:
    box = torch.tensor([[0, 0, 1e-4, 1e-4]])
    assert bbox_overlaps(box, box).item() == 1


def test_overlaps_without_any_area_are_nothing() -> None:
    assert bbox_overlaps(torch.ones(1, 4), torch.ones(2, 4)).tolist() == [[0, 0]]


def test_overlaps_have_no_gradient_as_those_of_mmcv() -> None:
    boxes = torch.tensor([[0.0, 0, 2, 2]], requires_grad=True)
    assert not bbox_overlaps(boxes, boxes).requires_grad
