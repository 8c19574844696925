"""The advice names the variant that a person would take from the table."""

from __future__ import annotations

from pathlib import Path

import pytest

from tlvision.cli.compress import milliseconds
from tlvision.compress.choose import advice, pareto
from tlvision.compress.measure import Latency, Variant, measure_latency, spread
from tlvision.types import InputError


def row(name: str, value: float | None, median: float, drop_high: float | None = None) -> Variant:
    low = None if drop_high is None else -0.001
    latency = Latency(median=median, p95=2 * median)
    return Variant(
        name=name, folder=Path(name), kind="float", value=value, latency=latency, drop_low=low, drop_high=drop_high
    )


ROWS = [row("torch", 0.60, 40), row("onnx", 0.60, 20), row("int8", 0.595, 10, 0.012), row("small", 0.50, 5)]


def test_the_fastest_that_keeps_the_metric_and_the_best_within_a_time() -> None:
    assert advice(ROWS, 0.01, 25.0) == [
        "The fastest that loses at most 0.01: int8, 10.0 ms, 0.0050 lost (95 % interval -0.0010 to 0.0120; more than "
        "0.01 is possible).",
        "The best within 25 ms: onnx, 0.6000, 20.0 ms.",
    ]
    assert "onnx" in advice(ROWS, 0.001, None)[0]
    assert advice(ROWS, 0.01, 1.0)[1].startswith("No variant needs 1 ms or less; the fastest is small with 5.0 ms")
    assert "not measured" in advice([row("torch", None, 1.0)], 0.01, None)[0]


def test_the_picture_joins_what_no_other_variant_beats() -> None:
    assert [each.name for each in pareto([*ROWS, row("worse", 0.55, 15), row("unknown", None, 1)])] == [
        "small", "int8", "onnx",
    ]  # fmt: skip
    twins = [row("a", 0.5, 10), row("b", 0.5, 10)]
    assert pareto(twins) == twins


@pytest.mark.parametrize("text", ["", "fast", "-3ms", "0", "3 min"])
def test_a_latency_that_is_none_is_an_error(text: str) -> None:
    with pytest.raises(InputError, match="--latency-budget must be a time such as 20ms"):
        milliseconds(text)


def test_variants_take_turns_on_the_same_images() -> None:
    calls: list[tuple[str, int]] = []
    found = measure_latency(
        {name: lambda number, name=name: calls.append((name, number)) for name in ("a", "b")},  # type: ignore[misc]
        [7, 8],
        turns=3,
    )
    assert calls == [("a", 7), ("b", 7), *[(name, number) for number in (7, 8, 7) for name in ("a", "b")]]
    assert all(0 <= each.median <= each.p95 < 1000 for each in found.values())
    assert spread(list(range(1000)), 3) == [0, 500, 999]  # type: ignore[arg-type]
