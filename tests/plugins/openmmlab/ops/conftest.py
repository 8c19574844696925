"""The operators in place before mmcv, and the devices to try them on."""

from __future__ import annotations

import pytest
import torch

import tlvision_openmmlab.mmcv_ops  # noqa: F401  before any test imports mmcv.ops


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request: pytest.FixtureRequest) -> torch.device:
    """Each device that is there."""
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    return torch.device(request.param)


@pytest.fixture
def rng() -> torch.Generator:
    """The same random numbers for each test, on the CPU."""
    return torch.Generator().manual_seed(0)


@pytest.fixture(autouse=True)
def seeded() -> None:
    """The same random numbers for each test, also from torch's own generator."""
    torch.manual_seed(0)
