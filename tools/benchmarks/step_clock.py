"""Time the steps of any trainer that loads with torch's DataLoader: ours and upstream's with one clock.

A step is what lies between two calls of `Tensor.backward`: the backward pass, the optimizer, averages, the next batch
and the next forward pass. The clock waits for the device at its start and at its end only, so it does not slow down
what runs ahead.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from types import TracebackType
from typing import Any

import torch
from torch.utils.data import dataloader

# Any, because methods of these classes are replaced for a while.
_TENSOR: Any = torch.Tensor
_LOADER: Any = dataloader._BaseDataLoaderIter


class EnoughError(Exception):
    """Leaves a trainer when enough steps are timed."""


class StepClock:
    """Count steps from the first `backward` inside the with-block on, and leave it with `EnoughError` after the last.

    warmup, steps: how many are not timed, then how many are.

    Afterwards: `seconds` of a step, `waiting` for images as a share of them, `peak` memory in bytes (on a GPU, else 0).
    """

    def __init__(self, warmup: int, steps: int) -> None:
        self.warmup, self.steps = warmup, steps
        self.seconds = self.waiting = 0.0
        self.peak = 0
        self._seen = 0
        self._began = self._waited = 0.0

    def __enter__(self) -> StepClock:
        self._backward, self._next = _TENSOR.backward, _LOADER.__next__
        clock, backward, get_next = self, self._backward, self._next

        def timed_backward(tensor: Any, *given: Any, **options: Any) -> Any:
            clock._tick()
            return backward(tensor, *given, **options)

        def timed_next(loader: Any) -> Any:
            before = time.perf_counter()
            try:
                return get_next(loader)
            finally:
                clock._waited += time.perf_counter() - before

        _TENSOR.backward, _LOADER.__next__ = timed_backward, timed_next
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: BaseException | TracebackType | None) -> bool:
        _TENSOR.backward, _LOADER.__next__ = self._backward, self._next
        return kind is EnoughError

    def loading(self, batches: Iterator[Any]) -> Iterator[Any]:
        """Yield the batches, and count the time until each as waiting; for loading without a DataLoader."""
        while True:
            before = time.perf_counter()
            try:
                batch = next(batches)
            except StopIteration:
                return
            self._waited += time.perf_counter() - before
            yield batch

    def _tick(self) -> None:
        if self._seen == self.warmup:
            wait_for_device()
            if torch.cuda.is_available():
                torch.cuda.reset_peak_memory_stats()
            self._began, self._waited = time.perf_counter(), 0.0
        if self._seen == self.warmup + self.steps:
            wait_for_device()
            taken = time.perf_counter() - self._began
            self.seconds, self.waiting = taken / self.steps, self._waited / taken
            self.peak = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0
            raise EnoughError
        self._seen += 1


def wait_for_device() -> None:
    """Wait for the GPU, if there is one, so that a clock reads the time of the work."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
