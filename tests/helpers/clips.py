"""Make small videos for tests."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

LOSSLESS = "FFV1"


def write_clip(path: Path, frames: Sequence[npt.NDArray[np.uint8]], fps: float = 10, codec: str = LOSSLESS) -> Path:
    """Write frames, (H, W, 3) uint8 RGB, as a video; the suffix of `path` chooses the container."""
    height, width = frames[0].shape[:2]
    writer: Any = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*codec), fps, (width, height))
    assert writer.isOpened(), f"OpenCV has no encoder for {codec}"
    for frame in frames:
        writer.write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
    writer.release()
    return path


def read_clip(path: Path) -> tuple[list[npt.NDArray[np.uint8]], float]:
    """Return the frames of a video, as `write_clip` takes them, and its frames per second: by OpenCV alone."""
    capture = cv2.VideoCapture(str(path))
    frames = []
    while True:
        is_read, frame = capture.read()
        if not is_read:
            return frames, float(capture.get(cv2.CAP_PROP_FPS))
        frames.append(np.asarray(frame[..., ::-1]))


def noise(count: int, height: int = 48, width: int = 64) -> list[npt.NDArray[np.uint8]]:
    """Return frames of noise, which differ from each other."""
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (height, width, 3)).astype(np.uint8) for _ in range(count)]
