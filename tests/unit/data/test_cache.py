from __future__ import annotations

import multiprocessing
import pickle

import numpy as np
import pytest

from tlvision.data.cache import GIBIBYTE, ImageCache, available_memory, default_budget


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


def test_a_pickled_cache_is_empty_and_smaller() -> None:
    cache = ImageCache(2, 800)
    cache.get(0, lambda: image(1, size=5))
    copy = pickle.loads(pickle.dumps(cache))
    assert (len(copy), copy.budget, copy.slots) == (0, 100, 2)


def test_the_default_budget_is_bounded() -> None:
    assert available_memory() > 0
    assert default_budget(1) <= min(2 * GIBIBYTE, available_memory())
    assert default_budget(8) <= 2 * GIBIBYTE // 8
