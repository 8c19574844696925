"""Find images that show the same: copies with another size, quality or brightness, and frames of one scene.

Source: the perceptual hash of Krawetz ("Looks Like It", 2011). Differences: 16 x 16 coefficients instead of 8 x 8, and
the first one, the brightness, is left out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from tlvision.types import InputError

SIDE = 16
"""Coefficients of the hash on each side."""
NEAR = 32
"""Of 255 bits, so many may differ. No two images of coco128 differ in fewer than 90; copies at half the size, at JPEG
quality 20 or 1.3 times as bright differ in at most 28 (a test)."""
_INPUT = 4 * SIDE
_THREADS = 4
_BLOCK = 512

Hashes = npt.NDArray[np.uint8]


def image_hashes(paths: Sequence[Path]) -> Hashes:
    """Return the hash of each image, (N, 32) uint8: 255 bits and one of padding.

    Raises InputError that names the first image that cannot be read.
    """
    with ThreadPoolExecutor(_THREADS) as pool:
        found = list(pool.map(_hash, paths))
    return np.array(found, np.uint8).reshape(len(paths), SIDE * SIDE // 8)


def near_pairs(hashes: Hashes, limit: int = NEAR) -> npt.NDArray[np.int64]:
    """Return the pairs of images whose hashes differ in at most `limit` bits, (P, 2), the smaller index first."""
    words = hashes.view(np.uint64)  # (N, 4)
    found = []
    for start in range(0, len(words), _BLOCK):
        block = words[start : start + _BLOCK]
        distance = np.zeros((len(block), len(words)), np.uint16)
        for column in range(words.shape[1]):
            distance += np.bitwise_count(block[:, column, None] ^ words[None, :, column])
        rows, columns = np.nonzero(distance <= limit)
        rows += start
        found.append(np.stack([rows, columns], 1)[rows < columns])
    return np.concatenate(found) if found else np.zeros((0, 2), np.int64)


def clusters(count: int, pairs: npt.NDArray[np.int64]) -> list[int]:
    """Return the cluster of each image, named by its smallest index; images without a pair are alone.

    >>> clusters(5, np.array([[0, 2], [2, 4]]))
    [0, 1, 0, 3, 0]
    """
    parent = list(range(count))

    def root(index: int) -> int:
        while parent[index] != index:
            parent[index] = parent[parent[index]]
            index = parent[index]
        return index

    for one, other in pairs.tolist():
        low, high = sorted((root(one), root(other)))
        parent[high] = low
    return [root(index) for index in range(count)]


def _hash(path: Path) -> npt.NDArray[np.uint8]:
    try:
        with Image.open(path) as image:
            image.draft("L", (_INPUT, _INPUT))  # a JPEG is decoded at a part of its size
            grey = image.convert("L").resize((_INPUT, _INPUT), Image.Resampling.BOX)
    except MemoryError:
        raise
    except Exception as error:  # damaged bytes make Pillow fail in many ways
        raise InputError(f"'{path}' cannot be read as an image ({error}); replace or remove it") from None
    low = (_COSINES @ np.asarray(grey, np.float32) @ _COSINES.T).ravel()[1:]
    return np.packbits(low > np.median(low))


def _cosines() -> npt.NDArray[np.float32]:
    """Return the first rows of the matrix of the discrete cosine transform, (SIDE, _INPUT)."""
    places = (np.arange(_INPUT) + 0.5) * math.pi / _INPUT
    found: npt.NDArray[np.float32] = np.cos(np.outer(np.arange(SIDE), places)).astype(np.float32)
    return found


_COSINES = _cosines()
