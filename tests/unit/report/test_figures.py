"""Charts: text stays text, colours come from the page, ids do not clash, and nothing of matplotlib's state changes."""

from __future__ import annotations

import math
import re
from xml.etree import ElementTree

import numpy as np
import pytest

from tlvision.report.figures import (
    Line,
    PointGroup,
    dot_plot,
    heat_map,
    line_chart,
    reliability_diagram,
    running_mean,
    scatter,
)

BLUE, ORANGE = (0, 114, 178), (230, 159, 0)


def texts(svg: str) -> list[str]:
    """Return the texts of an SVG, which has to be well-formed."""
    return [element.text or "" for element in ElementTree.fromstring(svg).iter("text")]


def chart(*lines: Line) -> str:
    return line_chart(lines, x_label="step", y_label="loss")


def paths(svg: str, colour: str) -> list[str]:
    return re.findall(rf'<path d="([^"]*)"[^>]*stroke: {re.escape(colour)}', svg)


def test_a_line_chart_has_axes_legend_and_the_colours_of_the_page() -> None:
    svg = chart(Line("a", [0, 5, 10], [0.0, 0.5, 1.0]), Line("b", [0, 10], [1.0, 0.25], 1))
    assert {"step", "loss", "a", "b", "0", "10", "0.2"} <= {*texts(svg)}
    assert len(paths(svg, "var(--series-1)")) == 2  # the line and its entry in the legend
    assert len(paths(svg, "var(--series-2)")) == 2
    assert not re.search(r"#[0-9a-f]{6}\b", svg), "a colour that does not follow the page"
    assert 'aria-label="loss by step"' in svg
    assert "<style" not in svg
    assert "<metadata" not in svg


def test_names_are_escaped_and_are_no_formulas() -> None:
    svg = chart(Line("<b>$x^2$</b>", [0, 1], [0.0, 1.0]), Line("\"&' 夜", [0, 1], [1.0, 0.0]))
    assert {"<b>$x^2$</b>", "\"&' 夜"} <= {*texts(svg)}


def test_values_that_are_not_finite_make_a_gap() -> None:
    svg = chart(Line("", [0, 1, 2, 3, 4], [1.0, 2.0, math.nan, 2.0, None]))
    (line,) = paths(svg, "var(--series-1)")
    assert line.count("M ") == 2
    assert chart(Line("", [0, 1], [math.nan, None])) == ""
    assert chart() == ""


def test_long_lines_are_averaged_and_stay_small() -> None:
    rng = np.random.default_rng(0)
    values = rng.random(20_000)
    svg = chart(Line("", list(range(20_000)), values.tolist()))
    assert len(svg) < 16_000
    (line,) = paths(svg, "var(--series-1)")
    assert 100 < len(line.split("L")) <= 300


def test_charts_of_one_page_share_no_ids_and_are_the_same_each_time() -> None:
    one, other = chart(Line("", [0, 1], [0.0, 1.0])), chart(Line("", [0, 1], [0.0, 2.0]))
    assert one == chart(Line("", [0, 1], [0.0, 1.0]))
    ids = [{*re.findall(r' id="([^"]+)"', svg)} for svg in (one, other)]
    assert ids[0]
    assert not ids[0] & ids[1]
    for svg, known in zip((one, other), ids, strict=True):
        assert {*re.findall(r'(?:url\(#|href="#)([^")]+)', svg)} == known


def test_settings_of_matplotlib_have_no_effect_and_stay() -> None:
    import matplotlib

    before = chart(Line("a", [0, 1], [0.0, 1.0]))
    with matplotlib.rc_context({"font.size": 30, "axes.facecolor": "red", "text.usetex": False}):
        assert chart(Line("a", [0, 1], [0.0, 1.0])) == before
        assert matplotlib.rcParams["font.size"] == 30


def test_a_heat_map_has_the_counts_and_leaves_out_zeros() -> None:
    counts = np.array([[9_999, 0], [12_345, 3_400_000]])
    svg = heat_map(counts, ["cat", "a class with a very long name"], ["cat", "dog"], x_label="x", y_label="y")
    assert {"9999", "12k", "3.4M", "cat", "dog", "a class with a very l…"} <= {*texts(svg)}
    assert "0" not in texts(svg)
    assert len(re.findall(r'style="fill: var\(--series-1\)', svg)) == 3


def test_a_reliability_diagram_leaves_out_empty_bins() -> None:
    empty = {"detections": 0, "mean_score": None, "precision": None}
    bins = [empty, {"detections": 5, "mean_score": 0.5, "precision": 0.25}]
    assert "mean score" in texts(reliability_diagram(bins))
    assert reliability_diagram([empty]) == ""


def test_a_dot_plot_has_a_row_for_each_name() -> None:
    svg = dot_plot([("a", [0.1, 0.2], 0), ("b", [], 1)], [0.15], x_label="AP")
    assert {"a", "b", "AP"} <= {*texts(svg)}
    assert dot_plot([("a", [], 0)], [], x_label="AP") == ""


def test_the_running_mean_skips_what_is_not_finite() -> None:
    assert running_mean([1.0, math.nan, 3.0], 2) == [1.0, 1.0, 2.0]
    assert math.isnan(running_mean([None, 1.0], 1)[0])


def pixels_of(picture: np.ndarray, colour: tuple[int, int, int]) -> int:
    return int((np.abs(picture.astype(int) - colour).max(axis=2) < 12).sum())


def draw(first: np.ndarray, second: np.ndarray, name: str = "A", title: str = "title") -> np.ndarray:
    groups = [PointGroup(name, first, BLUE), PointGroup("B", second, ORANGE, "D")]
    return scatter(groups, title=title, x_label="first", y_label="second")


def test_both_groups_of_a_scatter_plot_are_visible() -> None:
    rng = np.random.default_rng(0)
    picture = draw(rng.normal(size=(50, 2)), rng.normal(size=(50, 2)) + np.array([10.0, 0.0]))
    assert picture.shape == (900, 1200, 3)
    assert picture.dtype == np.uint8
    left, right = picture[:, :550], picture[:, 650:]
    assert pixels_of(left, BLUE) > 2000
    assert pixels_of(right, ORANGE) > 2000
    assert pixels_of(right, BLUE) + pixels_of(left, ORANGE) < 400, "the legend at most"


def test_no_group_hides_another_where_they_lie_together() -> None:
    rng = np.random.default_rng(0)
    picture = draw(rng.normal(size=(200, 2)), rng.normal(size=(200, 2)))
    assert 0.8 < pixels_of(picture, BLUE) / pixels_of(picture, ORANGE) < 1.25


def test_long_titles_and_letters_beyond_ascii_are_drawn() -> None:
    picture = draw(np.zeros((1, 2)), np.ones((5, 2)), name="Straße 夜", title="a long title " * 30)
    assert (picture[:, -4:] == 255).all()


@pytest.mark.parametrize("points", [np.zeros((0, 2)), np.full((3, 2), np.nan)])
def test_nothing_to_draw_is_an_error(points: np.ndarray) -> None:
    with pytest.raises(ValueError, match="finite points"):
        scatter([PointGroup("a", points, BLUE)], title="", x_label="", y_label="")
