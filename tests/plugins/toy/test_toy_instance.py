"""The tiny instance segmenter: its mask loss and its cut against slow loops, and that it learns."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from tlvision.types import InputError, Target
from tlvision_toy.instance import cut_masks, mask_losses

CLASSES = ("a", "b", "c")


def _target(labels: list[int], masks: Tensor | None) -> Target:
    count = len(labels)
    return Target(
        boxes=torch.tensor([[0.0, 0.0, 4.0, 4.0]]).repeat(count, 1),
        labels=torch.tensor(labels, dtype=torch.int64),
        crowd=torch.zeros(count, dtype=torch.bool),
        masks=masks,
    )


def test_the_loss_asks_each_class_where_any_object_of_it_is() -> None:
    torch.manual_seed(0)
    logits = torch.randn(2, 3, 8, 12)
    masks = (torch.rand(3, 8, 12) > 0.6).to(torch.uint8)
    loss = mask_losses(logits, [_target([1, 2, 1], masks), _target([], masks[:0])])["loss_mask"]
    expected = torch.zeros(())
    for index in range(2):
        for label in range(3):
            wanted = torch.zeros(8, 12)
            if index == 0:
                wanted = sum((masks[row].float() for row, own in enumerate([1, 2, 1]) if own == label), wanted).clamp(
                    max=1
                )
            expected = expected + functional.binary_cross_entropy_with_logits(logits[index, label], wanted) / 2
    torch.testing.assert_close(loss, expected)


def test_objects_without_masks_are_refused_and_images_without_objects_need_none() -> None:
    with pytest.raises(InputError, match="toy-instance: expected a mask for every object"):
        mask_losses(torch.randn(1, 3, 8, 8), [_target([0], None)])
    assert mask_losses(torch.randn(1, 3, 8, 8), [_target([], None)])["loss_mask"] > 0


def test_a_box_cuts_its_object_out_of_the_mask_of_its_class() -> None:
    torch.manual_seed(0)
    logits = torch.randn(3, 8, 12)
    boxes, labels = torch.tensor([[1.2, 2.0, 7.6, 5.5], [0.0, 0.0, 12.0, 8.0]]), torch.tensor([2, 0])
    masks = cut_masks(logits, boxes, labels)
    assert masks.dtype == torch.uint8
    assert masks.shape == (2, 8, 12)
    for mask, (x0, y0, x1, y1), label in zip(masks, boxes.tolist(), labels.tolist(), strict=True):
        for row in range(8):
            for column in range(12):
                inside = x0 <= column + 0.5 < x1 and y0 <= row + 0.5 < y1
                assert bool(mask[row, column]) == (inside and bool(logits[label, row, column] > 0))
    assert masks.any(dim=2).any(dim=1).all()
    assert cut_masks(logits, boxes[:0], labels[:0]).shape == (0, 8, 12)


@pytest.mark.slow  # the contract's overfits_one_image is in the fast suite
def test_overfits_four_images(build, scenes: tuple[Tensor, list[Target]]) -> None:
    adapter, _ = build("toy-instance", CLASSES)
    images, targets = scenes
    optimizer = torch.optim.AdamW(adapter.module.parameters(), lr=3e-3)
    adapter.module.train()
    for _ in range(60):
        optimizer.zero_grad()
        losses = adapter.loss(images, targets)
        sum(losses.values()).backward()
        optimizer.step()
    assert set(losses) == {"loss_class", "loss_box", "loss_mask"}
    adapter.module.eval()
    predictions = adapter.predict(images)
    seen = 0
    for prediction, target in zip(predictions, targets, strict=True):
        assert len(prediction) <= 100
        best = prediction.scores > 0.5
        assert sorted(prediction.labels[best].tolist()) == sorted(target.labels.tolist())
        for label, mask in zip(target.labels, target.masks, strict=True):
            found = prediction.masks[best & (prediction.labels == label)][0]
            assert (found & mask).sum() / (found | mask).sum() > 0.8
            seen += 1
    assert seen == 6
