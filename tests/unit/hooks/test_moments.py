"""mmd and coral: both compare the same vectors of two domains."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

import tlvision
from fast import first_fast
from tlvision.hooks import StepData
from tlvision.hooks.features.vectors import feature_vectors
from tlvision.hooks.objectives.coral import Coral, coral_distance
from tlvision.hooks.objectives.mmd import Mmd, squared_mmd
from tlvision.plugin import Tap
from tlvision.types import InputError

TAPS = (Tap("c3", "x", 4, 8), Tap("c4", "y", 6, 16))


def make_context(labelled: int = 2, unlabelled: int = 3) -> Any:
    generator = torch.Generator().manual_seed(0)
    features, others = (
        {tap.name: torch.randn(count, tap.channels, 5, 7, generator=generator, requires_grad=True) for tap in TAPS}
        for count in (labelled, unlabelled)
    )
    data: Any = StepData(batch=None, images=None, features=features, unlabelled_features=others)  # type: ignore[arg-type]
    return SimpleNamespace(step_data=data)


def slow_mmd(left: np.ndarray, right: np.ndarray, bandwidths: tuple[float, ...], each: int = 1) -> float:
    """Every pair, one by one; within a side those of different images, of which each gives `each` vectors."""
    both = [*left, *right]
    squares = [[float(((a - b) ** 2).sum()) for b in both] for a in both]
    mean = sum(map(sum, squares)) / (len(both) * (len(both) - 1))
    n, m = len(left), len(right)

    def kernel(i: int, j: int) -> float:
        return sum(math.exp(-squares[i][j] / (width * mean)) for width in bandwidths) / len(bandwidths)

    total = 0.0
    for i in range(n + m):
        for j in range(n + m):
            if i < n and j < n and i // each != j // each:
                total += kernel(i, j) / (n * (n - each))
            elif i >= n and j >= n and (i - n) // each != (j - n) // each:
                total += kernel(i, j) / (m * (m - each))
            elif i < n <= j:
                total -= 2 * kernel(i, j) / (n * m)
    return total


def test_mmd_is_that_of_a_slow_loop() -> None:
    rng = np.random.default_rng(0)
    left, right = rng.normal(0, 1, (7, 3)), rng.normal(0.5, 2, (9, 3))
    for widths in ((1.0,), (0.25, 0.5, 1.0, 2.0, 4.0)):
        found = squared_mmd(torch.tensor(left).float(), torch.tensor(right).float(), widths).item()
        assert found == pytest.approx(slow_mmd(left, right, widths), rel=1e-4)


def test_mmd_is_unbiased_and_sees_a_shift() -> None:
    generator = torch.Generator().manual_seed(0)
    same, apart = [], []
    for _ in range(300):
        left, right = torch.randn(4, 2, generator=generator), torch.randn(4, 2, generator=generator)
        same.append(squared_mmd(left, right, (1.0,)).item())
        apart.append(squared_mmd(left, right + 3, (1.0,)).item())
    error = float(np.std(same)) / math.sqrt(300)
    assert abs(float(np.mean(same))) < 3 * error
    assert float(np.mean(apart)) > 0.5


def test_mmd_is_unbiased_for_cells_that_depend_on_their_image_and_place() -> None:
    generator = torch.Generator().manual_seed(0)
    places = 5 * torch.randn(4, 2, generator=generator)  # what is at a place is much the same in every image

    def cells(images: int) -> torch.Tensor:
        own = torch.randn(images, 1, 2, generator=generator)
        return (places + own + 0.1 * torch.randn(images, 4, 2, generator=generator)).flatten(0, 1)

    pairs = [(cells(3), cells(2)) for _ in range(300)]
    found = [squared_mmd(left, right, (1.0,), (3, 2)).item() for left, right in pairs]
    assert abs(float(np.mean(found))) < 3 * float(np.std(found)) / math.sqrt(300)
    naive = [squared_mmd(left, right, (1.0,)).item() for left, right in pairs]
    assert float(np.mean(naive)) < -0.03
    lone = squared_mmd(cells(1), cells(2), (1.0,), (1, 2)).item()
    assert math.isfinite(lone)


def test_mmd_does_not_depend_on_the_scale_of_features_and_survives_dead_ones() -> None:
    left, right = torch.randn(5, 3), torch.randn(5, 3) + 1
    one, thousand = (squared_mmd(s * left, s * right, (0.5, 2.0)).item() for s in (1, 1000))
    assert one == pytest.approx(thousand, rel=1e-3)
    dead = torch.zeros(4, 3, requires_grad=True)
    value = squared_mmd(dead, torch.zeros(4, 3), (1.0,))
    value.backward()  # type: ignore[no-untyped-call]
    assert value.item() == 0.0
    assert dead.grad is not None
    assert dead.grad.isfinite().all()


def test_mmd_pulls_the_domains_together() -> None:
    left, right = torch.randn(6, 3).requires_grad_(), (torch.randn(6, 3) + 2).requires_grad_()
    squared_mmd(left, right, (1.0,)).backward()  # type: ignore[no-untyped-call]
    assert left.grad is not None
    assert right.grad is not None
    assert float((right.grad.mean(dim=0) * (right - left).detach().mean(dim=0)).sum()) > 0
    # Had the bandwidth a gradient, nothing would happen along the scale of all features.
    assert abs(float((left.grad * left + right.grad * right).detach().sum())) > 0.01


def relative_gap(left: np.ndarray, right: np.ndarray) -> float:
    one, other = np.cov(left, rowvar=False), np.cov(right, rowvar=False)
    return float(((one - other) ** 2).sum() / ((one**2).sum() + (other**2).sum()))


def test_coral_is_that_of_numpy() -> None:
    rng = np.random.default_rng(0)
    left, right = rng.normal(1, 1, (20, 4)), rng.normal(0, 2, (15, 4))
    found = coral_distance(torch.tensor(left).float(), torch.tensor(right).float()).item()
    assert found == pytest.approx(relative_gap(left, right), rel=1e-4)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_coral_is_the_same_at_every_scale(scale: float) -> None:
    rng = np.random.default_rng(1)
    left, right = (torch.tensor(scale * rng.normal(0, size, (30, 8))).float() for size in (1, 2))
    right.requires_grad_()
    found = coral_distance(left, right)
    found.backward()
    assert 0.1 < found.item() < 1
    assert found.item() == pytest.approx(relative_gap(left.numpy(), right.detach().numpy()), rel=1e-3)
    assert right.grad is not None
    # No smaller by making everything smaller: along the vectors themselves the two domains' gradients cancel.
    both = torch.cat([left, right.detach()]).requires_grad_()
    coral_distance(both[:30], both[30:]).backward()
    assert both.grad is not None
    assert float((both.grad * both.detach()).sum()) == pytest.approx(0, abs=1e-4)


def test_features_that_do_not_vary_have_no_distance() -> None:
    still = torch.ones(4, 3, requires_grad=True)
    found = coral_distance(still, 2 * still)
    found.backward()
    assert found.item() == 0
    assert still.grad is not None
    assert bool(still.grad.isfinite().all())


@pytest.mark.parametrize(("hook", "compare"), [(Mmd, slow_mmd), (Coral, None)])
def test_taps_are_averaged_and_weighted(hook: Any, compare: Any) -> None:
    made, context = hook(taps=["all"], weight=0.3, positions=4), make_context()
    made.prepare(SimpleNamespace(taps=TAPS))
    assert made.taps == ("c3", "c4")
    values = []
    for tap in TAPS:
        pair = [
            feature_vectors(maps[tap.name], 4).detach().numpy()
            for maps in (context.step_data.features, context.step_data.unlabelled_features)
        ]
        if compare:
            values.append(compare(*pair, (0.25, 0.5, 1.0, 2.0, 4.0), each=4))
        else:
            values.append(relative_gap(*pair))
    found = made.losses(context)["distance"]
    assert found.item() == pytest.approx(0.3 * sum(values) / 2, rel=1e-3)
    found.backward()
    assert all(maps["c4"].grad.any() for maps in (context.step_data.features, context.step_data.unlabelled_features))


def test_vectors_are_cells_of_an_even_grid() -> None:
    maps = torch.arange(2 * 3 * 8 * 12).reshape(2, 3, 8, 12).float()
    found = feature_vectors(maps, 5)  # the largest square in 5 is 4
    expected = [maps[n, :, y, x] for n in range(2) for y in (2, 6) for x in (3, 9)]
    assert torch.equal(found, torch.stack(expected))
    assert torch.equal(feature_vectors(maps, 10_000), maps.permute(0, 2, 3, 1).reshape(-1, 3)), "all cells"
    assert torch.equal(feature_vectors(maps, 0), maps.mean(dim=(2, 3)))


@pytest.mark.parametrize("hook", [Mmd, Coral])
def test_a_single_vector_and_an_absent_tap_are_refused(hook: Any) -> None:
    made = hook(positions=0)
    made.prepare(SimpleNamespace(taps=TAPS))
    with pytest.raises(InputError, match=f"'{hook.key()}' compares spreads.*data.batch.unlabelled to 2 or more"):
        made.losses(make_context(unlabelled=1))
    with pytest.raises(InputError, match=f"'{hook.key()}' needs the tap 'c33'. Did you mean 'c3'"):
        hook(taps=["c33"]).prepare(SimpleNamespace(taps=TAPS))


@pytest.mark.parametrize("hook", first_fast(["mmd", "coral"]))
@pytest.mark.parametrize("kind", first_fast(["adapt_config", "segment_config"]))
def test_a_run(
    hook: str, kind: str, request: pytest.FixtureRequest, losses_of: Callable[[Path, str], list[dict[str, float]]]
) -> None:
    config = request.getfixturevalue(kind)
    config["hooks"].append({hook: {"taps": ["coarsest", "finest"]}})
    steps = losses_of(tlvision.train(config).run, hook)
    assert len(steps) >= 4
    assert all(set(step) == {f"{hook}/distance"} and math.isfinite(*step.values()) for step in steps)


@pytest.mark.parametrize("hook", ["mmd", "coral"])
def test_no_target_is_refused(hook: str, adapt_config: dict[str, Any]) -> None:
    adapt_config["hooks"].append(hook)
    del adapt_config["data"]["target"]
    with pytest.raises(InputError, match=f"'{hook}' learns from unlabelled images"):
        tlvision.train(adapt_config)
