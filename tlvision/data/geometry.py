"""One affine warp for everything: the image is sampled once, and boxes, polygons and masks follow the same matrix.

A matrix is (3, 3) float64 and maps a point (x, y, 1) of one image to another. Coordinates are continuous and measured
from the outer edge of the top-left pixel, so the centre of that pixel is (0.5, 0.5) and an image spans 0..width, and
scaling an image is scaling its coordinates, without half-pixel terms. Matrices compose from right to left:
``translate(1, 0) @ scale(2, 2)`` scales first.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from tlvision.types import Pixels, Polygons

Matrix = npt.NDArray[np.float64]
Boxes = npt.NDArray[np.float32]
Region = tuple[float, float, float, float]
"""x0, y0, x1, y1 in pixels."""

MIN_VISIBLE = 0.1
"""An object is kept if at least this part of its warped box is visible …"""
MIN_SIDE = 2.0
"""… and both sides of the visible part are longer than this, in pixels."""


def translate(x: float, y: float) -> Matrix:
    """Move by x, y pixels."""
    return np.array([[1, 0, x], [0, 1, y], [0, 0, 1]], np.float64)


def scale(x: float, y: float) -> Matrix:
    """Multiply both coordinates."""
    return np.array([[x, 0, 0], [0, y, 0], [0, 0, 1]], np.float64)


def rotate(degrees: float) -> Matrix:
    """Turn about the origin, clockwise as seen on the screen (y points down).

    >>> (rotate(90) @ [1, 0, 1]).round(9).tolist()
    [0.0, 1.0, 1.0]
    """
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return np.array([[cosine, -sine, 0], [sine, cosine, 0], [0, 0, 1]], np.float64)


def shear(x_degrees: float, y_degrees: float) -> Matrix:
    """Slant: x grows by tan(x_degrees) * y, y by tan(y_degrees) * x."""
    x, y = math.tan(math.radians(x_degrees)), math.tan(math.radians(y_degrees))
    return np.array([[1, x, 0], [y, 1, 0], [0, 0, 1]], np.float64)


def flip_horizontal(width: float) -> Matrix:
    """Mirror left and right in an image of this width."""
    return np.array([[-1, 0, width], [0, 1, 0], [0, 0, 1]], np.float64)


def flip_vertical(height: float) -> Matrix:
    """Mirror top and bottom in an image of this height."""
    return np.array([[1, 0, 0], [0, -1, height], [0, 0, 1]], np.float64)


def fitted_size(size: tuple[int, int], canvas: tuple[int, int], *, keep_aspect: bool = True) -> tuple[int, int]:
    """Return height and width, in whole pixels, of an image of `size` scaled into `canvas`; all are (height, width).

    >>> fitted_size((480, 640), (320, 320)), fitted_size((480, 640), (320, 320), keep_aspect=False)
    ((240, 320), (320, 320))
    """
    if not keep_aspect:
        return canvas
    gain = min(canvas[0] / size[0], canvas[1] / size[1])
    height, width = (max(1, min(canvas[axis], round(size[axis] * gain))) for axis in (0, 1))
    return height, width


def letterbox(size: tuple[int, int], canvas: tuple[int, int], place: str = "centre") -> Matrix:
    """Fit an image of `size` (height, width) into `canvas` (height, width) with its aspect ratio.

    place: "centre", or "corner" for the top left one.

    The scaled image has whole pixels and a whole offset, so that one that is already reduced to it is copied exactly.
    """
    height, width = fitted_size(size, canvas)
    return place_in(canvas, (height, width), place) @ scale(width / size[1], height / size[0])


def place_in(canvas: tuple[int, int], size: tuple[int, int], place: str) -> Matrix:
    """Return the translation that places an object of `size` in `canvas`; both are (height, width).

    >>> place_in((320, 320), (240, 320), "centre")[1, 2], place_in((320, 320), (240, 320), "corner")[1, 2]
    (np.float64(40.0), np.float64(0.0))
    """
    if place == "corner":
        return np.eye(3)
    return translate((canvas[1] - size[1]) // 2, (canvas[0] - size[0]) // 2)


def stretch(size: tuple[int, int], canvas: tuple[int, int]) -> Matrix:
    """Stretch an image of `size` (height, width) to fill `canvas` (height, width), ignoring its aspect ratio."""
    return scale(canvas[1] / size[1], canvas[0] / size[0])


def is_axis_aligned(matrix: Matrix) -> bool:
    """Return whether upright rectangles stay upright (no rotation, no shear)."""
    return bool(matrix[0, 1] == 0 and matrix[1, 0] == 0)


def invert(matrix: Matrix) -> Matrix:
    """Return the matrix of the way back, canvas pixels -> image pixels; ZeroDivisionError where there is none."""
    # Written out: a general inverse takes ten times as long, and there are a dozen in every mosaic.
    (a, b, x), (c, d, y), _ = matrix.tolist()
    det = a * d - b * c
    a, b, c, d = d / det, -b / det, -c / det, a / det
    return np.array([[a, b, -(a * x + b * y)], [c, d, -(c * x + d * y)], [0.0, 0.0, 1.0]], np.float64)


def warp_image(image: Pixels, matrix: Matrix, size: tuple[int, int], pad_value: Sequence[int]) -> Pixels:
    """Return the warped image on a canvas of `size` (height, width), filled with `pad_value` where nothing falls.

    image: (H, W, C) uint8. matrix: image pixels -> canvas pixels. pad_value: one value per channel.
    """
    canvas = filled(size, pad_value)
    paint(canvas, image, matrix)
    return canvas


def filled(size: tuple[int, int], colour: Sequence[int]) -> Pixels:
    """Return a canvas of `size` (height, width) in one colour: (height, width, len(colour)) uint8."""
    canvas = np.empty((*size, len(colour)), np.uint8)
    # Row by row: to spread three values over every pixel takes numpy longer than all the rest of a draw.
    canvas.reshape(size[0], -1)[:] = np.tile(np.array(colour, np.uint8), size[1])
    return canvas


def warp_mask(mask: Pixels, matrix: Matrix, size: tuple[int, int], pad_value: int = 0) -> Pixels:
    """Return a warped (H, W) uint8 mask or label map, by the nearest pixel; `pad_value` where nothing falls."""
    canvas = np.full(size, pad_value, np.uint8)
    paint(canvas, mask, matrix, nearest=True)
    return canvas


def paint(
    canvas: Pixels, image: Pixels, matrix: Matrix, region: Region | None = None, *, nearest: bool = False
) -> None:
    """Warp an image into a canvas, in place; each canvas pixel is sampled from the source once.

    canvas:  (H, W, C) or (H, W) uint8; changed where the centre of its pixel falls into `region`.
    image:   uint8 with the channels of `canvas`.
    matrix:  image pixels -> canvas pixels.
    region:  x0, y0, x1, y1 in image pixels, the part that is painted; None means all.
    nearest: take the nearest pixel (for masks and label maps) instead of interpolating linearly between four.

    Beyond its outermost pixel centres the image continues with its border pixels, so that no padding seeps in. Where
    the matrix shrinks to less than half, the image is averaged down first, and the rest is done by the warp.
    """
    height, width = image.shape[:2]
    x0, y0, x1, y1 = region or (0.0, 0.0, float(width), float(height))
    corners = apply(matrix, np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]]))
    left, right = _pixel_range(corners[:, 0], canvas.shape[1])
    top, bottom = _pixel_range(corners[:, 1], canvas.shape[0])
    if left >= right or top >= bottom:
        return
    if not nearest:
        image, reduced = _average_down(image, matrix)
        matrix = matrix @ reduced
        x0, x1, y0, y1 = x0 / reduced[0, 0], x1 / reduced[0, 0], y0 / reduced[1, 1], y1 / reduced[1, 1]
    part = canvas[top:bottom, left:right]
    # OpenCV counts from pixel centres and wants canvas -> image.
    inverse = translate(-0.5, -0.5) @ invert(matrix) @ translate(left + 0.5, top + 0.5)
    flags = (cv2.INTER_NEAREST if nearest else cv2.INTER_LINEAR) | cv2.WARP_INVERSE_MAP
    size = (right - left, bottom - top)
    warped = _warp(image, inverse, size, flags)
    if is_axis_aligned(matrix):
        part[:] = warped
        return
    inside = _inside(inverse, size, (x0 - 0.5, y0 - 0.5, x1 - 0.5, y1 - 0.5))
    part[inside] = warped[inside]


def paint_mask(canvas: Pixels, mask: Pixels, matrix: Matrix, region: Region | None = None) -> None:
    """Warp a mask into a canvas, in place, with smooth edges: linearly interpolated, and set from one half on.

    canvas: (H, W) uint8 of zeros; becomes 1 at the pixels of the mask.
    mask:   uint8 with values 0 and 1. Only the part around set pixels is read, so a small object costs little.
    matrix: mask pixels -> canvas pixels.
    region: x0, y0, x1, y1 in mask pixels, the part that is painted; None means all.
    """
    x, y, columns, rows = cv2.boundingRect(mask)
    # With what the outermost pixels of the canvas average: the border continues with its own pixels, which must be 0.
    across, down = (math.ceil(1 / gain) + 1 for gain in _gains(matrix))
    left, top = max(x - across, 0), max(y - down, 0)
    part = mask[top : y + rows + down, left : x + columns + across] * np.uint8(255)
    x0, y0, x1, y1 = region or (0.0, 0.0, float(mask.shape[1]), float(mask.shape[0]))
    x0, x1 = max(x0 - left, 0.0), min(x1 - left, float(part.shape[1]))
    y0, y1 = max(y0 - top, 0.0), min(y1 - top, float(part.shape[0]))
    if columns == 0 or x0 >= x1 or y0 >= y1:
        return
    matrix = matrix @ translate(left, top)
    corners = apply(matrix, np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]]))
    first_column, last_column = _pixel_range(corners[:, 0], canvas.shape[1])
    first_row, last_row = _pixel_range(corners[:, 1], canvas.shape[0])
    if first_column >= last_column or first_row >= last_row:
        return
    seen = canvas[first_row:last_row, first_column:last_column]
    paint(seen, part, translate(-first_column, -first_row) @ matrix, (x0, y0, x1, y1))
    seen[:] = seen > 127


def _warp(image: Pixels, inverse: Matrix, size: tuple[int, int], flags: int) -> Pixels:
    coloured = image.ndim == 3 and image.shape[2] == 3
    if coloured:  # OpenCV warps four channels in half the time that it takes for three
        image = cv2.cvtColor(image, cv2.COLOR_RGB2RGBA)  # type: ignore[assignment]
    warped = cv2.warpAffine(image, inverse[:2], size, flags=flags, borderMode=cv2.BORDER_REPLICATE)
    return cv2.cvtColor(warped, cv2.COLOR_RGBA2RGB) if coloured else warped  # type: ignore[return-value]


def _pixel_range(edges: npt.NDArray[np.float64], limit: int) -> tuple[int, int]:
    """Return the half-open range of pixels whose centres lie between the outermost edges, within 0..limit."""
    # A centre that rounding noise puts on the wrong side of a whole edge must not open a gap between two tiles.
    values = edges.tolist()
    first, last = math.ceil(round(min(values) - 0.5, 6)), math.ceil(round(max(values) - 0.5, 6))
    return max(first, 0), min(last, limit)


def _average_down(image: Pixels, matrix: Matrix) -> tuple[Pixels, Matrix]:
    """Return the image as large as the matrix will make it if that is less than half, and reduced -> original."""
    height, width = image.shape[:2]
    gain_x, gain_y = _gains(matrix)
    new_width = max(1, math.ceil(width * gain_x)) if gain_x < 0.499 else width
    new_height = max(1, math.ceil(height * gain_y)) if gain_y < 0.499 else height
    if (new_width, new_height) == (width, height):
        return image, np.eye(3)
    smaller = cv2.resize(image, (new_width, new_height), interpolation=cv2.INTER_AREA)
    return smaller, scale(width / new_width, height / new_height)  # type: ignore[return-value]


def _gains(matrix: Matrix) -> tuple[float, float]:
    """Return how long a step of one pixel along x and along y becomes."""
    return math.hypot(*matrix[:2, 0].tolist()), math.hypot(*matrix[:2, 1].tolist())


def _inside(inverse: Matrix, size: tuple[int, int], region: Region) -> npt.NDArray[np.bool_]:
    columns, rows = np.arange(size[0], dtype=np.float64), np.arange(size[1], dtype=np.float64)[:, None]
    x = inverse[0, 0] * columns + inverse[0, 1] * rows + inverse[0, 2]
    y = inverse[1, 0] * columns + inverse[1, 1] * rows + inverse[1, 2]
    result: npt.NDArray[np.bool_] = (x >= region[0]) & (x < region[2]) & (y >= region[1]) & (y < region[3])
    return result


def apply(matrix: Matrix, points: npt.NDArray[np.float32] | npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Map (K, 2) points x, y."""
    mapped: npt.NDArray[np.float64] = points @ matrix[:2, :2].T + matrix[:2, 2]
    return mapped


