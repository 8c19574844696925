"""Losses against slow loops over pixels, and what the contract wants of them at the edges."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from tlvision.types import IGNORE_INDEX, InputError
from tlvision_smp.losses import Losses
from tlvision_smp.options import SmpOptions

NAMES = ("a", "b", "c", "d")
RATIOS = {"dice": (0.5, 0.5), "jaccard": (1.0, 1.0), "tversky": (0.3, 0.7)}
EVERY = ("cross_entropy", "focal", "dice", "jaccard", "lovasz", "tversky")
Array = npt.NDArray[Any]


def scene(classes: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    """Two images with many ignored pixels, more of them in the second; the last class is nowhere."""
    generator = torch.Generator().manual_seed(3)
    logits = 2 * torch.randn(2, classes, 5, 6, generator=generator)
    labels = torch.randint(0, classes - 1, (2, 5, 6), generator=generator)
    labels[0, :2] = IGNORE_INDEX
    labels[1, :4, 1:] = IGNORE_INDEX
    return logits, labels


def softmax(scores: Array) -> Array:
    powers = np.exp(scores - scores.max())
    return powers / powers.sum()


def known_pixels(logits: Array, labels: Array) -> list[tuple[Array, int]]:
    """Return scores and class of every pixel that is not ignored, of (C, H, W) and (H, W)."""
    height, width = labels.shape
    return [(logits[:, y, x], int(labels[y, x])) for y in range(height) for x in range(width) if labels[y, x] != 255]


def slow_cross_entropy(logits: Array, labels: Array, weights: list[float], smoothing: float) -> float:
    means = []
    for image, truth in zip(logits, labels, strict=True):
        total = heavy = 0.0
        for scores, label in known_pixels(image, truth):
            surprise = -np.log(softmax(scores))
            spread = sum(weight * each for weight, each in zip(weights, surprise, strict=True)) / len(scores)
            total += (1 - smoothing) * weights[label] * surprise[label] + smoothing * spread
            heavy += weights[label]
        means.append(total / heavy if heavy else 0.0)
    return float(np.mean(means))


def slow_focal(logits: Array, labels: Array, weights: list[float]) -> float:
    means = []
    for image, truth in zip(logits, labels, strict=True):
        pixels = known_pixels(image, truth)
        by_class = []
        for number in range(len(weights)):
            each = []
            for scores, label in pixels:
                chance = 1 / (1 + math.exp(-scores[number]))
                right = chance if label == number else 1 - chance
                each.append(-((1 - right) ** 2) * math.log(right))
            by_class.append(float(np.mean(each)))
        means.append(float(np.average(by_class, weights=weights)))
    return float(np.mean(means))


def slow_ratio(
    logits: Array, labels: Array, weights: list[float], false_positive: float, false_negative: float
) -> float:
    pixels = [pixel for pair in zip(logits, labels, strict=True) for pixel in known_pixels(*pair)]
    by_class = []
    for number in range(len(weights)):
        hit = wrong = missed = 0.0
        for scores, label in pixels:
            chance = softmax(scores)[number]
            hit += chance if label == number else 0
            wrong += chance if label != number else 0
            missed += 1 - chance if label == number else 0
        there = any(label == number for _, label in pixels)
        by_class.append(1 - hit / (hit + false_positive * wrong + false_negative * missed) if there else 0.0)
    return float(np.average(by_class, weights=weights))


def slow_lovasz(logits: Array, labels: Array) -> float:
    """The Lovász extension by its definition: errors in falling order, each times what its pixel adds to 1 - IoU."""
    pixels = [pixel for pair in zip(logits, labels, strict=True) for pixel in known_pixels(*pair)]
    by_class = []
    for number in sorted({label for _, label in pixels}):
        truth = {at for at, (_, label) in enumerate(pixels) if label == number}
        errors = [abs((label == number) - softmax(scores)[number]) for scores, label in pixels]
        wrong: set[int] = set()
        total, before = 0.0, 0.0
        for at in sorted(range(len(pixels)), key=lambda at: -errors[at]):
            wrong.add(at)
            now = 1 - len(truth - wrong) / len(truth | wrong)
            total += errors[at] * (now - before)
            before = now
        by_class.append(total)
    return float(np.mean(by_class))


@pytest.mark.parametrize("weights", [None, [1.0, 2.0, 0.5, 3.0]])
@pytest.mark.parametrize("name", EVERY)
def test_it_is_what_a_slow_loop_finds(name: str, weights: list[float] | None) -> None:
    if name == "lovasz" and weights:
        pytest.skip("it has no class weights")
    logits, labels = scene()
    found = Losses(SmpOptions(losses={name: 1.0}, class_weights=weights), NAMES)(logits, labels)
    each, arrays = weights or [1.0] * 4, (logits.double().numpy(), labels.numpy())
    if name == "cross_entropy":
        expected = slow_cross_entropy(*arrays, each, 0.0)
    elif name == "focal":
        expected = slow_focal(*arrays, each)
    elif name == "lovasz":
        expected = slow_lovasz(*arrays)
    else:
        expected = slow_ratio(*arrays, each, *RATIOS[name])
    assert list(found) == [f"loss_{name}"]
    assert found[f"loss_{name}"].item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("weights", [None, [1.0, 2.0, 0.5, 3.0]])
def test_label_smoothing(weights: list[float] | None) -> None:
    logits, labels = scene()
    options = SmpOptions(losses={"cross_entropy": 1.0}, label_smoothing=0.2, class_weights=weights)
    found = Losses(options, NAMES)(logits, labels)["loss_cross_entropy"].item()
    expected = slow_cross_entropy(logits.double().numpy(), labels.numpy(), weights or [1.0] * 4, 0.2)
    assert found == pytest.approx(expected, rel=1e-5)
    plain = Losses(SmpOptions(losses={"cross_entropy": 1.0}, class_weights=weights), NAMES)(logits, labels)
    assert found != pytest.approx(plain["loss_cross_entropy"].item(), rel=1e-3)


def all_losses(**given: Any) -> SmpOptions:
    return SmpOptions(losses=dict.fromkeys(EVERY, 1.0), **given)


def test_weights_multiply() -> None:
    logits, labels = scene()
    once = Losses(all_losses(), NAMES)(logits, labels)
    twice = Losses(SmpOptions(losses={name: 2.0 + at for at, name in enumerate(EVERY)}), NAMES)(logits, labels)
    assert list(once) == list(twice) == [f"loss_{name}" for name in EVERY]
    for at, name in enumerate(once):
        assert twice[name].item() == pytest.approx((2 + at) * once[name].item(), rel=1e-6)


def test_ignored_pixels_do_not_count() -> None:
    logits, labels = scene()
    other = torch.where((labels == IGNORE_INDEX)[:, None], 50 * torch.randn_like(logits), logits).requires_grad_()
    losses = Losses(all_losses(), NAMES)
    before, after = losses(logits, labels), losses(other, labels)
    for name in before:
        torch.testing.assert_close(before[name], after[name])
    sum(after.values()).backward()  # type: ignore[union-attr]
    assert other.grad is not None
    ignored = (labels == IGNORE_INDEX)[:, None].expand_as(logits)
    assert not other.grad[ignored].any()
    assert other.grad[~ignored].any()


def test_the_same_images_twice_give_the_same_loss() -> None:
    logits, labels = scene()
    losses = Losses(all_losses(class_weights={"b": 2.0}), NAMES)
    once, twice = losses(logits, labels), losses(logits.repeat(2, 1, 1, 1), labels.repeat(2, 1, 1))
    for name in once:
        assert twice[name].item() == pytest.approx(once[name].item(), rel=1e-5), name


@pytest.mark.parametrize("classes", [1, 4])
@pytest.mark.parametrize("unknown", ["all", "one image"])
def test_images_of_which_nothing_is_known(classes: int, unknown: str) -> None:
    logits, labels = torch.randn(2, classes, 4, 4, requires_grad=True), torch.zeros(2, 4, 4, dtype=torch.int64)
    labels[1:] = IGNORE_INDEX
    if unknown == "all":
        labels[:] = IGNORE_INDEX
    found = Losses(all_losses(), NAMES[:classes])(logits, labels)
    for name, loss in found.items():
        assert loss.ndim == 0, name
        assert loss.isfinite(), name
        assert loss.requires_grad, name
        assert unknown == "one image" or loss.item() == 0, name
    sum(found.values()).backward()  # type: ignore[union-attr]
    assert logits.grad is not None
    assert logits.grad.isfinite().all()
    assert not logits.grad[1].any()


def test_half_precision_counts_in_full() -> None:
    logits, labels = torch.randn(1, 4, 96, 96), torch.randint(0, 4, (1, 96, 96))
    exact = Losses(all_losses(), NAMES)(logits.bfloat16().float(), labels)
    with torch.autocast("cpu", torch.bfloat16):
        found = Losses(all_losses(), NAMES)(logits.bfloat16(), labels)
    for name in exact:
        assert found[name].dtype == torch.float32
        torch.testing.assert_close(found[name], exact[name])


def test_every_target_needs_a_label_map(build: Any, target_of: Any) -> None:
    adapter, _ = build()
    known = torch.zeros((32, 32), dtype=torch.int64)
    with pytest.raises(InputError, match="1 of 2 lack it"):
        adapter.loss(torch.zeros(2, 3, 32, 32), [target_of(known), target_of(None)])


@pytest.mark.parametrize("arch", ["deeplabv3plus/mobilenet_v2", "pan/resnet18"])
def test_a_batch_of_one_where_the_model_normalises_over_one_pixel(build: Any, target_of: Any, arch: str) -> None:
    adapter, _ = build(arch)
    images, targets = torch.zeros(1, 3, 128, 128), [target_of(torch.zeros((128, 128), dtype=torch.int64))]
    with pytest.raises(InputError, match=r"batch of one image.*2 or more"):
        adapter.loss(images, targets)
    adapter.module.eval()
    assert adapter.loss(images, targets)["loss_cross_entropy"].isfinite()
