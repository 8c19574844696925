"""Masks through the warp, there and back, against slow loops and OpenCV."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from tlvision.data import geometry as g
from tlvision.data.augment import Placement, place_mosaic, place_one
from tlvision.data.settings import AugmentSettings
from tlvision.data.targets import place_target
from tlvision.formats.coco import read_coco
from tlvision.formats.coco.rle import mask_to_rle, rle_to_mask
from tlvision.synthetic.inspection import render_inspection
from tlvision.types import InputSpec, Sample

MakeSample = Callable[..., Sample]


def slow_mask(mask: np.ndarray, matrix: g.Matrix, size: tuple[int, int], region: g.Region) -> np.ndarray:
    """Interpolate at every pixel centre, in a loop: float in 0..1, nan where rounding noise decides."""
    back = np.linalg.inv(matrix)
    out = np.zeros(size)
    height, width = mask.shape
    for row in range(size[0]):
        for column in range(size[1]):
            x, y, _ = back @ [column + 0.5, row + 0.5, 1]
            margins = [x - region[0], region[2] - x, y - region[1], region[3] - y]
            if min(abs(margin) for margin in margins) < 1e-3:
                out[row, column] = math.nan
            elif min(margins) > 0:
                left, top = math.floor(x - 0.5), math.floor(y - 0.5)
                for dy, dx in ((0, 0), (0, 1), (1, 0), (1, 1)):
                    weight = (1 - abs(left + dx + 0.5 - x)) * (1 - abs(top + dy + 0.5 - y))
                    out[row, column] += (
                        weight * mask[min(max(top + dy, 0), height - 1), min(max(left + dx, 0), width - 1)]
                    )
    return out


def ellipse(rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    mask = np.zeros(size, np.uint8)
    centre = int(rng.integers(0, size[1])), int(rng.integers(0, size[0]))
    cv2.ellipse(mask, centre, rng.integers(3, 16, 2).tolist(), float(rng.uniform(0, 180)), 0, 360, 1, -1)
    return mask


@pytest.mark.parametrize("seed", range(12))
def test_a_mask_is_set_where_a_slow_loop_finds_a_half(seed: int) -> None:
    rng = np.random.default_rng(seed)
    mask = ellipse(rng, (40, 50))
    matrix = g.scale(*rng.uniform(0.6, 2.5, 2)) @ g.translate(-25, -20)
    if seed % 2:
        matrix = g.rotate(float(rng.uniform(-180, 180))) @ matrix
    matrix = g.translate(30, 25) @ matrix
    region = (0.0, 0.0, 50.0, 40.0) if seed < 6 else (13.3, 5.1, 41.7, 33.9)
    canvas = np.zeros((50, 60), np.uint8)
    g.paint_mask(canvas, mask, matrix, region)
    expected = slow_mask(mask, matrix, (50, 60), region)
    sure = np.abs(expected - 0.5) > 0.06  # OpenCV may place samples on a grid of 1/32 pixel
    assert sure.mean() > 0.85
    assert (canvas[sure] == (expected[sure] > 0.5)).all()
    assert set(np.unique(canvas)) <= {0, 1}
    assert (expected[sure] > 0.5).any(), "the mask is to be seen"


def test_a_mask_that_shrinks_strongly_is_averaged_not_picked() -> None:
    stripes = np.zeros((200, 200), np.uint8)
    stripes[:, ::4] = 1  # a quarter is set: no pixel of a tenth of the size is half full
    canvas = np.zeros((20, 20), np.uint8)
    g.paint_mask(canvas, stripes, g.scale(0.1, 0.1))
    assert not canvas.any()
    g.paint_mask(canvas, 1 - stripes, g.scale(0.1, 0.1))
    assert canvas.all()


def share_covered(mask: np.ndarray, gain: float, offset: float, size: int) -> np.ndarray:
    """Return the share of each pixel of the shrunken image that the mask covers, by 24 x 24 samples a pixel."""
    samples = (np.arange(24 * size) + 0.5) / 24  # of one side of the shrunken image, 24 a pixel

    def counts(length: int) -> np.ndarray:
        """Return how many samples of each pixel (rows) lie in each pixel of the mask (columns)."""
        at = (samples - offset) / gain
        inside = (at >= 0) & (at < length)
        found = np.zeros((size, length))
        np.add.at(found, (np.arange(24 * size)[inside] // 24, at[inside].astype(int)), 1)
        return found

    return counts(len(mask)) @ mask @ counts(mask.shape[1]).T / 24**2


@pytest.mark.parametrize("gain", [0.48, 0.4, 1 / 3, 0.29, 0.2, 0.1])
def test_a_mask_that_shrinks_keeps_its_area(gain: float) -> None:
    """A mask used to be cut out before it was averaged, and its outermost pixels counted as going on: +2 to +10 %."""
    rng = np.random.default_rng(0)
    area = expected_area = 0.0
    for _ in range(12):
        mask = np.zeros((round(40 / gain),) * 2, np.uint8)
        centre, radii = rng.integers(14 / gain, 26 / gain, 2), (rng.uniform(4, 12, 2) / gain).astype(int)
        cv2.ellipse(mask, centre.tolist(), radii.tolist(), float(rng.uniform(0, 180)), 0, 360, 1, -1)
        offset = float(rng.uniform(0, 1))
        canvas = np.zeros((42, 42), np.uint8)
        g.paint_mask(canvas, mask, g.translate(offset, offset) @ g.scale(gain, gain))
        covered = share_covered(mask, gain, offset, 42)
        sure = np.abs(covered - 0.5) > 0.3
        assert (canvas[sure] == (covered[sure] > 0.5)).all()
        area, expected_area = area + canvas.sum(), expected_area + covered.sum()
    assert area / expected_area == pytest.approx(1, abs=0.012)


@pytest.mark.parametrize("side", [160, 256, 320, 400])
def test_a_predicted_mask_keeps_its_area_in_a_small_image(side: int) -> None:
    """An image of 160 to 400 pixels in an input of 640: the way back shrinks to 0.25 to 0.62."""
    gain, rng = side / 640, np.random.default_rng(1)
    areas = 0.0, 0.0
    y, x = np.mgrid[:640, :640] + 0.5
    for _ in range(8):
        across, down = rng.uniform(40, 600, 2)
        radius = float(rng.uniform(6, 14)) / gain
        disc = (np.hypot(x - across, y - down) < radius).astype(np.uint8)
        back = g.unwarp_masks(disc[None], g.scale(1 / gain, 1 / gain), (side, side))[0]
        areas = areas[0] + back.sum(), areas[1] + disc.sum() * gain**2
    assert areas[0] / areas[1] == pytest.approx(1, abs=0.012 if gain != 0.5 else 0.04)  # at 1/2 every rim is a tie


def test_masks_at_the_edge_of_the_input_reach_the_edge_of_the_image() -> None:
    masks = np.ones((1, 24, 32), np.uint8)
    found = g.unwarp_masks(masks, g.letterbox((480, 640), (24, 32)), (480, 640))
    assert found.all()


def test_masks_in_the_padding_alone_come_back_empty() -> None:
    matrix = g.letterbox((100, 200), (64, 64))  # 16 rows of padding above and below
    masks = np.zeros((3, 64, 64), np.uint8)
    masks[1, :15] = 1
    masks[2, 10:21] = 1
    found = g.unwarp_masks(masks, matrix, (100, 200))
    assert found.shape == (3, 100, 200)
    assert found.reshape(3, -1).any(axis=1).tolist() == [False, False, True]
    assert found[2].any(axis=1).tolist() == [True] * 16 + [False] * 84  # 5 rows, 3.125 times as high
    assert g.unwarp_masks(masks[:0], matrix, (100, 200)).shape == (0, 100, 200)


@pytest.mark.parametrize("size", [(480, 640), (231, 500), (1200, 900), (60, 40)])
@pytest.mark.parametrize("place", ["centre", "corner"])
def test_what_went_to_the_input_comes_back_with_smooth_edges(size: tuple[int, int], place: str) -> None:
    """A disc, seen at 160 pixels and brought back, is round again: closer to the disc than by the nearest pixel."""
    matrix = g.letterbox(size, (160, 160), place)
    y, x = np.mgrid[: size[0], : size[1]] + 0.5
    disc = (np.hypot(x - size[1] * 0.45, y - size[0] * 0.55) < 0.35 * min(size)).astype(np.uint8)
    there = np.zeros((160, 160), np.uint8)
    g.paint_mask(there, disc, matrix)
    back = g.unwarp_masks(there[None], matrix, size)[0]
    nearest = g.warp_mask(there, g.invert(matrix), size)
    assert iou(back, disc) > 0.975
    if max(size) > 200:
        assert iou(back, disc) > iou(nearest, disc)


def iou(one: np.ndarray, other: np.ndarray) -> float:
    return float((one & other).sum() / max((one | other).sum(), 1))


def rendered(sample: Sample, index: int) -> np.ndarray:
    """The object's mask in the original image at four times its size, outlines drawn by OpenCV: uint8, 0 and 255."""
    segment = sample.segments[index]
    size = 4 * sample.height, 4 * sample.width
    if isinstance(segment, dict):
        return cv2.resize(rle_to_mask(segment) * np.uint8(255), size[::-1], interpolation=cv2.INTER_LINEAR)
    assert segment is not None
    mask = np.zeros(size, np.uint8)
    for part in segment:
        cv2.fillPoly(mask, [np.round((part * 4 - 0.5) * 16).astype(np.int32)], 255, shift=4)
    return mask


