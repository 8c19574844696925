"""Append records of images to a log, from any number of threads, with rotation and a sample of the images."""

from __future__ import annotations

import os
import random
import secrets
from collections import deque
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path, PurePath
from threading import Lock
from types import TracebackType

from tlvision.data.images import write_image
from tlvision.files.inputs import check_file, file_hash
from tlvision.formats.image_headers import SUFFIXES
from tlvision.monitoring.record import decode, encode, make_record
from tlvision.runtime.bundle import NAME
from tlvision.runtime.model import RuntimeModel
from tlvision.runtime.observe import Observation
from tlvision.types import InputError, Pixels, Prediction, RunError

MAX_BYTES, KEPT_PARTS, MAX_IMAGES = 64 * 2**20, 9, 1000
_HASH = 16
_PEEK = 2**20


class RecordLog:
    """A log of what a bundle's model has predicted, one line of JSON for each image.

    path:       of the log, to which records are appended; its folder is made.
    model:      the bundle's model.
    max_bytes:  size from which the log becomes `<path>.1`, that one `<path>.2`, and so on.
    keep:       parts that are kept besides the log; the oldest is deleted.
    image_rate: share of the images that are copied to `<path>.images`, 0..1, chosen at random.
    max_images: copies that are kept; the oldest is deleted.

    All methods may be called from several threads. Several processes need a log each.

    Raises InputError if the file is no log, or one of another bundle; RunError if it cannot be written.
    """

    def __init__(
        self,
        path: str | Path,
        model: RuntimeModel,
        *,
        max_bytes: int = MAX_BYTES,
        keep: int = KEPT_PARTS,
        image_rate: float = 0.0,
        max_images: int = MAX_IMAGES,
    ) -> None:
        if not 0 <= image_rate <= 1:
            raise InputError(f"log: the share of images that are kept must be from 0 to 1, got {image_rate}")
        self.path, self.bundle = Path(path), bundle_hash(model.folder)
        self._selection = model.selection
        self._max_bytes, self._keep = max_bytes, keep
        self._rate, self._max_images = image_rate, max_images
        self._lock, self._random = Lock(), random.Random()
        self._images = deque(sorted(self.image_folder.iterdir())) if self.image_folder.is_dir() else deque()
        _check_log(self.path, self.bundle)
        self._file: int | None = self._open()

    @property
    def image_folder(self) -> Path:
        """The folder of the copies of images."""
        return self.path.with_name(f"{self.path.name}.images")

    def add(
        self,
        name: str,
        found: Prediction,
        observation: Observation,
        size: tuple[int, int],
        *,
        image: Path | bytes | Pixels | None = None,
        time: datetime | None = None,
    ) -> None:
        """Append the record of one image.

        name:        any text, such as the name of an uploaded file.
        found:       all that `RuntimeModel.observe_samples` has found, with a `least` of at most that of
                     `RuntimeModel.selection.least()`: the thresholds of the bundle decide what counts.
        observation: from there too.
        size:        width and height of the image in pixels.
        image:       its file, the content of a file, or decoded pixels, for the sample of images; a file's path is
                     kept in the record.
        time:        with time zone; None for now.

        Raises RunError if the disk is full.
        """
        record = make_record(name, found, observation, size, self._selection, bundle=self.bundle, time=time)
        file = str(image.absolute()) if isinstance(image, Path) else ""
        try:
            copied = image is not None and self._random.random() < self._rate
            copy = self._copy(name, image, record.time) if copied and image is not None else ""
            self._append(encode(replace(record, file=file, copy=copy)))
        except OSError as error:
            raise RunError(
                f"log: '{self.path}' cannot be written ({error.strerror or error}); free some space, or log elsewhere"
            ) from error

    def close(self) -> None:
        """Close the file; nothing is added afterwards."""
        with self._lock:
            if self._file is not None:
                os.close(self._file)
                self._file = None

    def __enter__(self) -> RecordLog:
        """Return the log."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the log."""
        self.close()

    def _open(self) -> int:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            file = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
            self._size = os.fstat(file).st_size
            # A process that was killed may have left a line that is cut: the next one begins behind it.
            self._cut = bool(self._size) and os.pread(file, 1, self._size - 1) != b"\n"
            return file
        except OSError as error:
            raise RunError(f"log: '{self.path}' cannot be written ({error.strerror}). Give another file") from None

    def _append(self, line: bytes) -> None:
        with self._lock:
            if self._file is None:
                raise RunError(f"log: '{self.path}' is closed")
            if self._size and self._size + len(line) > self._max_bytes:
                self._file = self._rotate(self._file)
            data = b"\n" + line if self._cut else line
            self._cut = True  # until the whole line is written
            written = os.write(self._file, data)
            self._size += written
            if written < len(data):
                raise OSError(28, "No space left on device")
            self._cut = False

    def _rotate(self, file: int) -> int:
        os.close(file)
        self._file = None  # an error below leaves the log closed
        for number in range(self._keep, 0, -1):
            older = part_path(self.path, number - 1)
            if older.exists():
                older.replace(part_path(self.path, number))
        if not self._keep:
            self.path.unlink()
        return self._open()

    def _copy(self, name: str, image: Path | bytes | Pixels, time: datetime) -> str:
        """Copy an image, delete the oldest if there are too many, and return the file relative to the log's folder."""
        suffix = PurePath(name if not isinstance(image, Path) else image).suffix.lower()
        suffix = ".jpg" if not isinstance(image, Path | bytes) or suffix not in SUFFIXES else suffix
        # Not the given name: it may come from a stranger.
        stem = f"{time.astimezone(UTC):%Y%m%dT%H%M%S%f}-{secrets.token_hex(4)}"
        path = self.image_folder / f"{stem}{suffix}"
        self.image_folder.mkdir(parents=True, exist_ok=True)
        if isinstance(image, Path):
            path.write_bytes(image.read_bytes())
        elif isinstance(image, bytes):
            path.write_bytes(image)
        else:
            write_image(path, image)
        with self._lock:
            self._images.append(path)
            while len(self._images) > self._max_images:
                self._images.popleft().unlink(missing_ok=True)
        return f"{self.image_folder.name}/{path.name}"


def part_path(path: Path, number: int) -> Path:
    """Return the file of a rotated part of a log, 1 the newest; 0 is the log itself.

    >>> part_path(Path("log.jsonl"), 2).name
    'log.jsonl.2'
    """
    return path.with_name(f"{path.name}.{number}") if number else path


def bundle_hash(folder: Path) -> str:
    """Return what tells a bundle from others: a hash of bundle.json, which has the hashes of all files."""
    return file_hash(folder / NAME)[:_HASH]


def _check_log(path: Path, bundle: str) -> None:
    """Raise InputError if a file that exists is no log, or one of another bundle."""
    if not path.exists() and not path.is_symlink():
        return
    check_file(path, "a log of records")
    with path.open("rb") as file:
        line = file.readline(_PEEK)
    if not line.endswith(b"\n") and (not line or line.startswith(b'{"time":"')):
        return  # empty, or cut within the first record
    try:
        other = decode(line).bundle
    except ValueError:
        raise InputError(
            f"log: '{path}' is no log of records. Give a new file, to which records are appended"
        ) from None
    if other != bundle:
        raise InputError(
            f"log: '{path}' has records of another bundle ({other}; this one is {bundle}). Give a new file"
        )
