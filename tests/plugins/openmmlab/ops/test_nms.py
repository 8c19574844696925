"""Non-maximum suppression against slow loops over pairs of boxes, written down from the papers."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from mmcv.ops import batched_nms, nms, nms_match, soft_nms
from torch import Tensor


def random_boxes(rng: torch.Generator, count: int = 60) -> tuple[Tensor, Tensor]:
    """Boxes with many overlaps and whole coordinates (the offset matters), scores without ties."""
    corner = torch.randint(0, 30, (count, 2), generator=rng)
    boxes = torch.cat([corner, corner + torch.randint(1, 14, (count, 2), generator=rng)], dim=1).float()
    return boxes, (torch.randperm(count, generator=rng) + 1) / (count + 1)


def iou(one: list[float], two: list[float], offset: int) -> float:
    width = max(min(one[2], two[2]) - max(one[0], two[0]) + offset, 0)
    height = max(min(one[3], two[3]) - max(one[1], two[1]) + offset, 0)
    areas = [(box[2] - box[0] + offset) * (box[3] - box[1] + offset) for box in (one, two)]
    return width * height / (sum(areas) - width * height)


def slow_nms(boxes: list[list[float]], scores: list[float], threshold: float, offset: int) -> list[int]:
    kept: list[int] = []
    for index in sorted(range(len(boxes)), key=lambda i: -scores[i]):
        if all(iou(boxes[index], boxes[other], offset) <= threshold for other in kept):
            kept.append(index)
    return kept


def slow_soft_nms(  # noqa: PLR0917
    boxes: list[list[float]],
    scores: list[float],
    threshold: float,
    sigma: float,
    least: float,
    method: str,
    offset: int,
) -> list[tuple[int, float]]:
    left, taken = dict(enumerate(scores)), []
    while left:
        best = max(left, key=lambda i: left[i])
        taken.append((best, left.pop(best)))
        for other in list(left):
            near = iou(boxes[best], boxes[other], offset)
            if method == "gaussian":
                left[other] *= math.exp(-near * near / sigma)
            elif near >= threshold:
                left[other] *= 1 - near if method == "linear" else 0
            if left[other] < least:
                del left[other]
    return taken


@pytest.mark.parametrize("offset", [0, 1])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_nms_keeps_what_a_slow_loop_keeps(
    rng: torch.Generator, device: torch.device, offset: int, dtype: torch.dtype
) -> None:
    boxes, scores = (each.to(device, dtype) for each in random_boxes(rng))
    dets, kept = nms(boxes, scores, iou_threshold=0.31, offset=offset)
    expected = slow_nms(boxes.tolist(), scores.tolist(), 0.31, offset)
    assert kept.tolist() == expected
    assert 1 < len(expected) < len(boxes)
    torch.testing.assert_close(dets, torch.cat([boxes, scores[:, None]], dim=1)[expected])


def test_the_offset_changes_what_nms_keeps() -> None:
    boxes, scores = torch.tensor([[0.0, 0, 1, 1], [0, 0, 1, 3]]), torch.tensor([0.9, 0.8])
    # IoU 1 * 1 / (1 * 3) without the offset, 2 * 2 / (2 * 4) with it.
    assert [len(nms(boxes, scores, iou_threshold=0.4, offset=offset)[1]) for offset in (0, 1)] == [2, 1]


def test_nms_keeps_boxes_at_the_threshold_itself() -> None:
    boxes, scores = torch.tensor([[0.0, 0, 4, 4], [0, 0, 4, 2]]), torch.tensor([0.9, 0.8])
    assert len(nms(boxes, scores, iou_threshold=0.5)[1]) == 2
    assert [len(group) for group in nms_match(torch.cat([boxes, scores[:, None]], dim=1), 0.5)] == [2]


def test_nms_in_numpy_with_a_score_threshold_and_a_limit(rng: torch.Generator) -> None:
    boxes, scores = (each.numpy() for each in random_boxes(rng))
    dets, kept = nms(boxes, scores, iou_threshold=0.3, score_threshold=0.4, max_num=5)
    expected = [i for i in slow_nms(boxes.tolist(), scores.tolist(), 0.3, 0) if scores[i] > 0.4][:5]
    assert isinstance(dets, np.ndarray)
    assert kept.tolist() == expected


def test_nms_of_no_boxes() -> None:
    dets, kept = nms(torch.zeros(0, 4), torch.zeros(0), iou_threshold=0.5, offset=1)
    assert dets.shape == (0, 5)
    assert kept.shape == (0,)
    assert kept.dtype == torch.int64
    dets, kept = soft_nms(torch.zeros(0, 4), torch.zeros(0))
    assert dets.shape == (0, 5)
    assert kept.dtype == torch.int64
    assert nms_match(torch.zeros(0, 5), 0.5) == []


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_nms_in_half_precision_decides_as_in_single(
    rng: torch.Generator, device: torch.device, dtype: torch.dtype
) -> None:
    boxes, scores = (each.to(device, dtype) for each in random_boxes(rng))
    assert nms(boxes, scores, 0.3)[1].tolist() == slow_nms(boxes.tolist(), scores.tolist(), 0.3, 0)
    # 300 x 300 is more than the largest number in half precision.
    large = torch.tensor([[0, 0, 300, 300], [0, 0, 300, 290]], device=device, dtype=dtype)
    assert len(nms(large, scores[:2], 0.5)[1]) == 1
    assert len(nms_match(torch.cat([large, scores[:2, None]], dim=1), 0.5)) == 1
    dets, _ = soft_nms(large, scores[:2], 0.5, method="linear", min_score=0)
    assert dets.dtype == dtype
    assert dets[1, 4] < 0.1


@pytest.mark.parametrize("offset", [0, 1])
@pytest.mark.parametrize("method", ["naive", "linear", "gaussian"])
def test_soft_nms_is_the_paper_s(rng: torch.Generator, device: torch.device, method: str, offset: int) -> None:
    boxes, scores = (each.to(device, torch.float64) for each in random_boxes(rng))
    dets, kept = soft_nms(boxes, scores, 0.3, sigma=0.4, min_score=0.05, method=method, offset=offset)
    expected = slow_soft_nms(boxes.tolist(), scores.tolist(), 0.3, 0.4, 0.05, method, offset)
    assert kept.tolist() == [index for index, _ in expected]
    assert 1 < len(expected) < len(boxes)
    torch.testing.assert_close(dets[:, :4], boxes[kept])
    np.testing.assert_allclose(dets[:, 4].tolist(), [score for _, score in expected])
    assert dets.device.type == device.type


def test_soft_nms_leaves_the_scores_that_it_is_given() -> None:
    boxes, scores = torch.tensor([[0.0, 0, 4, 4], [0, 0, 4, 3]]), torch.tensor([0.9, 0.8])
    soft_nms(boxes, scores, 0.3)
    assert scores.tolist() == pytest.approx([0.9, 0.8])


def test_soft_nms_of_boxes_without_area_keeps_their_scores() -> None:
    dets, _ = soft_nms(torch.ones(2, 4), torch.tensor([0.9, 0.8]), method="gaussian")
    assert dets[:, 4].tolist() == pytest.approx([0.9, 0.8])


def test_nms_match_groups_a_box_with_those_that_it_suppresses(rng: torch.Generator, device: torch.device) -> None:
    boxes, scores = random_boxes(rng)
    left = sorted(range(len(boxes)), key=lambda i: -float(scores[i]))
    expected = []
    while left:
        best = left[0]
        group = [i for i in left if i == best or iou(boxes[best].tolist(), boxes[i].tolist(), 0) >= 0.3]
        left = [i for i in left if i not in group]
        expected.append(group)
    assert max(len(group) for group in expected) > 2
    dets = torch.cat([boxes, scores[:, None]], dim=1).to(device)
    assert [group.tolist() for group in nms_match(dets, 0.3)] == expected
    assert [group.tolist() for group in nms_match(dets.cpu().numpy(), 0.3)] == expected


@pytest.mark.parametrize("split_thr", [10000, 10])
@pytest.mark.parametrize("kind", ["nms", "soft_nms"])
def test_batched_nms_is_nms_of_each_class_alone(
    rng: torch.Generator, device: torch.device, kind: str, split_thr: int
) -> None:
    boxes, scores = (each.to(device) for each in random_boxes(rng))
    labels = torch.randint(0, 3, (len(boxes),), generator=rng).to(device)
    dets, kept = batched_nms(boxes, scores, labels, {"type": kind, "iou_threshold": 0.3, "split_thr": split_thr})
    expected = []
    for label in range(3):
        rows = (labels == label).nonzero()[:, 0].tolist()
        one, weights = boxes[rows].tolist(), scores[rows].tolist()
        if kind == "nms":
            expected += [(weights[i], rows[i]) for i in slow_nms(one, weights, 0.3, 0)]
        else:
            found = slow_soft_nms(one, weights, 0.3, 0.5, 1e-3, "linear", 0)
            expected += [(score, rows[i]) for i, score in found]
    expected.sort(reverse=True)
    np.testing.assert_allclose(dets[:, 4].tolist(), [score for score, _ in expected], rtol=1e-4, atol=1e-6)
    assert kept.tolist() == [index for _, index in expected]
    torch.testing.assert_close(dets[:, :4], boxes[kept])


def test_batched_nms_over_all_classes_together(rng: torch.Generator) -> None:
    boxes, scores = random_boxes(rng)
    labels = torch.arange(len(boxes)) % 4
    _, kept = batched_nms(boxes, scores, labels, {"type": "nms", "iou_threshold": 0.3}, class_agnostic=True)
    assert kept.tolist() == slow_nms(boxes.tolist(), scores.tolist(), 0.3, 0)
