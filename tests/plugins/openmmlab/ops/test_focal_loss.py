"""Focal losses against the paper's formula for one number at a time; gradients against finite differences."""

from __future__ import annotations

import math

import pytest
import torch
from mmcv.ops import SigmoidFocalLoss, SoftmaxFocalLoss, sigmoid_focal_loss, softmax_focal_loss
from torch import Tensor
from torchvision.ops import sigmoid_focal_loss as torchvision_sigmoid_focal_loss

ROWS, CLASSES = 7, 4
# Every class, and twice the background: C for the sigmoid, -1 for the softmax.
TARGETS = {"sigmoid": [0, 1, 2, 3, 4, 4, 1], "softmax": [0, 1, 2, 3, -1, -1, 1]}
WEIGHT = [0.5, 1.0, 2.0, 3.0]
LOSSES = {"sigmoid": SigmoidFocalLoss, "softmax": SoftmaxFocalLoss}


def focal(p: float, gamma: float, alpha: float) -> float:
    return -alpha * (1 - p) ** gamma * math.log(p)


def slow_sigmoid(logits: Tensor, targets: list[int], gamma: float, alpha: float, weight: list[float] | None) -> Tensor:
    output = torch.zeros(logits.shape, dtype=torch.float64)
    for row, target in enumerate(targets):
        for column in range(CLASSES):
            p = 1 / (1 + math.exp(-float(logits[row, column])))
            value = focal(p, gamma, alpha) if column == target else focal(1 - p, gamma, 1 - alpha)
            output[row, column] = value * (weight[target] if weight and target < CLASSES else 1)
    return output


def slow_softmax(logits: Tensor, targets: list[int], gamma: float, alpha: float, weight: list[float] | None) -> Tensor:
    output = torch.zeros(len(logits), dtype=torch.float64)
    for row, target in enumerate(targets):
        if target >= 0:
            powers = [math.exp(float(value)) for value in logits[row]]
            output[row] = focal(powers[target] / sum(powers), gamma, alpha) * (weight[target] if weight else 1)
    return output


SLOW = {"sigmoid": slow_sigmoid, "softmax": slow_softmax}


@pytest.mark.parametrize("weight", [None, WEIGHT])
@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
@pytest.mark.parametrize("kind", sorted(LOSSES))
def test_values_and_gradients(
    rng: torch.Generator, device: torch.device, kind: str, gamma: float, weight: list[float] | None
) -> None:
    logits = torch.randn(ROWS, CLASSES, dtype=torch.float64, generator=rng) * 3
    expected = SLOW[kind](logits, TARGETS[kind], gamma, 0.3, weight)
    target = torch.tensor(TARGETS[kind], device=device)
    factors = None if weight is None else torch.tensor(weight, dtype=torch.float64, device=device)
    logits = logits.to(device).requires_grad_()
    for reduction, value in (("none", expected), ("sum", expected.sum()), ("mean", expected.sum() / ROWS)):
        loss = LOSSES[kind](gamma, 0.3, factors, reduction)
        torch.testing.assert_close(loss(logits, target).cpu(), value)
        if kind == "sigmoid" or reduction != "none":  # mmcv multiplies (N, C) by (N,) there
            assert torch.autograd.gradcheck(lambda values, f=loss: f(values, target), (logits,))


def test_the_sigmoid_form_is_torchvision_s(rng: torch.Generator) -> None:
    logits = torch.randn(ROWS, CLASSES, generator=rng)
    target = torch.tensor(TARGETS["sigmoid"])
    dense = torch.nn.functional.one_hot(target, CLASSES + 1)[:, :CLASSES].float()
    expected = torchvision_sigmoid_focal_loss(logits, dense, alpha=0.25, gamma=2.0)
    torch.testing.assert_close(sigmoid_focal_loss(logits, target, 2.0, 0.25, None, "none"), expected)


@pytest.mark.parametrize("kind", sorted(LOSSES))
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float16, 2e-3), (torch.bfloat16, 2e-2)])
def test_half_precision(
    rng: torch.Generator, device: torch.device, kind: str, dtype: torch.dtype, tolerance: float
) -> None:
    logits = torch.randn(ROWS, CLASSES, generator=rng).to(dtype)
    expected = SLOW[kind](logits, TARGETS[kind], 2.0, 0.25, WEIGHT)
    values = logits.to(device).requires_grad_()
    loss = LOSSES[kind](2.0, 0.25, torch.tensor(WEIGHT, device=device, dtype=dtype), "sum")
    found = loss(values, torch.tensor(TARGETS[kind], device=device))
    assert found.dtype == dtype
    torch.testing.assert_close(found.detach().double().cpu(), expected.sum(), rtol=tolerance, atol=tolerance)
    found.backward()
    assert values.grad is not None
    assert values.grad.isfinite().all()
    assert values.grad.any()


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
@pytest.mark.parametrize("kind", sorted(LOSSES))
def test_sure_predictions_have_finite_losses_and_gradients(device: torch.device, kind: str, gamma: float) -> None:
    logits = torch.tensor([[200.0, -200], [200, -200]], device=device, requires_grad=True)
    loss = LOSSES[kind](gamma, 0.25, None, "sum")
    found = loss(logits, torch.tensor([0, 1], device=device))
    found.backward()
    assert found.isfinite()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize("kind", sorted(LOSSES))
def test_no_rows(kind: str) -> None:
    logits = torch.zeros(0, CLASSES, requires_grad=True)
    function = sigmoid_focal_loss if kind == "sigmoid" else softmax_focal_loss
    found = function(logits, torch.zeros(0, dtype=torch.long), 2.0, 0.25, None, "sum")
    found.backward()
    assert found.item() == 0
