"""Decoded images kept in memory, as many as a fixed number of bytes holds, and once for all worker processes."""

from __future__ import annotations

import mmap
import multiprocessing
from collections.abc import Callable

import numpy as np

from tlvision.files.memory import GIBIBYTE, available_memory
from tlvision.types import Pixels

# One row per slot: where it lies, its shape (channels 0 stands for a 2-D array), and the reduction it was decoded at.
_ROW = np.dtype([("offset", "i8"), ("height", "i4"), ("width", "i4"), ("channels", "i4"), ("reduction", "i4")])
_EMPTY, _BEING_WRITTEN = -1, -2


class ImageCache:
    """A bounded store of arrays that nothing ever leaves.

    Training asks for every image equally often, so keeping the first that come is as good as any rule of
    replacement, and one that replaced would throw out what is needed next. What does not fit is decoded again each
    time; the encoded file is left to the operating system's own cache. What `get` returns does not depend on what is
    stored, so no result depends on the memory of the machine.

    The memory is shared with worker processes that are forked later (each image is decoded once for all of them, and
    stays when they end). Where workers are spawned instead, each starts with an empty one, an eighth as large.

    slots:  number of things that may be kept, known by 0..slots - 1.
    budget: bytes of pixels that may be kept; 0 keeps nothing. Memory is taken only as it is filled.
    """

    def __init__(self, slots: int, budget: int) -> None:
        self.slots = slots
        self.budget = budget
        self._lock = multiprocessing.Lock()
        # An anonymous map is shared with forked processes, and gone when the last of them is.
        self._memory = mmap.mmap(-1, slots * _ROW.itemsize + 8 + max(1, budget))
        table = np.frombuffer(self._memory, np.uint8, count=slots * _ROW.itemsize)
        self._rows = table.view(_ROW)
        self._rows["offset"] = _EMPTY
        self._used = np.frombuffer(self._memory, np.int64, count=1, offset=table.nbytes)
        self._pixels = np.frombuffer(self._memory, np.uint8, offset=table.nbytes + 8)

    def __reduce__(self) -> tuple[type[ImageCache], tuple[int, int]]:
        return (ImageCache, (self.slots, self.budget // 8))

    @property
    def used(self) -> int:
        """Bytes of pixels that are kept."""
        return int(self._used[0])

    def __len__(self) -> int:
        return int((self._rows["offset"] >= 0).sum())

    def get(self, slot: int, make: Callable[[], tuple[Pixels, int]]) -> tuple[Pixels, int]:
        """Return the array of `slot` and its reduction, stored or from `make()`, which is then kept if it fits.

        The array is read-only: whoever wrote into it would change every later draw.
        """
        with self._lock:
            row = self._rows[slot].tolist()  # a copy: what the table holds may change once the lock is free
        if row[0] >= 0:
            return self._stored(row), row[-1]
        image, reduction = make()
        image.flags.writeable = False
        self._keep(slot, image, reduction)
        return image, reduction

    def _stored(self, row: tuple[int, ...]) -> Pixels:
        offset, height, width, channels, _ = row
        count = height * width * max(1, channels)
        image = self._pixels[offset : offset + count]
        image = image.reshape((height, width, channels) if channels else (height, width))
        image.flags.writeable = False
        return image

    def _keep(self, slot: int, image: Pixels, reduction: int) -> None:
        """Store an image, unless another process has it or is about to: a slot is written once, by one of them."""
        with self._lock:
            offset = self.used
            if self._rows["offset"][slot] != _EMPTY or offset + image.nbytes > self.budget:
                return
            self._used[0] = offset + image.nbytes
            self._rows["offset"][slot] = _BEING_WRITTEN
        self._pixels[offset : offset + image.nbytes] = image.reshape(-1)
        channels = image.shape[2] if image.ndim == 3 else 0
        with self._lock:
            self._rows[slot] = (offset, *image.shape[:2], channels, reduction)


def default_budget(processes: int = 1) -> int:
    """Return the bytes that the cache of one of `processes` may use: min(2 GiB, a quarter of what is free) / processes.

    >>> default_budget(4) <= default_budget(1) <= 2 * GIBIBYTE
    True
    """
    return min(2 * GIBIBYTE, available_memory() // 4) // max(1, processes)
