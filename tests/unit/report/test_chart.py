"""Charts are valid SVG whose points lie where the axes say."""

from __future__ import annotations

import math
import re
from itertools import pairwise
from xml.etree import ElementTree

import pytest

from tlvision.report.chart import Series, line_chart, nice_ticks, smooth

BLUE = (0, 114, 178)


def svg_of(chart: str) -> ElementTree.Element:
    return ElementTree.fromstring(chart[: chart.index("</svg>") + 6])


def polylines(chart: str) -> list[list[tuple[float, float]]]:
    found = svg_of(chart).findall("polyline")
    return [[tuple(map(float, pair.split(","))) for pair in line.get("points", "").split()] for line in found]  # type: ignore[misc]


def test_points_are_to_scale() -> None:
    chart = line_chart([Series("a", ((0, 0.0), (5, 0.5), (10, 1.0)), BLUE)], x_label="step", y_label="loss")
    (line,) = polylines(chart)
    assert line[0][0] < line[1][0] < line[2][0]
    assert line[0][1] > line[1][1] > line[2][1]  # up is smaller in SVG
    assert line[1] == pytest.approx([(line[0][axis] + line[2][axis]) / 2 for axis in (0, 1)], abs=0.11)
    texts = [text.text for text in svg_of(chart).findall("text")]
    assert {"0", "0.2", "1", "10", "step"} <= set(texts)
    # The tick "1" stands at the height of the point with y = 1.
    ticks = {
        text.text: float(text.get("y", "nan")) - 4 for text in svg_of(chart).findall("text") if text.get("x") == "56"
    }
    assert ticks["1"] == pytest.approx(line[2][1], abs=0.2)


def test_what_is_not_finite_makes_a_gap() -> None:
    points = ((0, 1.0), (1, math.nan), (2, 2.0), (3, math.inf), (4, 3.0), (5, 4.0))
    chart = line_chart([Series("a", points, BLUE, marks=True)], x_label="x", y_label="y")
    assert [len(line) for line in polylines(chart)] == [1, 1, 2]
    assert len(svg_of(chart).findall("circle")) == 4
    assert "nan" not in chart
    assert "inf" not in chart


@pytest.mark.parametrize("points", [(), ((0, math.nan),), ((math.nan, 1.0),)])
def test_nothing_to_draw_is_an_empty_string(points: tuple[tuple[float, float], ...]) -> None:
    assert line_chart([Series("a", points, BLUE)], x_label="x", y_label="y") == ""


@pytest.mark.parametrize("points", [((3, 2.0),), ((0, 0.0), (1, 0.0)), ((0, 1e9), (1, 1e9)), ((0, 1e-9), (1, 2e-9))])
def test_one_point_or_one_value_is_drawn_inside_the_axes(points: tuple[tuple[float, float], ...]) -> None:
    chart = line_chart([Series("a", points, BLUE)], x_label="x", y_label="y")
    (line,) = polylines(chart)
    assert all(62 <= x <= 628 and 12 <= y <= 218 for x, y in line)


def test_many_points_are_averaged_not_dropped() -> None:
    points = tuple((float(x), float(x % 2)) for x in range(10_000))
    (line,) = polylines(line_chart([Series("a", points, BLUE)], x_label="x", y_label="y"))
    assert 300 <= len(line) <= 400
    assert len({y for _, y in line[:-1]}) <= 2  # each average of 25 alternating values is 0.48 or 0.52


def test_names_are_escaped() -> None:
    lines = [Series("<b>&", ((0, 1.0),), BLUE, marks=True), Series("c", ((0, 2.0),), BLUE)]
    chart = line_chart(lines, x_label="<x>", y_label='"y"')
    assert "<b>&" not in chart
    assert re.search(r"&lt;b&gt;&amp;</span>", chart)
    svg_of(chart)


@pytest.mark.parametrize(("low", "high"), [(0, 1), (0.3, 0.7), (-5, 1e6), (1e-8, 3e-8), (2, 2), (0, 0)])
def test_ticks_enclose_the_range_in_equal_steps(low: float, high: float) -> None:
    ticks = nice_ticks(low, high)
    assert ticks[0] <= low <= high <= ticks[-1]
    assert 3 <= len(ticks) <= 9
    steps = [b - a for a, b in pairwise(ticks)]
    assert steps == pytest.approx([steps[0]] * len(steps))
    assert steps[0] > 0


def test_running_mean_skips_what_is_not_finite() -> None:
    assert smooth(((0, 1.0), (1, math.nan), (2, 3.0)), 2) == ((0, 1.0), (2, 2.0))
    assert smooth(((0, 1.0), (1, 3.0)), 1) == ((0, 1.0), (1, 3.0))
