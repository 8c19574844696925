"""Collect what several requests ask for into batches, for one thread that owns the model."""

from __future__ import annotations

import queue
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from threading import Thread
from typing import Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")
Job = tuple[Item, "Future[Result]"]


class Batcher(Generic[Item, Result]):
    """A thread that calls `run` with batches of the submitted items.

    run:      gives index and result of each item of a batch, in any order. If it fails, the items without a result are
              tried one by one, so that an item fails only by itself.
    most:     items of a batch at most.
    delay:    seconds to wait for more items after the first one of a batch; those already there are taken at once.
    """

    def __init__(
        self, run: Callable[[Sequence[Item]], Iterable[tuple[int, Result]]], *, most: int, delay: float
    ) -> None:
        self._run, self._most, self._delay = run, most, delay
        self._queue: queue.SimpleQueue[Job[Item, Result] | None] = queue.SimpleQueue()
        self._thread = Thread(target=self._work, name="tlvision-model", daemon=True)
        self._thread.start()

    @property
    def is_alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    def submit(self, item: Item) -> Future[Result]:
        """Return the future result of an item. One that is cancelled before its turn is not computed."""
        future: Future[Result] = Future()
        self._queue.put((item, future))
        return future

    def close(self) -> None:
        """Finish what was submitted before, and end the thread."""
        self._queue.put(None)
        self._thread.join()

    def _work(self) -> None:
        goes_on = True
        while goes_on:
            batch, goes_on = self._collect()
            wanted = [job for job in batch if job[1].set_running_or_notify_cancel()]
            if wanted:
                self._finish(wanted)

    def _collect(self) -> tuple[list[Job[Item, Result]], bool]:
        """Return the next batch, and whether there may be more."""
        batch: list[Job[Item, Result]] = []
        until: float | None = None
        while len(batch) < self._most:
            try:
                job = self._queue.get(timeout=None if until is None else max(0.0, until - time.monotonic()))
            except queue.Empty:
                break
            if job is None:
                return batch, False
            batch.append(job)
            until = until or time.monotonic() + self._delay
        return batch, True

    def _finish(self, jobs: Sequence[Job[Item, Result]]) -> None:
        left = dict(enumerate(jobs))
        try:
            for index, result in self._run([item for item, _ in jobs]):
                left.pop(index)[1].set_result(result)
            assert not left, "no result"
        except Exception as error:
            if len(jobs) == 1:
                jobs[0][1].set_exception(error)
                return
            for job in left.values():
                self._finish([job])
