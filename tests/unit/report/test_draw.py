"""Pictures: what is drawn, where, and in which colour."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

from tlvision.report import contact_sheet, draw_pair, draw_prediction
from tlvision.report.colours import class_colour
from tlvision.report.draw import _place_labels
from tlvision.types import Prediction, Target

NAMES = ["cell", "dust", "scratch"]
BACKGROUNDS = {"black": 0, "grey": 128, "white": 255}


def picture(height: int = 400, width: int = 500, value: int = 128) -> Any:
    return np.full((height, width, 3), value, np.uint8)


def boxes_of(*boxes: Any, labels: Any = None, scores: Any = None, masks: Any = None) -> Prediction:
    count = len(boxes)
    return Prediction(
        boxes=np.array(boxes, np.float32).reshape(count, 4),
        scores=np.array(scores if scores is not None else [0.9] * count, np.float32),
        labels=np.array(labels if labels is not None else [0] * count, np.int64),
        masks=masks,
    )


def label_map(values: Any) -> Prediction:
    nothing = boxes_of()
    return Prediction(boxes=nothing.boxes, scores=nothing.scores, labels=nothing.labels, semantic=values)


def target_of(*boxes: Any, semantic: Any = None) -> Target:
    count = len(boxes)
    return Target(
        boxes=np.array(boxes, np.float32).reshape(count, 4),
        labels=np.zeros(count, np.int64),
        crowd=np.zeros(count, bool),
        semantic=semantic,
    )


def share_of(drawn: Any, colour: Any) -> float:
    return float((drawn == np.array(colour, np.uint8)).all(-1).mean())


@pytest.mark.parametrize("value", BACKGROUNDS.values(), ids=BACKGROUNDS)
def test_the_box_lies_where_it_should_on_any_background(value: int) -> None:
    image = picture(value=value)
    drawn = draw_prediction(image, boxes_of([100, 150, 300, 350], labels=[1]), NAMES)
    assert drawn.shape == image.shape
    assert drawn.dtype == np.uint8
    assert (image == value).all()  # the input is not touched
    colour = class_colour(1)
    for x, y in ((100, 250), (300, 250), (200, 350)):  # left, right and lower edge
        assert tuple(drawn[y, x]) == colour
    assert (drawn[160:340, 110:290] == value).all()  # nothing inside, nothing far outside
    assert (drawn[:, 420:] == value).all()
    # The line has a dark rim, so that it is seen even on its own colour.
    assert (drawn[250, 96:105].sum(1) == 0).any()


def test_the_label_is_written_above_the_box_in_the_class_colour() -> None:
    drawn = draw_prediction(picture(), boxes_of([100, 150, 300, 350], labels=[1]), NAMES)
    strip = drawn[130:148, 100:160]
    assert share_of(strip, class_colour(1)) > 0.2
    assert (strip.max(-1) < 80).mean() > 0.02  # dark letters


def test_low_scores_are_left_out() -> None:
    prediction = boxes_of([100, 150, 300, 350], scores=[0.2])
    assert (draw_prediction(picture(), prediction, NAMES) == 128).all()
    assert (draw_prediction(picture(), prediction, NAMES, min_score=0.1) != 128).any()


def test_no_object_is_an_unchanged_picture() -> None:
    assert (draw_prediction(picture(), boxes_of(), NAMES) == picture()).all()


@pytest.mark.parametrize("box", [[-50, -50, 600, 500], [490, 390, 800, 900], [700, 700, 800, 800], [10, 10, 10, 10]])
def test_a_box_outside_or_without_size_does_not_fail(box: Any) -> None:
    assert draw_prediction(picture(), boxes_of(box), NAMES).shape == (400, 500, 3)


def test_a_box_that_leaves_the_picture_is_closed_at_its_border() -> None:
    drawn = draw_prediction(picture(), boxes_of([-50, 100, 600, 300]), NAMES)
    for x in (0, 499):
        assert tuple(drawn[200, x]) == class_colour(0)


def test_labels_keep_clear_of_each_other() -> None:
    # Three boxes with the same upper left corner: each finds a place of its own for its text, so that as many pixels
    # of each colour are seen together as alone.
    boxes = [(100.0, 150.0, 300.0 + 10 * k, 350.0 + 10 * k) for k in range(3)]
    colours = [class_colour(k) for k in range(3)]

    def area(which: list[int]) -> list[float]:
        canvas = Image.new("RGB", (500, 400))
        pen = ImageDraw.Draw(canvas)
        _place_labels(
            pen, canvas.size, [boxes[k] for k in which], ["name 0.90"] * len(which), [colours[k] for k in which]
        )
        return [share_of(np.asarray(canvas), colours[k]) for k in which]

    together = area([0, 1, 2])
    alone = [area([k])[0] for k in range(3)]
    assert min(alone) > 0
    assert together == pytest.approx(alone, rel=0.1)


def test_small_images_are_enlarged_and_large_ones_get_thick_lines() -> None:
    small = draw_prediction(picture(75, 100), boxes_of([20, 20, 60, 60]), NAMES)
    assert small.shape == (300, 400, 3)
    assert tuple(small[160, 240]) == class_colour(0)  # (60, 40) times 4
    large = draw_prediction(picture(1500, 6000), boxes_of([1000, 400, 3000, 1300]), NAMES)
    assert large.shape == (1500, 6000, 3)
    row = (large[800, 980:1040] == np.array(class_colour(0))).all(-1).sum()
    assert 10 <= row <= 20


def test_ground_truth_is_dashed_in_the_class_colour() -> None:
    drawn = draw_prediction(picture(), boxes_of(), NAMES, target=target_of([100, 150, 300, 350]))
    edge = drawn[150, 100:301]
    coloured, black = share_of(edge, class_colour(0)), share_of(edge, (0, 0, 0))
    assert 0.3 < coloured < 0.7
    assert 0.3 < black < 0.7
    assert share_of(drawn[200:300, 150:250], (128, 128, 128)) == 1


def test_labelled_masks_have_dashed_outlines_and_no_box() -> None:
    masks = np.zeros((2, 400, 500), np.uint8)
    masks[0, 150:350, 100:300] = 1
    masks[0, 200:300, 150:250] = 0  # a hole has an outline of its own
    target = replace(target_of([100, 150, 300, 350], [0, 0, 500, 400]), masks=masks, labels=np.array([1, 2]))
    drawn = draw_prediction(picture(), boxes_of(), NAMES, target=target)
    for edge in (drawn[150, 100:300], drawn[349, 100:300], drawn[150:350, 100], drawn[199, 151:249]):
        coloured, black = share_of(edge[None], class_colour(1)), share_of(edge[None], (0, 0, 0))
        assert 0.3 < coloured < 0.7
        assert 0.3 < black < 0.7
    assert share_of(drawn[210:290, 160:240], (128, 128, 128)) == 1
    assert share_of(drawn[5:140], (128, 128, 128)) == 1, "of an empty mask there is nothing to draw, nor its box"
    small = draw_prediction(picture(75, 100), boxes_of(), NAMES, target=replace(
        target_of([20, 20, 60, 60]), masks=np.pad(np.ones((1, 40, 40), np.uint8), ((0, 0), (20, 15), (20, 40)))
    ))  # fmt: skip
    rows, columns = np.nonzero((small != 128).any(-1))
    seen = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
    assert np.abs(seen - [80, 80, 240, 240]).max() <= 4  # four times as large; the line lies on the outermost pixels


def test_masks_are_half_transparent_with_a_rim() -> None:
    masks = np.zeros((1, 400, 500), np.uint8)
    masks[0, 200:300, 150:250] = 1
    image = picture(value=100)
    drawn = draw_prediction(image, boxes_of([100, 150, 300, 350], masks=masks), NAMES)
    assert (image == 100).all()  # the input is not touched
    mixed = np.array(class_colour(0)) * 0.45 + 100 * 0.55
    assert np.abs(drawn[250, 200] - mixed).max() <= 1
    assert tuple(drawn[200, 200]) == class_colour(0)
    assert (drawn[320, 200] == 100).all()


def test_a_label_map_is_laid_over_the_image_with_a_legend_below() -> None:
    labels = np.zeros((400, 500), np.int64)
    labels[:, 250:] = 2
    labels[:10] = 255
    drawn = draw_prediction(picture(), label_map(labels), NAMES)
    assert drawn.shape[1:] == (500, 3)
    assert drawn.shape[0] > 410
    assert (drawn[5] == 128).all()  # ignored pixels stay
    for x, index in ((100, 0), (400, 2)):
        mixed = np.array(class_colour(index)) * 0.45 + 128 * 0.55
        assert np.abs(drawn[200, x] - mixed).max() <= 1
    legend = drawn[400:]
    present = [share_of(legend, class_colour(index)) > 0 for index in range(3)]
    assert present == [True, False, True]


def test_a_labelled_map_stands_on_the_left() -> None:
    truth, found = np.zeros((400, 500), np.int64), np.ones((400, 500), np.int64)
    drawn = draw_prediction(picture(), label_map(found), NAMES, target=target_of(semantic=truth))
    assert drawn.shape[1] == 1000
    left, right = drawn[300, 250], drawn[300, 750]
    assert np.abs(left - (np.array(class_colour(0)) * 0.45 + 128 * 0.55)).max() <= 1
    assert np.abs(right - (np.array(class_colour(1)) * 0.45 + 128 * 0.55)).max() <= 1


WRONG: list[tuple[str, Any, Any, str]] = [
    ("float image", np.zeros((4, 4, 3)), boxes_of(), "image.*uint8"),
    ("grey image", np.zeros((4, 4), np.uint8), boxes_of(), r"image.*\(H, W, 3\)"),
    ("mask size", picture(), boxes_of([0, 0, 9, 9], masks=np.zeros((1, 4, 4), np.uint8)), r"masks.*\(K, 400, 500\)"),
    ("map size", picture(), label_map(np.zeros((4, 4), np.int64)), r"semantic.*\(400, 500\)"),
    ("no such class", picture(), boxes_of([0, 0, 9, 9], labels=[3]), r"0\.\.2, got 3\.\.3"),
    ("no such class in a map", picture(), label_map(np.full((400, 500), 7)), r"0\.\.2, got 7\.\.7"),
]


@pytest.mark.parametrize(
    ("image", "prediction", "message"), [pytest.param(*case[1:], id=case[0]) for case in WRONG]
)  # fmt: skip
def test_wrong_input(image: Any, prediction: Any, message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        draw_prediction(image, prediction, NAMES)


def test_contact_sheet_places_pictures_row_by_row() -> None:
    pictures = [picture(100, 100, 10), picture(50, 100, 20), picture(300, 100, 30)]
    sheet = contact_sheet(pictures, columns=2, width=406)
    cell, gap = 200, 2
    assert sheet.shape == (200 + 600 + 3 * gap, 406, 3)
    assert (sheet[gap + 100, gap + 100] == 10).all()
    assert (sheet[gap + 50, 2 * gap + cell + 100] == 20).all()
    assert (sheet[gap + 150, 2 * gap + cell + 100] == 255).all()  # below the flat picture
    assert (sheet[2 * gap + 200 + 300, gap + 100] == 30).all()


@pytest.mark.parametrize(("count", "columns", "width"), [(0, 2, 400), (1, 0, 400), (1, 100, 200)])
def test_contact_sheet_refuses_the_impossible(count: int, columns: int, width: int) -> None:
    with pytest.raises(ValueError, match="contact_sheet"):
        contact_sheet([picture()] * count, columns, width)


def test_a_label_at_the_upper_edge_keeps_all_of_its_letters() -> None:
    # The label of the first box has no room above it and moves into the picture.
    letters = []
    for top in (0, 150):
        drawn = draw_prediction(picture(), boxes_of([100, top, 300, 350]), NAMES)
        strip = drawn[max(top - 25, 0) : max(top - 25, 0) + 22, 104:150]
        letters.append(int((strip.max(-1) < 100).sum()))
    assert letters[0] > 40
    assert letters[0] >= 0.9 * letters[1]


def test_a_pair_names_the_errors_and_only_outlines_what_is_right() -> None:
    found = boxes_of([50, 50, 150, 150], [250, 200, 350, 300], labels=[0, 1])
    truth, prediction = draw_pair(
        picture(), found, target_of([50, 50, 150, 150], [400, 20, 480, 90]), NAMES, wrong=[None, "background"],
        missed=[False, True], side=500
    )  # fmt: skip
    assert truth.shape == prediction.shape == (400, 500, 3)
    colours = [np.array(class_colour(index), np.uint8) for index in range(2)]
    # A right object is a line of two pixels, an error a filled text over a thick line.
    assert 0.003 < share_of(prediction, colours[0]) < 0.006 < share_of(prediction, colours[1])
    assert share_of(truth[:180, 180:], colours[0]) > share_of(truth[:, :180], colours[0]) > 0.005
    assert share_of(truth, colours[1]) == 0
    named, _ = draw_pair(picture(), found, target_of(), NAMES, side=500)
    _, all_named = draw_pair(picture(), found, target_of(), NAMES, side=500)
    assert share_of(named, colours[0]) == 0
    assert share_of(all_named, colours[0]) > 0.006


@pytest.mark.parametrize(("size", "side", "expected"), [((1000, 2000), 560, (280, 560)), ((40, 80), 560, (160, 320))])
def test_the_pictures_of_a_pair_have_a_bounded_size(
    size: tuple[int, int], side: int, expected: tuple[int, int]
) -> None:
    masks = np.zeros((1, *size), np.uint8)
    masks[0, : size[0] // 2, : size[1] // 2] = 1
    found = boxes_of([0, 0, size[1] // 2, size[0] // 2], masks=masks)
    target = replace(target_of([0, 0, size[1] // 2, size[0] // 2]), masks=masks)
    for drawn in draw_pair(picture(*size), found, target, NAMES, wrong=[None], missed=[False], side=side):
        assert drawn.shape == (*expected, 3)
        upper, lower = drawn[10 : expected[0] // 2 - 10, 10 : expected[1] // 2 - 10], drawn[expected[0] // 2 + 10 :]
        assert (upper != 128).all()
        assert (lower == 128).all()


def test_a_pair_of_label_maps_has_one_map_in_each_picture() -> None:
    left, right = np.zeros((300, 400), np.int64), np.full((300, 400), 1, np.int64)
    pictures = draw_pair(picture(300, 400), label_map(left), target_of(semantic=right), NAMES)
    expected = [draw_pair(picture(300, 400), label_map(m), target_of(semantic=m), NAMES)[0] for m in (right, left)]
    assert all((drawn == one).all() for drawn, one in zip(pictures, expected, strict=True))
    assert (pictures[0] != pictures[1]).any()