def transform_boxes(boxes: Boxes | npt.NDArray[np.float64], matrix: Matrix) -> npt.NDArray[np.float64]:
    """Map (M, 4) corner boxes to the upright boxes around their mapped corners, not clipped; float64."""
    if is_axis_aligned(matrix):  # the common case, and half the work
        first = boxes[:, :2] * matrix.diagonal()[:2] + matrix[:2, 2]
        second = boxes[:, 2:] * matrix.diagonal()[:2] + matrix[:2, 2]
        return np.concatenate([np.minimum(first, second), np.maximum(first, second)], axis=1)
    corners = boxes[:, [0, 1, 2, 1, 2, 3, 0, 3]].reshape(-1, 4, 2).astype(np.float64)
    mapped = apply(matrix, corners.reshape(-1, 2)).reshape(-1, 4, 2)
    return np.concatenate([mapped.min(axis=1), mapped.max(axis=1)], axis=1)


def clip_boxes(boxes: npt.NDArray[np.float64], region: Region) -> npt.NDArray[np.float64]:
    """Cut (M, 4) boxes to a region; one that lies outside comes out without area."""
    x0, y0, x1, y1 = region
    return np.minimum(np.maximum(boxes, (x0, y0, x0, y0)), (x1, y1, x1, y1))


def warp_boxes(
    boxes: Boxes, matrix: Matrix, size: tuple[int, int], region: Region | None = None
) -> tuple[Boxes, npt.NDArray[np.bool_]]:
    """Map boxes as `paint` maps the image, and mark those that stay large enough to keep.

    boxes:  (M, 4) float32 in image pixels. matrix: image -> canvas pixels. size: height and width of the canvas.
    region: the part of the image that is painted, as for `paint`.

    Returns (M, 4) float32 in canvas pixels, clipped to what is visible, and (M,) bool: at least MIN_VISIBLE of the
    warped box is visible and both visible sides are longer than MIN_SIDE. With rotation or shear, the box around the
    mapped corners is meant.

    >>> warped, keep = warp_boxes(np.array([[0, 0, 10, 10], [18, 0, 20, 2]], np.float32), scale(2, 2), (15, 40))
    >>> warped[0].tolist(), keep.tolist()
    ([0.0, 0.0, 20.0, 15.0], [True, True])
    """
    whole = transform_boxes(boxes, matrix)
    canvas = (0.0, 0.0, float(size[1]), float(size[0]))
    if region is None:
        visible = clip_boxes(whole, canvas)
    elif is_axis_aligned(matrix):  # an upright region can be cut out afterwards, which saves mapping all boxes twice
        x0, y0, x1, y1 = transform_boxes(np.array([region], np.float64), matrix)[0].tolist()
        visible = clip_boxes(whole, (max(x0, 0.0), max(y0, 0.0), min(x1, canvas[2]), min(y1, canvas[3])))
    else:
        visible = clip_boxes(transform_boxes(clip_boxes(boxes.astype(np.float64), region), matrix), canvas)
    return visible.astype(np.float32), worth_keeping(whole, visible)