def warped_by_opencv(sample: Sample, index: int, placement: Placement, size: tuple[int, int]) -> np.ndarray:
    """The object's mask, rendered large, warped by OpenCV, cut to the region, and reduced to `size`."""
    centred = g.translate(-0.5, -0.5) @ g.scale(4, 4) @ placement.matrix @ g.scale(0.25, 0.25) @ g.translate(0.5, 0.5)
    mask = rendered(sample, index)
    large = cv2.warpAffine(mask, centred[:2], (4 * size[1], 4 * size[0]), flags=cv2.INTER_LINEAR)
    x0, y0, x1, y1 = placement.region or (0.0, 0.0, float(sample.width), float(sample.height))
    rows, columns = np.arange(4 * size[0])[:, None] + 0.5, np.arange(4 * size[1])[None] + 0.5
    back = np.linalg.inv(g.scale(4, 4) @ placement.matrix)
    x, y = (a * columns + b * rows + c for a, b, c in back[:2])
    inside = (x >= x0) & (x < x1) & (y >= y0) & (y < y1)
    small = cv2.resize(large * inside.astype(np.uint8), size[::-1], interpolation=cv2.INTER_AREA)
    return (small > 127).astype(np.uint8)


@pytest.fixture(scope="module")
def outlines(tmp_path_factory: pytest.TempPathFactory) -> list[Sample]:
    """Plates with polygons, enlarged so that objects have some hundred pixels."""
    folder = tmp_path_factory.mktemp("plates")
    render_inspection(folder, domain="source", train=12, val=1, seed=3)
    return [sample for sample in read_coco(folder / "train.json", folder / "images").samples if len(sample.target)]


