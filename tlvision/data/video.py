"""Read the frames of video files, and write pictures as a video, with OpenCV and its ffmpeg."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from tlvision.types import InputError, Pixels, RunError, VideoFrame, counted

SUFFIXES = frozenset({".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv"})
"""Of file names that are videos, in lower case."""
ASSUMED_FPS = 25.0
"""Frames per second of a video whose file does not say."""
_CODEC = "mp4v"  # OpenCV's wheels have no encoder for H.264; VP9 takes twenty times as long
_DECIMALS = 4  # of seconds


class VideoReader:
    """The frames of a video file, one after another; none is kept.

    path:       the file.
    fps:        frames per second, the mean where it varies; ASSUMED_FPS if `has_fps` is False.
    num_frames: as the file says, which may be wrong; 0 if it does not say.
    num_read:   frames read so far, with those that `frames` left out.

    A rotation that the file asks for is applied. Use it in a with-block.

    Raises InputError if the file cannot be opened as a video.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with _quiet():
            # By its absolute path: "concat:a.avi" would be an instruction to ffmpeg. By ffmpeg: other readers of OpenCV
            # take the digits of a name for the number of an image.
            self._capture = cv2.VideoCapture(str(path.absolute()), cv2.CAP_FFMPEG)
        if not self._capture.isOpened():
            raise InputError(
                f"'{path}' cannot be opened as a video. It is incomplete, or of a format or codec that OpenCV does not "
                f"read. {_remedy(path)}"
            )
        fps = self._capture.get(cv2.CAP_PROP_FPS)
        self.has_fps = math.isfinite(fps) and fps > 0
        self.fps = float(fps) if self.has_fps else ASSUMED_FPS
        self.num_frames = max(0, int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT)))
        self.num_read = 0

    def __enter__(self) -> VideoReader:
        return self

    def __exit__(self, *_: object) -> None:
        self._capture.release()

    def frames(self, every: int = 1) -> Iterator[tuple[VideoFrame, Pixels]]:
        """Yield the frames 0, `every`, 2 `every` … as (H, W, 3) uint8 RGB, until no further one can be read.

        Raises InputError if there is none at all.
        """
        while self._capture.grab():
            number = self.num_read
            is_read, image = self._capture.retrieve() if number % every == 0 else (True, None)
            if not is_read:
                break
            self.num_read += 1
            if image is not None:
                yield VideoFrame(number, self._time(number)), np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB))
        if self.num_read == 0:
            raise InputError(f"'{self.path}' has no frame that can be read. {_remedy(self.path)}")

    def notes(self) -> list[str]:
        """Return a sentence for each thing that is odd about the file; called after the last frame."""
        name, notes = self.path.name, []
        if not self.has_fps:
            notes.append(f"{name}: the file has no frame rate; {ASSUMED_FPS:g} frames per second are assumed")
        if self.num_read < self.num_frames:
            notes.append(
                f"{name}: {counted(self.num_read, 'frame')} could be read, the file names {self.num_frames}. It ends "
                "early or is damaged there, or its number is wrong"
            )
        return notes

    def _time(self, number: int) -> float:
        """Return when the frame that was read last is shown, in seconds."""
        milliseconds = self._capture.get(cv2.CAP_PROP_POS_MSEC)
        known = math.isfinite(milliseconds) and (milliseconds > 0 or number == 0)
        return round(milliseconds / 1000 if known else number / self.fps, _DECIMALS)


def _remedy(path: Path) -> str:
    return f"Convert it, for example: ffmpeg -i {path.name} -c:v libx264 {path.stem}_converted.mp4"


class VideoWriter:
    """Writes pictures as an MP4 video (MPEG-4 Part 2), as they come.

    path: the file. fps: frames per second. The size is that of the first picture; others are resized to it. Of an odd
    width or height the last column or row is cut off.

    Use it in a with-block, which raises RunError at its end if not every picture is in the file. Without any picture no
    file is written.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "a.mp4"
    >>> with VideoWriter(path, 10) as writer:
    ...     writer.write(np.zeros((48, 64, 3), np.uint8))
    >>> with VideoReader(path) as reader:
    ...     [(frame, pixels.shape) for frame, pixels in reader.frames()]
    [(VideoFrame(number=0, time=0.0), (48, 64, 3))]
    """

    def __init__(self, path: Path, fps: float) -> None:
        self.path = path
        self.fps = fps
        self.num_written = 0
        self._size = 0, 0
        self._writer: Any = None

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._writer is not None:
            self._writer.release()
            if kind is None:
                self._check()

    def write(self, picture: Pixels) -> None:
        """Add a picture, (H, W, 3) uint8 RGB; RunError if the file cannot be made."""
        if self._writer is None:
            self._size = picture.shape[1], picture.shape[0]
            self._writer = self._open()
        image = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
        if (image.shape[1], image.shape[0]) != self._size:
            image = cv2.resize(image, self._size, interpolation=cv2.INTER_AREA)
        self._writer.write(image)
        self.num_written += 1

    def _open(self) -> Any:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        code = cv2.VideoWriter.fourcc(*_CODEC)
        with _quiet():
            writer = cv2.VideoWriter(str(self.path.absolute()), cv2.CAP_FFMPEG, code, self.fps, self._size)
        if not writer.isOpened():
            raise RunError(
                f"'{self.path}' cannot be written as a video of {self._size[0]} x {self._size[1]} pixels at "
                f"{self.fps:g} frames per second. Write its frames as pictures instead"
            )
        return writer

    def _check(self) -> None:
        """Raise RunError unless the file has all pictures: OpenCV does not tell when the disk is full."""
        with _quiet():
            written = cv2.VideoCapture(str(self.path.absolute()), cv2.CAP_FFMPEG)
            count = int(written.get(cv2.CAP_PROP_FRAME_COUNT)) if written.isOpened() else 0
            written.release()
        if count != self.num_written:
            raise RunError(
                f"'{self.path}' has {count} of {self.num_written} frames: it could not be written in full. Free some "
                "space or choose another folder"
            )


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep OpenCV from printing a warning, in its own terms, of what is raised as an error here."""
    logging = cv2.utils.logging
    before = logging.setLogLevel(logging.LOG_LEVEL_SILENT)
    try:
        yield
    finally:
        logging.setLogLevel(before)
