"""Numbers of a server for Prometheus."""

from __future__ import annotations

import time
from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_IMAGES = (1, 2, 4, 8, 16, 32, 64)


class Metrics:
    """Numbers of one server.

    waiting: returns the number of images that wait or are predicted.
    """

    def __init__(self, waiting: Callable[[], int]) -> None:
        registry = self._registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self.requests = Counter(
            "tlvision_requests", "Requests by path and status", ["path", "status"], registry=registry
        )
        self.seconds = Histogram(
            "tlvision_request_seconds", "Seconds from request to answer", ["path"], buckets=_SECONDS, registry=registry
        )
        self.images = Counter("tlvision_images", "Images predicted", registry=registry)
        self.batch = Histogram("tlvision_batch_images", "Images of a batch", buckets=_IMAGES, registry=registry)
        self.batch_seconds = Histogram(
            "tlvision_batch_seconds", "Seconds of a batch in the model", buckets=_SECONDS, registry=registry
        )
        Gauge("tlvision_waiting_images", "Images that wait or are predicted", registry=registry).set_function(waiting)

    def text(self) -> bytes:
        """Return all numbers in the format of Prometheus."""
        return generate_latest(self._registry)


class CountRequests:
    """An ASGI application around another one, which counts its answers.

    paths: those with numbers of their own; all others are "other", so that strangers cannot make up any.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics, paths: frozenset[str]) -> None:
        self.app, self._metrics, self._paths = app, metrics, paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        path = scope["path"] if scope["path"] in self._paths else "other"
        start = time.perf_counter()
        status = 500  # an error that nobody has foreseen

        async def counted_send(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, receive, counted_send)
        finally:
            self._metrics.requests.labels(path, str(status)).inc()
            self._metrics.seconds.labels(path).observe(time.perf_counter() - start)