@pytest.fixture(scope="module")
def run_lengths(shared: Path) -> list[Sample]:
    """Photographs with run lengths, among them crowd regions."""
    folder = shared / "data" / "coco128"
    return [sample for sample in read_coco(folder / "train_seg.json", folder / "images").samples if len(sample.target)]


TURNED = AugmentSettings(mosaic=0, rotate=25, shear=8, scale=0.3, flip=0.5)
UPRIGHT = AugmentSettings(mosaic=0, scale=0.4, translate=0.2, flip=0.5, flip_vertical=0.5)
STILL = AugmentSettings(mosaic=0, scale=0, translate=0, flip=0)


@pytest.mark.parametrize("settings", [STILL, UPRIGHT, TURNED], ids=["letterbox", "flip, scale", "rotate, shear"])
@pytest.mark.parametrize("mosaic", [False, True], ids=["one", "mosaic"])
@pytest.mark.parametrize("form", ["outlines", pytest.param("run_lengths", marks=pytest.mark.shared)])
def test_targets_agree_with_the_warped_image(
    form: str, mosaic: bool, settings: AugmentSettings, request: pytest.FixtureRequest
) -> None:
    samples: list[Sample] = request.getfixturevalue(form)
    size, spec, rng = (320, 320), InputSpec(), np.random.default_rng(1)
    compared = cut = 0
    for first in range(0, 12, 4):
        chosen = samples[first : first + 4] if mosaic else samples[first : first + 1]
        sizes = [(sample.height, sample.width) for sample in chosen]
        placements = (
            place_mosaic(rng, settings, sizes, size, spec)
            if mosaic
            else [place_one(rng, settings, sizes[0], size, spec)]
        )
        expected = [
            (warped_by_opencv(sample, index, placement, size), int(label))
            for sample, placement in zip(chosen, placements, strict=True)
            for index, label in enumerate(sample.target.labels)
            if not sample.target.crowd[index]
        ]
        target = place_target(chosen, placements, size, masks=True)
        assert target.masks is not None
        assert not target.crowd.any()
        assert len(target.masks) == len(target) > 0
        candidates = list(expected)
        for mask, box, label in zip(target.masks, target.boxes, target.labels, strict=True):
            overlaps = [iou(mask, other) if other_label == label else 0.0 for other, other_label in candidates]
            best = int(np.argmax(overlaps))
            # A scratch of three pixels has nothing but edges, which may be off by a part of one.
            solid = cv2.distanceTransform(np.pad(mask, 1), cv2.DIST_L2, 3).max() >= 5
            assert overlaps[best] > (0.95 if solid else 0.6), (mask.sum(), overlaps[best])
            compared += solid
            candidates.pop(best)  # each object is there once
            seen = np.array(cv2.boundingRect(mask), float)
            seen[2:] += seen[:2]
            # An annotated box is exact where a mask has whole pixels; photographs are labelled to two or so.
            assert np.abs(seen - box).max() <= 2.5, (seen, box)
            cut += bool((seen[:2] <= 0).any() or (seen[2:] >= 320).any())
        lost = [mask for mask, _ in candidates]
        assert max((min(cv2.boundingRect(mask)[2:]) for mask in lost), default=0) <= 12, "what is large is not lost"
    assert compared >= 5
    assert cut or settings is STILL or not mosaic


