from __future__ import annotations

import multiprocessing
import pickle
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from tlvision.data.cache import ImageCache, default_budget
from tlvision.files.memory import GIBIBYTE, available_memory


def image(value: int, size: int = 10) -> tuple[np.ndarray, int]:
    return np.full((size, size, 3), value, np.uint8), 2


def never() -> tuple[np.ndarray, int]:
    raise AssertionError("made again")


def test_what_is_kept_comes_back_unchanged_and_read_only() -> None:
    cache = ImageCache(3, 1000)
    for slot, shape in enumerate([(5, 7, 3), (4, 6)]):
        made = np.random.default_rng(slot).integers(0, 256, shape, dtype=np.uint8)
        first, _ = cache.get(slot, lambda made=made: (made.copy(), 4))
        again, reduction = cache.get(slot, never)
        assert (first == made).all()
        assert (again == made).all()
        assert (again.shape, reduction) == (shape, 4)
        for found in (first, again):
            with pytest.raises(ValueError, match="read-only"):
                found[0] = 0
    assert (len(cache), cache.used) == (2, 5 * 7 * 3 + 24)


def test_the_budget_holds_and_a_smaller_image_may_still_fit() -> None:
    cache = ImageCache(4, 500)
    cache.get(0, lambda: image(1))
    cache.get(1, lambda: image(2))  # 300 + 300 > 500
    assert (len(cache), cache.used) == (1, 300)
    assert cache.get(1, lambda: image(3))[0][0, 0, 0] == 3  # made anew
    cache.get(2, lambda: image(4, size=8))
    assert (len(cache), cache.used) == (2, 492)
    assert cache.get(0, never)[0][0, 0, 0] == 1


def test_no_budget_keeps_nothing() -> None:
    cache = ImageCache(1, 0)
    cache.get(0, lambda: image(1))
    assert (len(cache), cache.used) == (0, 0)


def _fill(cache: ImageCache) -> None:
    cache.get(1, lambda: image(9))


def test_what_a_forked_worker_keeps_outlives_it() -> None:
    cache = ImageCache(2, 1000)
    worker = multiprocessing.get_context("fork").Process(target=_fill, args=(cache,))
    worker.start()
    worker.join()
    assert worker.exitcode == 0
    assert (cache.get(1, never)[0] == 9).all()


class Interleaved:
    """The pixels of a cache; while one process writes into them, another one comes along once."""

    def __init__(self, pixels: np.ndarray, other: Callable[[], object]) -> None:
        self.pixels, self.other = pixels, other

    def __getitem__(self, place: slice) -> np.ndarray:
        return self.pixels[place]

    def __setitem__(self, place: slice, values: np.ndarray) -> None:
        other, self.other = self.other, lambda: None
        other()
        self.pixels[place] = values


def test_a_slot_has_one_writer() -> None:
    """Of two processes that decode one image at once, the second leaves the first's bytes and row alone."""
    cache = ImageCache(1, 1000)
    seen: list[int] = []

    def second() -> None:
        assert len(cache) == 0, "what is half written is not offered"
        seen.append(int(cache.get(0, lambda: image(7))[0][0, 0, 0]))

    cache._pixels = Interleaved(cache._pixels, second)  # type: ignore[assignment]
    cache.get(0, lambda: image(7))
    assert seen == [7]
    assert (len(cache), cache.used) == (1, 300), "kept once"
    assert (cache.get(0, never)[0] == 7).all()


def test_a_row_that_was_read_does_not_change_afterwards() -> None:
    cache = ImageCache(1, 1000)
    cache.get(0, lambda: image(7))
    read = cache._stored

    def changed(row: Any) -> np.ndarray:
        cache._rows["offset"][0] = -1  # as a writer would that comes between the look at the row and its use
        return read(row)

    cache._stored = changed  # type: ignore[method-assign]
    assert (cache.get(0, never)[0] == 7).all()


def test_threads_and_processes_that_fill_one_cache_read_whole_images() -> None:
    cache = ImageCache(40, 40 * 300)

    def work(seed: int) -> None:
        for slot in np.random.default_rng(seed).permutation(40).tolist() * 3:
            found, _ = cache.get(slot, lambda slot=slot: image(slot))
            assert found.shape == (10, 10, 3)
            assert (found == slot).all()

    def several() -> None:
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(work, range(4)))

    worker = multiprocessing.get_context("fork").Process(target=several)
    worker.start()
    several()
    worker.join()
    assert worker.exitcode == 0
    assert (len(cache), cache.used) == (40, 40 * 300)


def test_a_pickled_cache_is_empty_and_smaller() -> None:
    cache = ImageCache(2, 800)
    cache.get(0, lambda: image(1, size=5))
    copy = pickle.loads(pickle.dumps(cache))
    assert (len(copy), copy.budget, copy.slots) == (0, 100, 2)


def test_the_default_budget_is_bounded() -> None:
    assert available_memory() > 0
    assert default_budget(1) <= min(2 * GIBIBYTE, available_memory())
    assert default_budget(8) <= 2 * GIBIBYTE // 8
