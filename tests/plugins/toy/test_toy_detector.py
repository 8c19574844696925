"""The tiny detector: its losses against slow references, and that it learns."""

from __future__ import annotations

import contextlib
import io

import numpy as np
import pytest
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torch import Tensor
from torchvision.ops import box_iou, generalized_box_iou

from tlvision.plugin import PredictSpec
from tlvision.types import Prediction, Target
from tlvision_toy.detection_loss import BOX_POWER, BOX_WEIGHT, CLASS_POWER, TOP_CELLS, detection_losses
from tlvision_toy.detector import Dense, TinyDetector, select

CLASSES = ("a", "b", "c")


def _target(boxes: list[list[float]], labels: list[int]) -> Target:
    return Target(
        boxes=torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        labels=torch.tensor(labels, dtype=torch.int64),
        crowd=torch.zeros(len(labels), dtype=torch.bool),
    )


@pytest.fixture
def dense() -> Dense:
    """Three images' predictions of a fresh model, spread out so that boxes and scores differ from cell to cell."""
    torch.manual_seed(0)
    with torch.no_grad():
        plain = TinyDetector(3)(torch.randn(3, 3, 64, 96))
    wobble = torch.randn(plain.boxes.shape[0], plain.boxes.shape[1], 2) * 4
    boxes = plain.boxes + torch.cat([-wobble.abs(), wobble.abs()], dim=-1)
    return Dense(torch.randn(plain.logits.shape) - 3, boxes, plain.cells)


@pytest.fixture
def targets() -> list[Target]:
    crowded = [[4.0, 4, 30, 28], [10, 8, 36, 40], [50, 20, 90, 23], [12, 10, 14, 12], [60.5, 30, 95, 63]]
    return [_target(crowded, [0, 2, 1, 1, 0]), _target([], []), _target([[20, 20, 44, 44]], [2])]


def _slow_losses(dense: Dense, index: int, target: Target) -> tuple[float, float]:
    """One image, one object and one cell at a time."""
    logits, boxes, cells = dense.logits[index], dense.boxes[index], dense.cells
    cell_count, classes = logits.shape
    owner, owner_iou, merit_of = [-1] * cell_count, [-1.0] * cell_count, {}
    for row, (box, label) in enumerate(zip(target.boxes, target.labels, strict=True)):
        overlaps = box_iou(box[None], boxes)[0]
        merits = []
        for cell in range(cell_count):
            x, y, stride = cells[cell].tolist()
            half = [max(float(box[2 + i] - box[i]) / 2, stride) for i in (0, 1)]
            centre = [float(box[2 + i] + box[i]) / 2 for i in (0, 1)]
            if abs(x - centre[0]) <= half[0] and abs(y - centre[1]) <= half[1]:
                score = float(logits[cell, label].sigmoid())
                merits.append((score**CLASS_POWER * (float(overlaps[cell]) + 1e-4) ** BOX_POWER, cell))
        for merit, cell in sorted(merits, reverse=True)[:TOP_CELLS]:
            merit_of[row, cell] = merit
            if float(overlaps[cell]) > owner_iou[cell]:
                owner[cell], owner_iou[cell] = row, float(overlaps[cell])
    wanted = np.zeros((cell_count, classes))
    for row in range(len(target)):
        mine = [cell for cell in range(cell_count) if owner[cell] == row]
        if mine:
            top, quality = max(merit_of[row, cell] for cell in mine), max(owner_iou[cell] for cell in mine)
            for cell in mine:
                wanted[cell, int(target.labels[row])] = merit_of[row, cell] / top * quality
    share = 1 / max(1.0, wanted.sum())
    p = logits.sigmoid().numpy().astype(float)
    entropy = -(wanted * np.log(p) + (1 - wanted) * np.log(1 - p))
    loss_class = (entropy * (wanted - p) ** 2).sum() * share
    loss_box = 0.0
    for cell in range(cell_count):
        if owner[cell] >= 0:
            giou = float(generalized_box_iou(boxes[cell : cell + 1], target.boxes[owner[cell]][None]))
            loss_box += wanted[cell].sum() * (1 - giou) * share
    return float(loss_class), BOX_WEIGHT * loss_box


def test_losses_equal_a_slow_loop_over_images_objects_and_cells(dense: Dense, targets: list[Target]) -> None:
    losses = detection_losses(dense, targets)
    slow = np.mean([_slow_losses(dense, i, target) for i, target in enumerate(targets)], axis=0)
    assert slow[1] > 0.1
    np.testing.assert_allclose([float(losses["loss_class"]), float(losses["loss_box"])], slow, rtol=1e-4)


