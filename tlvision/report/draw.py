"""Draw predictions into a picture."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from tlvision.report.colours import Rgb, class_colour, text_colour
from tlvision.types import IGNORE_INDEX, Pixels, Prediction, Target, check_array

Rectangle = tuple[float, float, float, float]
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

_SMALLEST = 320
"""Images with a shorter long side are enlarged by a whole factor: a label of nine pixels hides half a thumbnail."""
_MAX_ENLARGEMENT = 4.0
_MASK_OPACITY = 0.45
_WIDE_FONTS = ("NotoSansCJK-Regular.ttc", "NotoSans-Regular.ttf", "DejaVuSans.ttf", "Arial Unicode.ttf", "arial.ttf")


def draw_prediction(
    image: Pixels,
    prediction: Prediction,
    class_names: Sequence[str],
    *,
    min_score: float = 0.25,
    target: Target | None = None,
    same_size: bool = False,
) -> Pixels:
    """Draw the predictions of a model into an image, and its labels if there are any.

    image:       (H, W, 3) uint8, RGB. It is not changed.
    prediction:  numpy arrays; boxes x0 y0 x1 y1 in pixels of `image`, masks and label map of its size.
    class_names: in the order of the contiguous class index.
    min_score:   objects with a lower score are not drawn.
    target:      ground truth of the same image: the outlines of its masks, or its boxes where it has none, are drawn
                 dashed, in the colour of their class and without text; its label map is shown on the left of the
                 predicted one.
    same_size:   whether the exceptions below are off, as a video needs it; the legend then covers the lowest rows.

    Returns an RGB picture of the size of `image`, with these exceptions: an image with a long side under 320 pixels is
    enlarged by a whole factor, and a label map gets a legend below.

    Raises ValueError or TypeError if image, masks or label map have another shape or dtype, or where a label is
    not an index of `class_names`.

    >>> box = Prediction(
    ...     boxes=np.array([[20, 30, 200, 150]], np.float32), scores=np.array([0.9], np.float32), labels=np.array([0])
    ... )
    >>> draw_prediction(np.zeros((240, 320, 3), np.uint8), box, ["cat"]).shape
    (240, 320, 3)
    """
    _check(image, prediction, target, class_names)
    factor = 1 if same_size else max(1, math.ceil(_SMALLEST / max(image.shape[:2])))
    if prediction.semantic is not None:
        return _draw_semantic(image, prediction.semantic, class_names, target, factor, same_size=same_size)
    shown = np.flatnonzero(prediction.scores >= min_score)
    shown = shown[np.argsort(prediction.scores[shown], kind="stable")]  # the best are drawn last, on top
    if prediction.masks is not None:
        image = _overlay_masks(image, prediction.masks[shown], prediction.labels[shown])
    canvas = _enlarged(image, factor)
    pen = ImageDraw.Draw(canvas)
    width = _line_width(canvas.size)
    if target is not None:
        for index, label in enumerate(target.labels):
            if target.masks is not None:
                _dashed_outline(pen, target.masks[index], factor, class_colour(int(label)), width)
            else:
                _dashed_box(pen, _fit(target.boxes[index], factor, canvas), class_colour(int(label)), width)
    boxes = [_fit(box, factor, canvas) for box in prediction.boxes[shown]]
    labels = [int(label) for label in prediction.labels[shown]]
    for fitted, label in zip(boxes, labels, strict=True):
        _solid_box(pen, fitted, class_colour(label), width)
    texts = [f"{class_names[k]} {score:.2f}" for k, score in zip(labels, prediction.scores[shown], strict=True)]
    _place_labels(pen, canvas.size, boxes, texts, [class_colour(label) for label in labels])
    return np.asarray(canvas)


def draw_pair(
    image: Pixels,
    prediction: Prediction,
    target: Target,
    class_names: Sequence[str],
    *,
    wrong: Sequence[str | None] | None = None,
    missed: Sequence[bool] | None = None,
    side: int = 560,
) -> tuple[Pixels, Pixels]:
    """Draw ground truth and prediction into two pictures of equal size, to be looked at next to each other.

    image, prediction, class_names: as for `draw_prediction`; every predicted object is drawn.
    target: ground truth, boxes or masks in pixels of `image`.
    wrong:  kind of error of each predicted object, None for a right one. Wrong ones are thick and named, right ones
            are thin. Without it all are named.
    missed: whether each object of `target` has not been found; these are thick and named.
    side:   long side of the pictures in pixels; smaller images are enlarged four times at most.

    Returns two RGB pictures. Raises ValueError or TypeError as `draw_prediction`.
    """
    _check(image, prediction, target, class_names)
    scale = min(side / max(image.shape[:2]), _MAX_ENLARGEMENT)
    size = max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale))
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    small = np.asarray(cv2.resize(image, size, interpolation=how), np.uint8)
    if prediction.semantic is not None and target.semantic is not None:
        truth, predicted = (_resized(map_.astype(np.uint8), size) for map_ in (target.semantic, prediction.semantic))
        return _overlay_labels(small, truth.astype(np.int64)), _overlay_labels(small, predicted.astype(np.int64))
    lost = [False] * len(target) if missed is None else missed
    truths = [f"{class_names[k]} missed" if out else None for k, out in zip(target.labels, lost, strict=True)]
    kinds = [""] * len(prediction) if wrong is None else wrong
    found = [
        None if kind is None else f"{class_names[label]} {score:.2f} {kind}".rstrip()
        for label, score, kind in zip(prediction.labels, prediction.scores, kinds, strict=True)
    ]
    return _draw_named(small, scale, target, truths), _draw_named(small, scale, prediction, found)


def draw_target(image: Pixels, target: Target, class_names: Sequence[str], *, side: int = 560) -> Pixels:
    """Draw the labels of an image into it: boxes and masks with their class, or the label map.

    image, class_names: as for `draw_prediction`. target: numpy, in pixels of `image`. side: as for `draw_pair`.

    Returns an RGB picture.
    """
    scale = min(side / max(image.shape[:2]), _MAX_ENLARGEMENT)
    size = max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale))
    small = np.asarray(
        cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC), np.uint8
    )
    if target.semantic is not None:
        return _overlay_labels(small, _resized(target.semantic.astype(np.uint8), size).astype(np.int64))
    return _draw_named(small, scale, target, [class_names[label] for label in target.labels])


def _draw_named(image: Pixels, scale: float, objects: Prediction | Target, texts: Sequence[str | None]) -> Pixels:
    """Draw objects, those with a text thick and named, and on top of the others, which are thin."""
    if objects.masks is not None and len(objects.masks):
        masks = np.stack([_resized(mask, (image.shape[1], image.shape[0])) for mask in objects.masks])
        image = _overlay_masks(image, masks, objects.labels)
    canvas = Image.fromarray(image)
    pen = ImageDraw.Draw(canvas)
    named: list[tuple[Rectangle, str, Rgb]] = []
    for box, label, text in zip(objects.boxes, objects.labels, texts, strict=True):
        fitted, colour = _fit(box, scale, canvas), class_colour(int(label))
        if text is None:
            pen.rectangle(fitted, outline=colour, width=2)
        else:
            named.append((fitted, text, colour))
    for fitted, _, colour in named:
        _solid_box(pen, fitted, colour, 3)
    if named:
        boxes, shown, colours = zip(*named, strict=True)
        _place_labels(pen, canvas.size, list(boxes), list(shown), list(colours))
    return np.asarray(canvas)


def _resized(values: npt.NDArray[np.uint8], size: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """Return a mask or label map of another size (width, height)."""
    return np.asarray(cv2.resize(values, size, interpolation=cv2.INTER_NEAREST), np.uint8)


def contact_sheet(pictures: Sequence[Pixels], columns: int, width: int) -> Pixels:
    """Arrange pictures in a grid, row by row, each scaled to the width of its column.

    pictures: (H, W, 3) uint8 RGB each, of any sizes, at least one.
    columns:  pictures in a row; width: of the sheet, in pixels.

    Returns a (height, width, 3) uint8 RGB sheet on white; a row is as high as its highest picture. Raises ValueError
    where there is no picture or a column would be narrower than one pixel.
    """
    gap = max(2, width // 200)
    cell = (width - gap * (columns + 1)) // columns if columns > 0 else 0
    if not pictures or cell < 1:
        raise ValueError(f"contact_sheet: got {len(pictures)} pictures for {columns} columns in {width} pixels")
    for picture in pictures:
        check_array("contact_sheet", "picture", picture, ("H", "W", 3), ("uint8",))
    scaled = [_to_width(picture, cell) for picture in pictures]
    rows = [scaled[start : start + columns] for start in range(0, len(scaled), columns)]
    heights = [max(picture.height for picture in row) for row in rows]
    sheet = Image.new("RGB", (width, sum(heights) + gap * (len(rows) + 1)), "white")
    top = gap
    for row, height in zip(rows, heights, strict=True):
        for column, tile in enumerate(row):
            sheet.paste(tile, (gap + column * (cell + gap), top))
        top += height + gap
    return np.asarray(sheet)


def _check(image: Pixels, prediction: Prediction, target: Target | None, class_names: Sequence[str]) -> None:
    check_array("draw_prediction", "image", image, ("H", "W", 3), ("uint8",))
    height, width = image.shape[:2]
    for owner, value in (("prediction", prediction), ("target", target)):
        if value is None:
            continue
        if value.semantic is not None:
            check_array(owner, "semantic", value.semantic, (height, width), ("int64",))
        if value.masks is not None:
            check_array(owner, "masks", value.masks, ("K", height, width), ("uint8",))
        known = len(class_names)
        indices = [value.labels] if value.semantic is None else [value.semantic[value.semantic != IGNORE_INDEX]]
        for labels in indices:
            if labels.size and not 0 <= labels.min() <= labels.max() < known:
                raise ValueError(f"{owner}: expected class indices 0..{known - 1}, got {labels.min()}..{labels.max()}")


def _enlarged(image: Pixels, factor: int) -> Image.Image:
    canvas = Image.fromarray(np.ascontiguousarray(image))
    if factor == 1:
        return canvas
    return canvas.resize((canvas.width * factor, canvas.height * factor), Image.Resampling.BICUBIC)


def _to_width(picture: Pixels, width: int) -> Image.Image:
    image = Image.fromarray(np.ascontiguousarray(picture))
    return image.resize((width, max(1, round(image.height * width / image.width))), Image.Resampling.LANCZOS)


def _line_width(size: Sequence[int]) -> int:
    return max(2, round(max(size) / 400))


def font_for(size: tuple[int, int], text: str = "") -> Font:
    """Return Pillow's own font, or, for text that it has no letters for, one of this machine where there is one."""
    points = max(12, round(max(size) / 48))
    if not text.isascii():
        for name in _WIDE_FONTS:
            with contextlib.suppress(OSError):
                return ImageFont.truetype(name, points)
    return ImageFont.load_default(size=points)


