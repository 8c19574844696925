"""The error of a request, which becomes its answer."""

from __future__ import annotations

from http import HTTPStatus


class RequestError(Exception):
    """A request is refused: status, and a sentence with problem, value and remedy.

    retry_after: seconds after which the client may try again; None if that will not help.
    """

    def __init__(self, status: HTTPStatus, sentence: str, *, retry_after: int | None = None) -> None:
        super().__init__(sentence)
        self.status, self.sentence, self.retry_after = status, sentence, retry_after