def test_every_object_is_learnt_by_some_cell(dense: Dense) -> None:
    """Also one between the cell centres, one thinner than a cell, one at the border."""
    for box in ([12.5, 10, 14, 12], [3, 30, 93, 31.5], [90, 58, 96, 64], [0, 0, 96, 64]):
        losses = detection_losses(dense, [_target([box], [1]), _target([], []), _target([], [])])
        assert losses["loss_box"] > 0, box


def test_no_object_anywhere_is_fine(dense: Dense) -> None:
    losses = detection_losses(dense, [_target([], [])] * 3)
    assert float(losses["loss_box"]) == 0.0
    assert torch.isfinite(losses["loss_class"])
    assert losses["loss_class"] > 0


def test_perfect_predictions_cost_nearly_nothing(dense: Dense, targets: list[Target]) -> None:
    target = targets[2]
    cell = int(((dense.cells[:, :2] - torch.tensor([32.0, 32.0])).abs().sum(dim=1) + dense.cells[:, 2]).argmin())
    logits, boxes = torch.full_like(dense.logits[:1], -20.0), dense.boxes[:1].clone()
    logits[0, cell, 2], boxes[0] = 20.0, torch.tensor([0.0, 0, 1, 1])
    boxes[0, cell] = target.boxes[0]
    losses = detection_losses(Dense(logits, boxes, dense.cells), [target])
    assert sum(losses.values()) < 1e-3


def test_cells_are_the_centres_of_the_squares_they_stand_for(dense: Dense) -> None:
    wanted = [
        ((column + 0.5) * stride, (row + 0.5) * stride, stride)
        for stride in (8, 16, 32)
        for row in range(64 // stride)
        for column in range(96 // stride)
    ]
    assert dense.cells.tolist() == [list(cell) for cell in wanted]


def test_predictions_keep_the_contract(dense: Dense) -> None:
    found = select(dense, (64, 96), PredictSpec())
    assert len(found) == 3
    for boxes, scores, labels in found:
        assert 0 < len(boxes) <= 300
        Prediction(boxes=boxes, scores=scores, labels=labels)
        assert (scores[:-1] >= scores[1:]).all()
        assert scores.min() >= 0.001
        assert boxes.min() >= 0
        assert boxes[:, 2].max() <= 96
        assert boxes[:, 3].max() <= 64
        for label in range(3):
            overlap = box_iou(boxes[labels == label], boxes[labels == label]).fill_diagonal_(0)
            assert overlap.max() <= 0.6


@pytest.mark.slow  # the contract's overfits_one_image is in the fast suite
def test_overfits_four_images(build, scenes: tuple[Tensor, list[Target]]) -> None:
    adapter, _ = build("tiny_detector", CLASSES)
    images, targets = scenes
    optimizer = torch.optim.AdamW(adapter.module.parameters(), lr=2e-3)
    adapter.module.train()
    for _ in range(120):
        optimizer.zero_grad()
        sum(adapter.loss(images, targets).values()).backward()
        optimizer.step()
    adapter.module.eval()
    assert _ap50(adapter.predict(images), targets) >= 0.9


def _ap50(predictions: list[Prediction], targets: list[Target]) -> float:
    def xywh(box: Tensor) -> list[float]:
        return [float(box[0]), float(box[1]), float(box[2] - box[0]), float(box[3] - box[1])]

    images = [{"id": i, "width": 128, "height": 96} for i in range(len(targets))]
    truth = [
        {"image_id": i, "category_id": int(label), "bbox": xywh(box), "area": xywh(box)[2] * xywh(box)[3], "iscrowd": 0}
        for i, target in enumerate(targets)
        for box, label in zip(target.boxes, target.labels, strict=True)
    ]
    found = [
        {"image_id": i, "category_id": int(label), "bbox": xywh(box), "score": float(score)}
        for i, p in enumerate(predictions)
        for box, label, score in zip(p.boxes, p.labels, p.scores, strict=True)
    ]
    categories = [{"id": i, "name": name} for i, name in enumerate(CLASSES)]
    annotations = [annotation | {"id": i + 1} for i, annotation in enumerate(truth)]
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = {"images": images, "annotations": annotations, "categories": categories, "info": {}}
        coco.createIndex()
        evaluation = COCOeval(coco, coco.loadRes(found), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return float(evaluation.stats[1])
