"""The operators in place before mmcv, and the devices to try them on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

import tlvision_openmmlab.mmcv_ops  # noqa: F401  before any test imports mmcv.ops


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request: pytest.FixtureRequest) -> torch.device:
    """Each device that is there."""
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    return torch.device(request.param)


@pytest.fixture(params=["projected", pytest.param("every entry", marks=pytest.mark.slow)])
def precision(request: pytest.FixtureRequest) -> dict[str, Any]:
    """What gradcheck is given: to compare each entry of the Jacobian, which is slow, or a random projection of it.

    A wrong entry is a small part of a projection, so the tolerances are far smaller: those for single entries would let
    a gradient pass that is 1 % too large.
    """
    return {} if request.param == "every entry" else {"fast_mode": True, "atol": 1e-9, "rtol": 1e-6}


@pytest.fixture
def rng() -> torch.Generator:
    """The same random numbers for each test, on the CPU."""
    return torch.Generator().manual_seed(0)


@pytest.fixture(autouse=True)
def seeded() -> None:
    """The same random numbers for each test, also from torch's own generator."""
    torch.manual_seed(0)


@pytest.fixture
def only_rounds() -> Callable[[Callable[..., Tensor], Sequence[Tensor], torch.dtype], None]:
    """Assert that a function in low precision errs by no more than the rounding of its result and its gradients."""

    def check(function: Callable[..., Tensor], inputs: Sequence[Tensor], dtype: torch.dtype) -> None:
        low = [each.detach().to(dtype).requires_grad_() for each in inputs]
        exact = [each.detach().double().requires_grad_() for each in low]
        output, expected = function(*low), function(*exact)
        grads = torch.autograd.grad(output, low, torch.ones_like(output))
        expected_grads = torch.autograd.grad(expected, exact, torch.ones_like(expected))
        for found, right in zip((output, *grads), (expected, *expected_grads), strict=True):
            assert found.dtype == dtype
            torch.testing.assert_close(found.double(), right, rtol=torch.finfo(dtype).eps, atol=1e-5)

    return check
