"""The picture of two clouds: every group is visible, text stays inside."""

from __future__ import annotations

import numpy as np
import pytest

from tlvision.report.scatter import PointGroup, scatter

BLUE, ORANGE = (0, 114, 178), (230, 159, 0)


def pixels_of(picture: np.ndarray, colour: tuple[int, int, int]) -> int:
    return int((np.abs(picture.astype(int) - colour).max(axis=2) < 12).sum())


def draw(first: np.ndarray, second: np.ndarray, name: str = "A", title: str = "title") -> np.ndarray:
    clouds = [PointGroup(name, first, BLUE), PointGroup("B", second, ORANGE, "diamond")]
    return scatter(clouds, title=title, x_label="first", y_label="second")


def test_both_groups_are_drawn_each_where_it_lies() -> None:
    rng = np.random.default_rng(0)
    picture = draw(rng.normal(size=(50, 2)), rng.normal(size=(50, 2)) + np.array([10.0, 0.0]))
    assert picture.shape == (900, 1200, 3)
    assert picture.dtype == np.uint8
    inside = picture[140:790]
    middle = 600
    assert pixels_of(inside[:, :middle], BLUE) > 1000
    assert pixels_of(inside[:, middle:], ORANGE) > 1000
    assert pixels_of(inside[:, middle:], BLUE) == pixels_of(inside[:, :middle], ORANGE) == 0


def test_neither_group_hides_the_other_where_they_lie_together() -> None:
    rng = np.random.default_rng(0)
    picture = draw(rng.normal(size=(200, 2)), rng.normal(size=(200, 2)))[140:790]
    assert 0.9 < pixels_of(picture, BLUE) / pixels_of(picture, ORANGE) < 1.2


def test_one_point_and_equal_points_are_fine() -> None:
    assert pixels_of(draw(np.zeros((1, 2)), np.zeros((5, 2))), ORANGE) > 50


def test_long_names_are_shortened() -> None:
    picture = draw(np.zeros((3, 2)), np.ones((3, 2)), title="a long title " * 30)
    assert (picture[:, -8:] == 255).all()


def test_letters_beyond_ascii_are_drawn() -> None:
    assert draw(np.zeros((3, 2)), np.ones((3, 2)), name="Straße 夜").shape == (900, 1200, 3)


@pytest.mark.parametrize("points", [np.zeros((0, 2)), np.full((3, 2), np.nan)])
def test_nothing_to_draw_is_an_error(points: np.ndarray) -> None:
    with pytest.raises(ValueError, match="finite points"):
        scatter([PointGroup("a", points, BLUE)], title="", x_label="", y_label="")