def worth_keeping(whole: npt.NDArray[np.float64], visible: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    """Return (M,) bool by the rule of MIN_VISIBLE and MIN_SIDE; both arguments are (M, 4) boxes in canvas pixels."""
    sides, all_sides = visible[:, 2:] - visible[:, :2], whole[:, 2:] - whole[:, :2]
    enough = sides.prod(axis=1) >= MIN_VISIBLE * all_sides.prod(axis=1)
    result: npt.NDArray[np.bool_] = enough & (sides > MIN_SIDE).all(axis=1)
    return result


def warp_polygons(polygons: Polygons, matrix: Matrix) -> Polygons:
    """Map the parts of one object; (K, 2) float32 each, not clipped."""
    return tuple(apply(matrix, part).astype(np.float32) for part in polygons)


def clip_polygon(points: npt.NDArray[np.float64], region: Region) -> npt.NDArray[np.float64]:
    """Cut a (K, 2) polygon to a region (Sutherland and Hodgman, 1974); (0, 2) where nothing is left."""
    for axis, limit, sign in ((0, region[0], 1), (1, region[1], 1), (0, region[2], -1), (1, region[3], -1)):
        if len(points) == 0:
            break
        distance = sign * (points[:, axis] - limit)
        following, ahead = np.roll(points, -1, axis=0), np.roll(distance, -1)
        crosses = (distance >= 0) != (ahead >= 0)
        share = np.divide(distance, distance - ahead, out=np.zeros_like(distance), where=crosses)
        cut = points + share[:, None] * (following - points)
        points = np.stack([points, cut], axis=1)[np.stack([distance >= 0, crosses], axis=1)]
    return points


def unwarp_boxes(boxes: Boxes, matrix: Matrix, original_size: tuple[int, int]) -> Boxes:
    """Bring boxes of a prediction back: the inverse of `warp_boxes`, clipped to the original image.

    boxes: (K, 4) float32 in network-input pixels. matrix: original image -> network input.
    original_size: height and width of the original image in pixels.
    """
    region = (0.0, 0.0, float(original_size[1]), float(original_size[0]))
    return clip_boxes(transform_boxes(boxes, invert(matrix)), region).astype(np.float32)


def unwarp_masks(masks: Pixels, matrix: Matrix, original_size: tuple[int, int]) -> Pixels:
    """Bring masks of a prediction back, with smooth edges: (K, height, width) uint8 with values 0 and 1.

    masks:  (K, H, W) uint8, 0 and 1, in network-input pixels. matrix: original image -> network input.
    original_size: height and width of the original image in pixels.

    >>> unwarp_masks(np.eye(2, dtype=np.uint8)[None], scale(0.5, 0.5), (4, 4))[0].tolist()
    [[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 1], [0, 0, 1, 1]]
    """
    back = invert(matrix)
    found = np.zeros((len(masks), *original_size), np.uint8)  # the system gives memory only to what is written
    for mask, canvas in zip(masks, found, strict=True):
        paint_mask(canvas, mask, back)
    return found
