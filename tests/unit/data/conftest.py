from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from tlvision.types import Polygons, Rle, Sample, Target

MakeSample = Callable[..., Sample]


def smooth_image(height: int, width: int, seed: int = 0) -> np.ndarray:
    """(height, width, 3) uint8 without sharp edges, so that two ways of resampling must agree."""
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 6, 3), dtype=np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)


@pytest.fixture
def make_sample(tmp_path: Path) -> MakeSample:
    """Write a smooth PNG and return a sample with the given boxes."""

    def make(
        image_id: int,
        size: tuple[int, int],
        boxes: Sequence[Sequence[float]] = (),
        *,
        labels: Sequence[int] | None = None,
        crowd: Sequence[bool] | None = None,
        segments: Sequence[Polygons | Rle | None] | None = None,
    ) -> Sample:
        path = tmp_path / f"{image_id}.png"
        Image.fromarray(smooth_image(*size, seed=image_id)).save(path)
        count = len(boxes)
        return Sample(
            image_id=image_id,
            path=path,
            width=size[1],
            height=size[0],
            exif=False,
            target=Target(
                boxes=np.array(boxes, np.float32).reshape(-1, 4),
                labels=np.array([0] * count if labels is None else labels, np.int64),
                crowd=np.array([False] * count if crowd is None else crowd, bool),
            ),
            segments=tuple(segments) if segments is not None else (None,) * count,
        )

    return make
