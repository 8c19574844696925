"""Draw one image under every corruption, as the model gets it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from PIL import Image, ImageDraw

from tlvision.analysis.robustness.corruptions import Condition
from tlvision.analysis.robustness.labels import move_labels
from tlvision.data.augment import Placement
from tlvision.data.dataset import EvalImages, TargetParts
from tlvision.data.geometry import Matrix, apply, translate, warp_mask
from tlvision.data.targets import place_target, semantic_map
from tlvision.report import contact_sheet, draw_prediction
from tlvision.report.draw import font_for
from tlvision.types import IGNORE_INDEX, Pixels, Prediction, Sample

SHOWN = (1, 3, 5)
_CELL = 320
_GAP = 8


def shown_severities(severities: Sequence[int]) -> tuple[int, ...]:
    """Return the severities to draw: 1, 3 and 5 if they were measured, else the first, middle and last.

    >>> shown_severities((1, 2, 3, 4, 5)), shown_severities((2, 4)), shown_severities((5,))
    ((1, 3, 5), (2, 4), (5,))
    """
    if set(SHOWN) <= set(severities):
        return SHOWN
    last = len(severities) - 1
    return tuple(severities[index] for index in sorted({0, last // 2, last}))


def draw_sheet(
    inputs: EvalImages,
    index: int,
    conditions: Sequence[Sequence[Condition]],
    parts: TargetParts,
    class_names: Sequence[str],
) -> Pixels:
    """Return a picture with a row for each corruption: the clean image, then one column for each severity.

    inputs:      the network inputs. index: the image to draw.
    conditions:  the rows; equally many in each.
    parts:       which labels the task has. Labels are drawn where a corruption moves them, to show that they fit.
    class_names: in the order of the class indices.

    The pictures are network inputs without padding, so noise and blur look as the model sees them.
    """
    clean = _titled(_picture(inputs, index), "clean")
    pictures: list[Pixels] = []
    for row in conditions:
        pictures.append(clean)
        for condition in row:
            if condition.moves_labels:
                picture = _labelled(inputs.with_changes(view=condition.view), index, condition, parts, class_names)
            else:
                picture = _picture(inputs.with_changes(condition.change), index)
            pictures.append(_titled(picture, f"{condition.corruption.replace('_', ' ')} {condition.severity}"))
    columns = 1 + len(conditions[0])
    return contact_sheet(pictures, columns=columns, width=columns * (_CELL + _GAP) + _GAP)


def _picture(inputs: EvalImages, index: int) -> Pixels:
    """Return a network input without the padding around the frame of the image."""
    image, _, meta = inputs.draw(index)
    x0, y0, x1, y1 = _frame(inputs.samples[index], meta.matrix)
    return np.ascontiguousarray(image[y0:y1, x0:x1])


def _labelled(
    inputs: EvalImages, index: int, condition: Condition, parts: TargetParts, class_names: Sequence[str]
) -> Pixels:
    """Return the picture of a moved image with its moved labels drawn in."""
    picture, matrix = _picture(inputs, index), inputs.draw(index)[2].matrix
    size = picture.shape[0], picture.shape[1]
    with TemporaryDirectory() as folder:
        (moved,) = move_labels([inputs.samples[index]], condition, parts, Path(folder))
        x0, y0, _, _ = _frame(moved, matrix)
        to_picture = translate(-x0, -y0) @ matrix
        if parts.label_map:
            labels = warp_mask(semantic_map(moved, parts.background), to_picture, size, IGNORE_INDEX)
            return draw_prediction(picture, Prediction.empty(labels.astype(np.int64)), class_names)
        target = place_target([moved], [Placement(to_picture, None)], size, masks=False)
    return draw_prediction(picture, Prediction.empty(), class_names, target=target)


def _frame(sample: Sample, matrix: Matrix) -> tuple[int, int, int, int]:
    """Return the frame of an image, x0 y0 x1 y1 in whole pixels of the network input."""
    corners = apply(matrix, np.array([[0.0, 0.0], [sample.width, sample.height]]))
    (x0, y0), (x1, y1) = corners.round().astype(int).tolist()
    return x0, y0, x1, y1


def _titled(picture: Pixels, title: str) -> Pixels:
    """Return the picture at the width of a cell, with a title above."""
    image = Image.fromarray(picture)
    height = max(1, round(image.height * _CELL / image.width))
    font = font_for((_CELL * 2, 0), title)
    strip = 22
    canvas = Image.new("RGB", (_CELL, height + strip), "white")
    canvas.paste(image.resize((_CELL, height), Image.Resampling.LANCZOS), (0, strip))
    ImageDraw.Draw(canvas).text((2, strip / 2), title, fill=(0, 0, 0), font=font, anchor="lm")
    return np.asarray(canvas)
