from __future__ import annotations

import math

import numpy as np
import pytest

from tlvision.data import geometry as g

PAD = (7, 8, 9)


def random_matrix(rng: np.random.Generator, *, upright: bool = False, low: float = 0.6) -> g.Matrix:
    """A map of a 40 x 50 image to somewhere around a 45 x 60 canvas."""
    matrix = g.scale(*rng.uniform(low, 1.8, 2)) @ g.translate(-25, -20)
    if not upright:
        matrix = g.shear(*rng.uniform(-20, 20, 2)) @ g.rotate(rng.uniform(-180, 180)) @ matrix
    matrix = g.translate(*rng.uniform(15, 40, 2)) @ matrix
    if rng.random() < 0.5:
        matrix = g.flip_horizontal(60) @ matrix
    if rng.random() < 0.5:
        matrix = g.flip_vertical(45) @ matrix
    return matrix


def slow_warp(
    image: np.ndarray, matrix: g.Matrix, size: tuple[int, int], region: g.Region, nearest: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Sample at every pixel centre, in a loop; also says which pixels rounding noise decides."""
    back = np.linalg.inv(matrix)
    out = np.empty((*size, 3))
    out[:] = PAD
    doubtful = np.zeros(size, bool)
    height, width = image.shape[:2]
    for row in range(size[0]):
        for column in range(size[1]):
            x, y, _ = back @ [column + 0.5, row + 0.5, 1]
            margins = [x - region[0], region[2] - x, y - region[1], region[3] - y]
            doubtful[row, column] = min(abs(margin) for margin in margins) < 1e-3
            if min(margins) < 0:
                continue
            if nearest:
                out[row, column] = image[min(int(y), height - 1), min(int(x), width - 1)]
                doubtful[row, column] |= min(abs(x - round(x)), abs(y - round(y))) < 0.02
                continue
            left, top = math.floor(x - 0.5), math.floor(y - 0.5)
            total = np.zeros(3)
            for dy, dx in ((0, 0), (0, 1), (1, 0), (1, 1)):
                weight = (1 - abs(left + dx + 0.5 - x)) * (1 - abs(top + dy + 0.5 - y))
                total += weight * image[min(max(top + dy, 0), height - 1), min(max(left + dx, 0), width - 1)]
            out[row, column] = total
    return out, doubtful


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("nearest", [False, True])
def test_the_warp_samples_where_a_slow_loop_does(seed: int, nearest: bool) -> None:
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (40, 50, 3), dtype=np.uint8)
    matrix = random_matrix(rng, upright=seed % 2 == 0)
    region = (0.0, 0.0, 50.0, 40.0) if seed < 4 else (3.3, 5.1, 41.7, 33.9)
    canvas = g.filled((45, 60), PAD)
    g.paint(canvas, image, matrix, region, nearest=nearest)
    expected, doubtful = slow_warp(image, matrix, (45, 60), region, nearest)
    assert doubtful.mean() < 0.15
    difference = np.abs(canvas - expected)[~doubtful]
    # OpenCV may place samples on a grid of 1/32 pixel, and noise has steps of up to 255 between neighbours.
    assert difference.max() <= (0 if nearest else 17)
    assert difference.mean() < 1.5
    inside = (expected != PAD).any(axis=2)
    assert 0.1 < inside.mean() < 1  # the matrix shows something, and not only that


@pytest.mark.parametrize("seed", range(12))
def test_a_warped_rectangle_has_the_warped_box(seed: int) -> None:
    rng = np.random.default_rng(seed)
    for _ in range(1000):  # until one lies wholly on the canvas: a corner that points out of it has no pixels
        matrix = random_matrix(rng, upright=seed % 2 == 0)
        x0, y0 = rng.integers(5, 20, 2)
        x1, y1 = x0 + rng.integers(8, 25), y0 + rng.integers(8, 15)
        box, keep = g.warp_boxes(np.array([[x0, y0, x1, y1]], np.float32), matrix, (45, 60))
        if (box[0, :2] > 0).all() and box[0, 2] < 60 and box[0, 3] < 45:
            break
    assert keep[0]
    image = np.zeros((40, 50, 3), np.uint8)
    image[y0:y1, x0:x1] = 255
    canvas = g.warp_image(image, matrix, (45, 60), (0, 0, 0))
    rows, columns = np.nonzero(canvas[:, :, 0] > (127 if seed % 2 == 0 else 40))
    seen = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
    assert np.abs(seen - box[0]).max() <= 1.0


@pytest.mark.parametrize("seed", range(6))
def test_boxes_come_back_to_where_they_were(seed: int) -> None:
    rng = np.random.default_rng(seed)
    size = (int(rng.integers(100, 4000)), int(rng.integers(100, 4000)))
    first = rng.uniform(0, 0.8, (50, 2)) * size[::-1]
    boxes = np.concatenate([first, first + rng.uniform(0.01, 0.2, (50, 2)) * size[::-1]], axis=1).astype(np.float32)
    for matrix in (g.letterbox(size, (640, 480)), g.stretch(size, (320, 320)), g.flip_horizontal(size[1])):
        there = g.transform_boxes(boxes, matrix).astype(np.float32)
        assert np.abs(g.unwarp_boxes(there, matrix, size) - boxes).max() < 1e-3 * max(size) / 640


def test_predictions_are_clipped_to_the_original_image() -> None:
    matrix = g.letterbox((100, 200), (64, 64))
    back = g.unwarp_boxes(np.array([[-5, 0, 70, 64]], np.float32), matrix, (100, 200))
    assert back.tolist() == [[0, 0, 200, 100]]


@pytest.mark.parametrize("gain", [0.1, 0.3, 0.45])
def test_a_strong_reduction_is_averaged_not_picked(gain: float) -> None:
    stripes = np.zeros((200, 300, 3), np.uint8)
    stripes[:, ::2] = 255  # whoever picks single pixels gets black and white, or a beat between them
    matrix = g.translate(3, 2) @ g.scale(gain, gain)
    size = (int(200 * gain), int(300 * gain))
    canvas = g.warp_image(stripes, matrix, (size[0] + 4, size[1] + 6), (0, 0, 0))
    inner = canvas[4 : size[0] - 1, 5 : size[1] - 1]
    assert inner.size > 0
    assert np.abs(inner.astype(float) - 127.5).max() < 64


def test_a_reduced_image_stays_in_place() -> None:
    rows, columns = np.mgrid[0:203, 0:305]
    ramp = np.stack([columns * 255 / 305, rows * 255 / 203, columns * 0], axis=2).round().astype(np.uint8)
    gain = 0.137
    canvas = g.warp_image(ramp, g.translate(4.3, 2.7) @ g.scale(gain, gain), (40, 60), (0, 0, 0)).astype(float)
    x = (np.arange(10, 40) + 0.5 - 4.3) / gain - 0.5
    y = (np.arange(6, 25) + 0.5 - 2.7) / gain - 0.5
    assert np.abs(canvas[10, 10:40, 0] - x * 255 / 305).max() < 1.0
    assert np.abs(canvas[6:25, 20, 1] - y * 255 / 203).max() < 1.0


def test_a_letterbox_copies_an_image_that_already_fits() -> None:
    image = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)
    canvas = g.warp_image(image, g.letterbox((24, 32), (33, 32)), (33, 32), PAD)
    assert (canvas[4:28] == image).all()
    assert (canvas[:4] == PAD).all()
    assert (canvas[28:] == PAD).all()


def test_flips_are_numpys_flips() -> None:
    image = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)
    assert (g.warp_image(image, g.flip_horizontal(32), (24, 32), PAD) == image[:, ::-1]).all()
    assert (g.warp_image(image, g.flip_vertical(24), (24, 32), PAD) == image[::-1]).all()
    mask = (image[:, :, 0] > 99).astype(np.uint8)
    assert (g.warp_mask(mask, g.translate(2, -3), (24, 32), 5)[:-3, 2:] == mask[3:, :-2]).all()
    assert (g.warp_mask(mask, g.translate(2, -3), (24, 32), 5)[-3:] == 5).all()


def test_matrices_invert_and_compose() -> None:
    for seed in range(5):
        matrix = random_matrix(np.random.default_rng(seed))
        assert np.abs(g.invert(matrix) @ matrix - np.eye(3)).max() < 1e-12
    assert (g.translate(1, 0) @ g.scale(2, 2) @ [1, 1, 1]).tolist() == [3, 2, 1]


def test_the_rule_of_what_is_kept() -> None:
    boxes = np.array(
        [
            [10, 10, 20, 20],  # whole
            [-90, 0, 10, 100],  # exactly a tenth is visible
            [-91, 0, 9, 100],  # a little less than a tenth
            [20, 20, 22, 40],  # 2 pixels wide is not more than 2
            [20, 20, 22.1, 40],
            [-50, -50, -10, -10],  # outside
        ],
        np.float32,
    )
    warped, keep = g.warp_boxes(boxes, np.eye(3), (100, 100))
    assert keep.tolist() == [True, True, False, False, True, False]
    assert warped[1].tolist() == [0, 0, 10, 100]
    _, keep = g.warp_boxes(boxes[:1], np.eye(3), (100, 100), region=(0, 0, 10.5, 100))
    assert keep.tolist() == [False]  # 0.5 of 10 pixels lie in the part that is painted


@pytest.mark.parametrize("seed", range(10))
def test_a_clipped_polygon_covers_what_was_inside(seed: int) -> None:
    rng = np.random.default_rng(seed)
    angles = np.sort(rng.uniform(0, 2 * np.pi, 9))
    points = np.stack([np.cos(angles), np.sin(angles)], 1) * rng.uniform(10, 40, (9, 1)) + 20
    region = (5.0, 8.0, 33.0, 30.0)
    clipped = g.clip_polygon(points, region)

    def area(polygon: np.ndarray) -> float:
        x, y = polygon.T
        return abs(float(x @ np.roll(y, -1) - y @ np.roll(x, -1))) / 2

    def contained(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Tell of each of (N,) points whether a ray to its right crosses an odd number of edges."""
        odd = np.zeros(x.shape, bool)
        for (x0, y0), (x1, y1) in zip(points, np.roll(points, -1, axis=0), strict=True):
            odd ^= ((y0 > y) != (y1 > y)) & (x < (x1 - x0) * (y - y0) / (y1 - y0) + x0)
        return odd

    step = 0.2
    x, y = np.meshgrid(np.arange(5, 33, step) + step / 2, np.arange(8, 30, step) + step / 2)
    expected = contained(x.ravel(), y.ravel()).sum() * step**2
    assert area(clipped) == pytest.approx(expected, rel=0.03)
    assert (clipped >= [5 - 1e-9, 8 - 1e-9]).all()
    assert (clipped <= [33 + 1e-9, 30 + 1e-9]).all()


def test_a_polygon_outside_leaves_nothing() -> None:
    assert g.clip_polygon(np.array([[0.0, 0], [1, 0], [1, 1]]), (5, 5, 9, 9)).shape == (0, 2)


def test_polygons_follow_the_matrix() -> None:
    (part,) = g.warp_polygons((np.array([[0, 0], [2, 0], [2, 1]], np.float32),), g.translate(1, 1) @ g.rotate(90))
    assert np.abs(part - [[1, 1], [1, 3], [0, 3]]).max() < 1e-6
    assert part.dtype == np.float32