@pytest.mark.parametrize("form", ["outline", "run lengths"])
def test_what_an_edge_leaves_of_an_object_has_the_box_of_its_mask(make_sample: MakeSample, form: str) -> None:
    """An L: a long bar at the left and a foot at the bottom. The canvas ends within the foot, above it or beside it."""
    points = np.array([[10, 10], [16, 10], [16, 44], [50, 44], [50, 50], [10, 50]], np.float32)
    drawn = np.zeros((60, 60), np.uint8)
    drawn[10:50, 10:16] = drawn[44:50, 10:50] = 1
    segment = (points,) if form == "outline" else mask_to_rle(drawn)
    sample = make_sample(1, (60, 60), [[10, 10, 50, 50]], segments=[segment])
    for region, expected in (
        ((0.0, 0.0, 60.0, 60.0), [[10, 10, 50, 50]]),
        ((0.0, 0.0, 60.0, 40.0), [[10, 10, 16, 40]]),  # the foot is gone, and half of the width with it
        ((20.0, 0.0, 60.0, 60.0), [[20, 44, 50, 50]]),
        ((20.0, 0.0, 60.0, 40.0), []),  # within the box, and nothing of the object
        ((0.0, 0.0, 60.0, 11.0), []),  # one row: too little
    ):
        target = place_target([sample], [Placement(np.eye(3), region)], (60, 60), masks=True)
        assert target.boxes.tolist() == expected, region
        assert len(target.masks) == len(expected)


def test_crowd_regions_are_no_targets(make_sample: MakeSample) -> None:
    mask = np.zeros((60, 60), np.uint8)
    mask[10:50, 10:50] = 1
    box, segment = [10.0, 10.0, 50.0, 50.0], mask_to_rle(mask)
    sample = make_sample(1, (60, 60), [box] * 3, crowd=[True, False, True], segments=[segment] * 3)
    target = place_target([sample], [Placement(np.eye(3), None)], (60, 60), masks=True)
    assert len(target) == len(target.masks) == 1


@pytest.mark.shared
def test_the_real_run_lengths_hold_crowd_regions(shared: Path) -> None:
    rows = json.loads((shared / "data" / "coco128" / "train_seg.json").read_text())["annotations"]
    assert sum(row["iscrowd"] for row in rows) > 0
