"""Count the images on their way, and refuse more than a limit."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus

from tlvision.serving.errors import RequestError
from tlvision.types import counted

RETRY_AFTER = 1
"""Seconds that a refused client is asked to wait."""


class Waiting:
    """Images that wait or are predicted, of all requests together; used by the event loop only.

    limit: at most. now: at present.
    """

    def __init__(self, limit: int) -> None:
        self.limit, self.now = limit, 0

    @contextmanager
    def place(self) -> Iterator[Place]:
        """Hold a place for a request until its answer is there: for one image, before its body is read.

        Raises RequestError (503) if there is none.
        """
        place = Place(self)
        try:
            place.resize(1)
            yield place
        finally:
            self.now -= place.images


class Place:
    """The place of one request. images: that it holds."""

    def __init__(self, waiting: Waiting) -> None:
        self._waiting, self.images = waiting, 0

    def resize(self, images: int) -> None:
        """Hold a place for so many images; RequestError (503) if there is none."""
        waiting = self._waiting
        more = images - self.images
        if waiting.now + more > waiting.limit:
            raise RequestError(
                HTTPStatus.SERVICE_UNAVAILABLE,
                f"The server is busy: {counted(waiting.now, 'image')} of {waiting.limit} at most are waiting. Try "
                "again later.",
                retry_after=RETRY_AFTER,
            )
        waiting.now += more
        self.images = images
