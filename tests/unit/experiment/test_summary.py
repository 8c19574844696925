"""Columns that follow from others: share of the gap, forgetting, cost, regret, and warnings of collapse."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tlvision.experiment.run_figures import RunFigures, read_figures
from tlvision.experiment.summary import Row, fill_derived
from tlvision.experiment.table_text import cells, columns_of, short_columns_of
from tlvision.tasks import Metric

AP, LOSS = Metric("bbox/AP"), Metric("x/loss", higher_is_better=False)


def row(name: str, values: list[float], sources: list[float] = [], objects: list[float] = []) -> Row:  # noqa: B006
    figures = [RunFigures(value) for value in values]
    for place, source in enumerate(sources):
        figures[place] = RunFigures(values[place], source)
    if objects:
        figures = [RunFigures(None, objects=count) for count in objects]
    made = Row({"arm": name}, name, values={str(n): value for n, value in enumerate(values)}, figures=figures)
    made.seconds = [120.0] * len(values)
    return made


def test_the_share_of_the_gap_and_what_is_forgotten() -> None:
    base = row("source_only", [0.2, 0.3], [0.8, 0.6])
    method = row("mt", [0.3, 0.4], [0.7, 0.5])
    oracle = row("oracle", [0.6, 0.7])
    for each in (base, method, oracle):
        fill_derived(each, base, oracle, AP)
    assert [each.gap_closed for each in (base, method, oracle)] == [0.0, pytest.approx(0.25), pytest.approx(1.0)]
    assert [each.forgetting for each in (base, method, oracle)] == [0.0, pytest.approx(0.1), None]
    assert method.cost == pytest.approx(2 / 10), "two minutes for ten points"
    assert base.cost is None
    poor = row("oracle", [0.1, 0.1])
    fill_derived(method_again := row("mt", [0.3, 0.4]), base, poor, AP)
    assert method_again.gap_closed is None, "an oracle that is no better leaves no gap to close"


def test_a_lower_metric_may_be_the_better_one() -> None:
    base, method, oracle = row("a", [1.0], [2.0]), row("b", [0.8], [2.5]), row("c", [0.6])
    fill_derived(method, base, oracle, LOSS)
    assert (method.gap_closed, method.forgetting) == (pytest.approx(0.5), pytest.approx(0.5))
    assert method.cost == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("objects", "word"),
    [([2.0, 4.4], "confirmation bias"), ([0.9, 3.9], "prediction collapse"), ([1.1, 3.9], ""), ([], "")],
)
def test_a_row_that_finds_far_more_or_less_than_its_reference_is_told_of(objects: list[float], word: str) -> None:
    base, method = row("source_only", [0.2, 0.3], objects=[1.5, 2.5]), row("mt", [0.3, 0.4], objects=objects)
    oracle = row("oracle", [0.6, 0.7], objects=[9.0, 9.0])
    fill_derived(method, base, oracle, AP)
    fill_derived(oracle, base, oracle, AP)
    assert [bool(each.notes) for each in (method, oracle)] == [bool(word), False]
    assert word in " ".join(method.notes)


def test_figures_of_a_run_are_read_from_its_files(tmp_path: Path) -> None:
    content = {"bbox": {"AP": 0.3, "APs": None}, "source": {"bbox": {"AP": 0.5}}, "unlabelled": {"objects": 2.0}}
    content |= {"counts": {"predictions": 7}, "selection": {"by": "source/bbox/AP"}}
    (tmp_path / "metrics.json").write_text(json.dumps(content))
    assert read_figures(tmp_path, AP) == RunFigures(0.3, 0.5, None, 2.0, 7, None, "source/bbox/AP", True)
    (tmp_path / "finished.json").write_text('{"step": 3, "peak_memory": 1000}')
    lines = [
        {"kind": "step"},
        {"kind": "evaluation", "metrics": {"target/bbox/AP": 0.35, "source/bbox/AP": 0.9}},
        {"kind": "evaluation", "metrics": {"target/bbox/AP": 0.3}},
    ]
    (tmp_path / "log.jsonl").write_text("\n".join(map(json.dumps, lines)))
    found = read_figures(tmp_path, AP)
    assert (found.regret, found.memory) == (pytest.approx(0.05), 1000)
    small = read_figures(tmp_path, Metric("bbox/APs"))
    assert (small.value, small.source, small.regret, small.wants_source) == (None, None, None, True)


def test_the_regret_of_a_metric_whose_lowest_value_is_best(tmp_path: Path) -> None:
    (tmp_path / "metrics.json").write_text(json.dumps({"x": {"loss": 0.5}}))
    lines = [{"kind": "evaluation", "metrics": {"x/loss": value}} for value in (0.3, 0.9, 0.5)]
    (tmp_path / "log.jsonl").write_text("\n".join(map(json.dumps, lines)))
    assert read_figures(tmp_path, LOSS).regret == pytest.approx(0.2)


def test_columns_without_a_value_are_left_out() -> None:
    base, method = row("a", [0.2]), row("b", [0.3])
    table = {"against": {}, "rows": [each.as_json() for each in (base, method)]}
    assert columns_of(table) == ("count", "mean", "sd", "min", "max", "minutes")
    fill_derived(method, base, None, AP)
    table = {"against": {"arm": "a"}, "rows": [each.as_json() for each in (base, method)]}
    assert columns_of(table)[-2:] == ("minutes", "cost")
    assert short_columns_of(table) == ("mean", "sd", "difference", "interval", "verdict", "cost", "minutes")
    method.low, method.high = 0.05, 0.15
    assert cells(method.as_json(), ("interval", "difference")) == ["+0.0500 to +0.1500", "-"]
