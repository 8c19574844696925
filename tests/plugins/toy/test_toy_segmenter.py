"""The tiny segmenter: its loss against torch's own mean, ignored pixels, and that it learns."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from tlvision.types import InputError, Target
from tlvision_toy.segmenter import segmentation_losses

CLASSES = ("a", "b", "c", "background")


def _target(semantic: Tensor | None) -> Target:
    none = torch.zeros(0, dtype=torch.int64)
    return Target(boxes=torch.zeros(0, 4), labels=none, crowd=none.bool(), semantic=semantic)


def test_loss_is_the_mean_over_images_of_the_mean_over_known_pixels() -> None:
    torch.manual_seed(0)
    logits, labels = torch.randn(3, 4, 8, 8), torch.randint(0, 4, (3, 8, 8))
    labels[0, :5] = 255
    loss = segmentation_losses(logits, [_target(label) for label in labels])["loss_pixel"]
    each = [functional.cross_entropy(x[None], y[None], ignore_index=255) for x, y in zip(logits, labels, strict=True)]
    torch.testing.assert_close(loss, torch.stack(each).mean())


def test_an_image_of_which_nothing_is_known_costs_nothing() -> None:
    logits = torch.randn(1, 4, 8, 8, requires_grad=True)
    loss = segmentation_losses(logits, [_target(torch.full((8, 8), 255))])["loss_pixel"]
    loss.backward()
    assert float(loss.detach()) == 0.0
    assert logits.grad is not None
    assert not logits.grad.any()


def test_a_target_without_label_map_is_refused() -> None:
    with pytest.raises(InputError, match="expected a label map"):
        segmentation_losses(torch.randn(1, 4, 8, 8), [_target(None)])


@pytest.mark.slow  # the contract's overfits_one_image is in the fast suite
def test_overfits_four_images(build, scenes: tuple[Tensor, list[Target]]) -> None:
    adapter, _ = build("tiny_segmenter", CLASSES)
    images, targets = scenes
    optimizer = torch.optim.AdamW(adapter.module.parameters(), lr=3e-3)
    adapter.module.train()
    for _ in range(60):
        optimizer.zero_grad()
        sum(adapter.loss(images, targets).values()).backward()
        optimizer.step()
    adapter.module.eval()
    predictions = adapter.predict(images)
    found = torch.stack([prediction.semantic for prediction in predictions])
    wanted = torch.stack([target.semantic for target in targets])
    assert found.shape == wanted.shape
    assert all(len(prediction) == 0 for prediction in predictions)
    ious = [float(((found == c) & (wanted == c)).sum() / ((found == c) | (wanted == c)).sum()) for c in range(4)]
    assert sum(ious) / 4 > 0.9, ious