def _fit(box: Any, factor: float, canvas: Image.Image) -> Rectangle:
    """Scale x0 y0 x1 y1 and keep it inside the picture, at least one pixel wide."""
    x0, y0, x1, y1 = (float(value) * factor for value in box)
    x0, y0 = min(max(x0, 0), canvas.width - 2), min(max(y0, 0), canvas.height - 2)
    return x0, y0, max(min(x1, canvas.width - 1), x0 + 1), max(min(y1, canvas.height - 1), y0 + 1)


def _solid_box(pen: ImageDraw.ImageDraw, box: Rectangle, colour: Rgb, width: int) -> None:
    # A dark line around the coloured one keeps every colour visible on every background.
    halo = max(1, width // 3)
    x0, y0, x1, y1 = box
    pen.rectangle((x0 - halo, y0 - halo, x1 + halo, y1 + halo), outline=(0, 0, 0), width=width + 2 * halo)
    pen.rectangle(box, outline=colour, width=width)


def _dashed_box(pen: ImageDraw.ImageDraw, box: Rectangle, colour: Rgb, width: int) -> None:
    x0, y0, x1, y1 = box
    dash = 4.0 * width
    for start, end in (((x0, y0), (x1, y0)), ((x1, y0), (x1, y1)), ((x1, y1), (x0, y1)), ((x0, y1), (x0, y0))):
        length = math.dist(start, end)
        for number in range(math.ceil(length / dash)):
            # Dashes in the colour of the class alternate with black ones: visible on every background.
            reach = number * dash / length, min((number + 1) * dash / length, 1.0)
            points = [(start[0] + (end[0] - start[0]) * t, start[1] + (end[1] - start[1]) * t) for t in reach]
            pen.line(points, fill=(0, 0, 0) if number % 2 else colour, width=max(1, width // 2 + 1))


def _dashed_outline(
    pen: ImageDraw.ImageDraw, mask: npt.NDArray[np.uint8], factor: int, colour: Rgb, width: int
) -> None:
    contours, _ = cv2.findContours(mask, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    dash = max(2, 4 * width // factor)  # in steps from pixel to pixel
    for contour in contours:
        points = (contour[:, 0] + 0.5) * factor
        points = np.concatenate([points, points[:1]])
        for number, first in enumerate(range(0, len(points) - 1, dash)):
            part = [(float(x), float(y)) for x, y in points[first : first + dash + 1]]
            pen.line(part, fill=(0, 0, 0) if number % 2 else colour, width=max(1, width // 2 + 1))


def _place_labels(
    pen: ImageDraw.ImageDraw, size: tuple[int, int], boxes: list[Rectangle], texts: list[str], colours: list[Rgb]
) -> None:
    """Write each text at its box, where it covers no other text if there is such a place; the best choose first."""
    taken: list[Rectangle] = []
    for box, text, colour in reversed(list(zip(boxes, texts, colours, strict=True))):
        font = font_for(size, text)
        left, top, right, bottom = pen.textbbox((0, 0), text, font=font, anchor="lt")
        pad = max(2.0, (bottom - top) / 4)
        width, height = right - left + 2 * pad, bottom - top + 2 * pad
        x0, y0, x1, y1 = box
        corners = [(x0, y0 - height), (x0, y1), (x0, y0), (x1 - width, y0 - height), (x1 - width, y1), (x1, y0)]
        places = [_inside(x, y, width, height, size) for x, y in corners]
        place = next((p for p in places if not any(_overlap(p, other) for other in taken)), places[0])
        taken.append(place)
        pen.rectangle(place, fill=colour)
        corner = round(place[0] + pad - left), round(place[1] + pad - top)
        pen.text(corner, text, fill=text_colour(colour), font=font, anchor="lt")


def _inside(x: float, y: float, width: float, height: float, size: tuple[int, int]) -> Rectangle:
    x, y = max(0.0, min(x, size[0] - width)), max(0.0, min(y, size[1] - height))
    return x, y, x + width, y + height


def _overlap(one: Rectangle, other: Rectangle) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _overlay_masks(image: Pixels, masks: npt.NDArray[np.uint8], labels: npt.NDArray[np.int64]) -> Pixels:
    picture = image.copy()
    kernel = np.ones((_line_width(image.shape) + 1,) * 2, np.uint8)
    for mask, label in zip(masks, labels, strict=True):
        x, y, columns, rows = cv2.boundingRect(mask)
        left, top = max(x - len(kernel), 0), max(y - len(kernel), 0)  # the rest of a large picture is left alone
        around = slice(top, y + rows + len(kernel)), slice(left, x + columns + len(kernel))
        part, under = mask[around], picture[around]
        inside = part.astype(bool)
        colour = np.array(class_colour(int(label)), np.float32)
        under[inside] = (under[inside] * (1 - _MASK_OPACITY) + colour * _MASK_OPACITY).astype(np.uint8)
        # A full line along the rim separates two objects of one class.
        under[inside & (cv2.erode(part, kernel) == 0)] = colour.astype(np.uint8)
    return picture


def _draw_semantic(
    image: Pixels,
    labels: npt.NDArray[np.int64],
    class_names: Sequence[str],
    target: Target | None,
    factor: int,
    *,
    same_size: bool,
) -> Pixels:
    maps = [("prediction", labels)]
    if target is not None and target.semantic is not None:
        maps.insert(0, ("ground truth", target.semantic))
    panels = [_enlarged(_overlay_labels(image, values), factor) for _, values in maps]
    font = font_for(panels[0].size, "".join(class_names))
    if len(panels) > 1:
        for (caption, _), panel in zip(maps, panels, strict=True):
            _place_labels(ImageDraw.Draw(panel), panel.size, [(0, 0, 1, 1)], [caption], [(255, 255, 255)])
    width, height = sum(panel.width for panel in panels), panels[0].height
    present = sorted({int(value) for _, values in maps for value in np.unique(values)} - {IGNORE_INDEX})
    legend = _legend([(class_names[k], class_colour(k)) for k in present], width, font)
    legend_top = height - legend.height if same_size else height
    sheet = Image.new("RGB", (width, legend_top + legend.height), "white")
    for number, panel in enumerate(panels):
        sheet.paste(panel, (number * panel.width, 0))
    sheet.paste(legend, (0, legend_top))
    return np.asarray(sheet)


def _overlay_labels(image: Pixels, labels: npt.NDArray[np.int64]) -> Pixels:
    """Mix each class' colour into the image; pixels with IGNORE_INDEX stay as they are."""
    colours = np.zeros((IGNORE_INDEX + 1, 3), np.float32)
    colours[:IGNORE_INDEX] = [class_colour(index) for index in range(IGNORE_INDEX)]
    mixed = image * (1 - _MASK_OPACITY) + colours[labels] * _MASK_OPACITY
    return np.where((labels == IGNORE_INDEX)[..., None], image, mixed).astype(np.uint8)


def _legend(entries: list[tuple[str, Rgb]], width: int, font: Font) -> Image.Image:
    """Return a white strip of `width` pixels with a coloured square and a name per entry, in lines as needed."""
    measure = ImageDraw.Draw(Image.new("RGB", (1, 1)))
    line = math.ceil(measure.textbbox((0, 0), "Ag", font=font)[3] * 1.5)
    placed: list[tuple[float, int, str, Rgb]] = []
    x, row = line / 2, 0
    for name, colour in entries:
        length = line * 1.8 + measure.textlength(name, font=font)
        if x > line and x + length > width:
            x, row = line / 2, row + 1
        placed.append((x, row, name, colour))
        x += length
    strip = Image.new("RGB", (width, line * (row + 1) + line // 2 if placed else 1), "white")
    pen = ImageDraw.Draw(strip)
    for x, row, name, colour in placed:
        top = line // 4 + row * line + line // 8
        side = round(line * 0.75)
        pen.rectangle((x, top, x + side, top + side), fill=colour, outline=(0, 0, 0))
        pen.text((x + side * 1.3, top + side / 2), name, fill=(0, 0, 0), font=font, anchor="lm")
    return strip
