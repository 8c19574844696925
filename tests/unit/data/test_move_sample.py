"""Labels that move with their image: boxes, outlines and masks, against computations of another kind."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import pytest
from PIL import Image

from tlvision.data import geometry as g
from tlvision.data.dataset import EvalImages
from tlvision.data.targets import move_sample
from tlvision.formats.coco.rle import mask_to_rle, polygons_to_mask, segment_to_mask
from tlvision.types import InputSpec, Sample

MakeSample = Callable[..., Sample]
SIZE = (80, 100)
SHAPE = np.array([[30, 26], [44, 20], [70, 30], [66, 52], [46, 60], [34, 48]], np.float32)


def turn(degrees: float) -> g.Matrix:
    return g.translate(50, 40) @ g.rotate(degrees) @ g.translate(-50, -40)


def turned_by_hand(mask: np.ndarray, degrees: float) -> np.ndarray:
    """Rotate a mask about its middle, clockwise on the screen, pixel by pixel with complex numbers."""
    height, width = mask.shape
    rows, columns = np.mgrid[0:height, 0:width]
    here = (columns + 0.5 - width / 2) + 1j * (rows + 0.5 - height / 2)
    origin = here * np.exp(-1j * np.radians(degrees))
    x, y = np.floor(origin.real + width / 2).astype(int), np.floor(origin.imag + height / 2).astype(int)
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    result = np.zeros_like(mask)
    result[inside] = mask[y[inside], x[inside]]
    return result


def box_of(mask: np.ndarray) -> list[int]:
    rows, columns = np.nonzero(mask)
    return [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]


@pytest.mark.parametrize("form", ["polygon", "rle"])
@pytest.mark.parametrize("degrees", [-30, 8, 45, 90])
def test_a_rotated_object_agrees_with_its_mask_rotated_by_hand(
    make_sample: MakeSample, form: str, degrees: float
) -> None:
    mask = polygons_to_mask([SHAPE], *SIZE)
    segment = (SHAPE,) if form == "polygon" else mask_to_rle(mask)
    sample = make_sample(1, SIZE, [[30, 20, 70, 60]], segments=[segment])
    moved = move_sample(sample, turn(degrees), min_visible=0.5)
    expected = turned_by_hand(mask, degrees)
    assert np.abs(moved.target.boxes[0] - box_of(expected)).max() <= 1.01
    found = segment_to_mask(moved.segments[0], *SIZE)
    assert (found & expected).sum() / (found | expected).sum() > 0.95
    assert moved.target.crowd.tolist() == [False]


@pytest.mark.parametrize("segments", [None, "polygon", "rle"])
def test_half_the_scale_halves_boxes_exactly(make_sample: MakeSample, segments: str | None) -> None:
    boxes = [[10.0, 20.0, 41.0, 50.5], [3.0, 5.0, 90.0, 70.0]]
    masks = [polygons_to_mask([SHAPE], *SIZE)] * 2
    forms = {None: None, "polygon": [(SHAPE,)] * 2, "rle": [mask_to_rle(mask) for mask in masks]}
    sample = make_sample(1, SIZE, boxes, labels=[1, 0], segments=forms[segments])
    half = g.translate(50, 40) @ g.scale(0.5, 0.5) @ g.translate(-50, -40)
    moved = move_sample(sample, half, min_visible=0.5)
    sides = moved.target.boxes[:, 2:] - moved.target.boxes[:, :2]
    assert sides.tolist() == [[15.5, 15.25], [43.5, 32.5]]
    centres = (moved.target.boxes[:, 2:] + moved.target.boxes[:, :2]) / 2
    assert centres.tolist() == [[(25.5 + 50) / 2, (35.25 + 40) / 2], [(46.5 + 50) / 2, (37.5 + 40) / 2]]
    assert moved.target.labels.tolist() == [1, 0]
    assert not moved.target.crowd.any()
    if segments is not None:
        area = segment_to_mask(moved.segments[0], *SIZE).sum()
        assert area == pytest.approx(masks[0].sum() / 4, rel=0.06)


def test_a_round_object_with_a_box_alone_fits_the_rotated_picture(make_sample: MakeSample) -> None:
    """The network input shows the object where the moved box is."""
    sample = make_sample(1, (160, 200), [[120, 30, 170, 60]])
    image = np.full((160, 200, 3), 20, np.uint8)
    cv2.ellipse(image, (145 * 16 - 8, 45 * 16 - 8), (25 * 16, 15 * 16), 0, 0, 360, (250, 250, 250), -1, cv2.LINE_AA, 4)
    Image.fromarray(image).save(sample.path)
    matrix = g.translate(100, 80) @ g.rotate(25) @ g.translate(-100, -80)
    inputs = EvalImages([sample], InputSpec(multiple_of=32), 320)
    picture, _, meta = inputs.with_changes(view=lambda each: matrix).draw(0)
    seen = box_of(picture[..., 0] > 190)
    found = g.unwarp_boxes(np.array([seen], np.float32), meta.matrix, meta.size)
    moved = move_sample(sample, matrix, min_visible=0.5)
    assert np.abs(found - moved.target.boxes).max() < 1.3
    corners = g.transform_boxes(sample.target.boxes, matrix)
    assert np.abs(found - corners).max() > 5  # the box around the corners is looser
    assert (inputs.draw(0)[0] != picture).any()  # the inputs themselves are as they were


@pytest.mark.parametrize("form", ["box", "polygon", "rle"])
def test_an_object_that_is_mostly_hidden_is_a_crowd_region_and_one_outside_is_gone(
    make_sample: MakeSample, form: str
) -> None:
    box = np.array([[10, 10], [50, 10], [50, 40], [10, 40]], np.float32)
    segment = {"box": None, "polygon": (box,), "rle": mask_to_rle(polygons_to_mask([box], *SIZE))}[form]
    sample = make_sample(1, SIZE, [[10, 10, 50, 40]], segments=[segment])
    for angle in (0, 1e-3):  # upright maps have a way of their own
        for shift, crowd in ((-25, [False]), (-35, [True]), (-60, [])):
            moved = move_sample(sample, g.translate(shift, 0) @ g.rotate(angle), min_visible=0.5)
            assert moved.target.crowd.tolist() == crowd, (angle, shift)
            assert len(moved.segments) == len(crowd)
            if crowd:
                assert moved.target.boxes[0] == pytest.approx([0, 10, 50 + shift, 40], abs=0.6)


def test_crowd_regions_stay_and_objects_under_a_pixel_go(make_sample: MakeSample) -> None:
    sample = make_sample(1, SIZE, [[10, 10, 50, 40], [60, 60, 61.5, 62]], labels=[0, 1], crowd=[True, False])
    moved = move_sample(sample, g.scale(0.5, 0.5), min_visible=0.5)
    assert moved.target.labels.tolist() == [0]
    assert moved.target.crowd.tolist() == [True]


def test_changed_inputs_share_the_cache_and_leave_the_others(make_sample: MakeSample) -> None:
    samples = [make_sample(number, (40, 60)) for number in range(3)]
    inputs = EvalImages(samples, InputSpec(multiple_of=8), 64, cache_bytes=1 << 20)
    plain = [inputs.draw(index)[0] for index in range(3)]
    seen = []

    def invert(sample: Sample, image: np.ndarray) -> np.ndarray:
        seen.append(sample.image_id)
        return 255 - image

    changed = inputs.with_changes(invert)
    for index in range(3):
        picture, _, meta = changed.draw(index)
        first, second = picture.astype(int), plain[index].astype(int)
        shown = slice(0, int(meta.size[0] * meta.matrix[1, 1]))
        assert np.abs(first[shown] + second[shown] - 255)[2:-2].mean() < 60  # padding stays
        assert (inputs.draw(index)[0] == plain[index]).all()
    assert seen == [0, 1, 2]
    assert changed.loader.cache is inputs.loader.cache
