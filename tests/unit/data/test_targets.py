from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from faster_coco_eval.core import mask as coco_mask

from tlvision.data import geometry as g
from tlvision.data.augment import Placement
from tlvision.data.targets import place_target
from tlvision.formats.coco.rle import mask_to_rle
from tlvision.types import Sample

MakeSample = Callable[..., Sample]
BOX = [10.0, 10.0, 50.0, 40.0]


def rectangle(box: list[float]) -> tuple[np.ndarray, ...]:
    x0, y0, x1, y1 = box
    return (np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]], np.float32),)


def filled(box: list[float], size: tuple[int, int]) -> np.ndarray:
    mask = np.zeros(size, np.uint8)
    x0, y0, x1, y1 = (int(side) for side in box)
    mask[y0:y1, x0:x1] = 1
    return mask


@pytest.mark.parametrize("form", ["polygon", "rle"])
def test_what_a_mosaic_cuts_off_is_neither_in_the_mask_nor_in_the_box(make_sample: MakeSample, form: str) -> None:
    segment = rectangle(BOX) if form == "polygon" else mask_to_rle(filled(BOX, (60, 60)))
    sample = make_sample(1, (60, 60), [BOX], segments=[segment])
    placement = Placement(g.translate(5, 0), (0.0, 0.0, 30.0, 60.0))
    target = place_target([sample], [placement], (80, 80), masks=True)
    assert target.boxes.tolist() == [[15, 10, 35, 40]]
    assert (target.masks[0] == filled([15, 10, 35, 40], (80, 80))).all()


def test_a_turned_outline_gives_a_tighter_box_than_its_turned_box(make_sample: MakeSample) -> None:
    diamond = (np.array([[30, 10], [50, 25], [30, 40], [10, 25]], np.float32),)
    turn = g.translate(40, 40) @ g.rotate(45) @ g.translate(-30, -25)
    boxes = {}
    for name, segments in (("outline", [diamond]), ("box", [None])):
        sample = make_sample(1, (60, 60), [BOX], segments=segments)
        boxes[name] = place_target([sample], [Placement(turn, None)], (80, 80), masks=False).boxes[0]
    corners = g.apply(turn, diamond[0])
    assert np.abs(boxes["outline"] - [*corners.min(axis=0), *corners.max(axis=0)]).max() < 1e-4
    assert boxes["box"][2] - boxes["box"][0] == pytest.approx((40 + 30) * np.sqrt(0.5), abs=1e-3)
    assert (boxes["outline"][2:] - boxes["outline"][:2] < boxes["box"][2:] - boxes["box"][:2] - 5).all()


def test_a_turned_outline_is_cut_at_the_canvas_and_dropped_by_the_same_rule(make_sample: MakeSample) -> None:
    sample = make_sample(1, (60, 60), [BOX], segments=[rectangle(BOX)])
    for shift, kept in ((-20, 1), (-80, 0)):
        turn = g.translate(shift, 20) @ g.rotate(10)
        target = place_target([sample], [Placement(turn, None)], (80, 80), masks=False)
        assert len(target) == kept
        if kept:
            outline = g.apply(turn, rectangle(BOX)[0])
            assert target.boxes[0, 0] == 0
            assert np.abs(target.boxes[0, 2:] - outline.max(axis=0)).max() < 1e-4


def test_an_object_whose_mask_is_empty_is_left_out_of_all_fields(make_sample: MakeSample) -> None:
    speck = np.zeros((60, 60), np.uint8)
    speck[39, 49] = 1  # the box is large, what is labelled in it one pixel, which falls between two when shrunk
    segments = [mask_to_rle(speck), mask_to_rle(filled(BOX, (60, 60)))]
    sample = make_sample(1, (60, 60), [BOX, BOX], labels=[0, 2], segments=segments)
    target = place_target([sample], [Placement(g.scale(0.3, 0.3), None)], (40, 40), masks=True)
    assert target.labels.tolist() == [2]
    assert (len(target.boxes), len(target.masks)) == (1, 1)


def test_outlines_are_rasterised_after_the_warp(make_sample: MakeSample) -> None:
    # Enlarged four times, a mask made of pixels would have steps of four; an outline has none.
    triangle = (np.array([[2, 2], [17, 3], [4, 18]], np.float32),)
    sample = make_sample(1, (20, 20), [[2, 2, 17, 18]], segments=[triangle])
    target = place_target([sample], [Placement(g.scale(4, 4), None)], (80, 80), masks=True)
    flat = (triangle[0].astype(float) * 4).ravel().tolist()
    expected = coco_mask.decode(coco_mask.frPyObjects([flat], 80, 80))[:, :, 0]
    assert (target.masks[0] == expected).all()
