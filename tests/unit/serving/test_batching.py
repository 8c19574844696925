"""Items of several requests become batches, and each gets its own result or error."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence

import pytest

from tlvision.serving.batching import Batcher


class Doubler:
    """Doubles numbers, fails on negative ones, and waits for `may_go`. batches: that it got."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.may_go = threading.Event()

    def __call__(self, items: Sequence[int]) -> Iterator[tuple[int, int]]:
        assert self.may_go.wait(10)
        self.batches.append(list(items))
        for index in reversed(range(len(items))):
            if items[index] < 0:
                raise ValueError(f"{items[index]} is negative")
            yield index, 2 * items[index]


def test_items_that_wait_form_batches_of_the_largest_size() -> None:
    double = Doubler()
    batcher = Batcher(double, most=4, delay=0.0)
    first = batcher.submit(0)
    time.sleep(0.05)  # the thread has taken it, and waits
    futures = [batcher.submit(number) for number in range(1, 10)]
    double.may_go.set()
    assert [future.result(10) for future in (first, *futures)] == [2 * number for number in range(10)]
    assert double.batches == [[0], [1, 2, 3, 4], [5, 6, 7, 8], [9]]
    batcher.close()
    assert not batcher.is_alive


def test_a_batch_waits_for_more_items() -> None:
    double = Doubler()
    double.may_go.set()
    batcher = Batcher(double, most=2, delay=10.0)
    first = batcher.submit(1)
    time.sleep(0.02)
    second = batcher.submit(2)
    start = time.monotonic()
    assert (first.result(10), second.result(10)) == (2, 4)
    assert time.monotonic() - start < 5  # a full batch waits no longer
    assert double.batches == [[1, 2]]
    batcher.close()


def test_an_item_fails_only_by_itself() -> None:
    double = Doubler()
    batcher = Batcher(double, most=4, delay=0.05)
    futures = [batcher.submit(number) for number in (1, -2, 3, 4)]
    double.may_go.set()
    with pytest.raises(ValueError, match="-2 is negative"):
        futures[1].result(10)
    assert [futures[index].result(10) for index in (0, 2, 3)] == [2, 6, 8]
    assert double.batches == [[1, -2, 3, 4], [1], [-2]]  # 3 and 4 were there already
    assert batcher.submit(5).result(10) == 10
    batcher.close()


def test_what_nobody_waits_for_is_not_computed() -> None:
    double = Doubler()
    batcher = Batcher(double, most=1, delay=0.0)
    first, second, third = (batcher.submit(number) for number in (1, 2, 3))
    assert second.cancel()
    double.may_go.set()
    assert (first.result(10), third.result(10)) == (2, 6)
    assert double.batches == [[1], [3]]
    batcher.close()


def test_close_finishes_what_was_submitted() -> None:
    double = Doubler()
    batcher = Batcher(double, most=2, delay=0.0)
    futures = [batcher.submit(number) for number in range(5)]
    double.may_go.set()
    batcher.close()
    assert [future.result(0) for future in futures] == [0, 2, 4, 6, 8]
