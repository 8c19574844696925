"""What tests of servers share: images to send, and a server that runs in a thread of the test."""

from __future__ import annotations

import base64
import io
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import httpx
from PIL import Image

from tlvision.runtime import RuntimeModel


def picture(red: int = 200, *, kind: str = "PNG", size: tuple[int, int] = (48, 24)) -> bytes:
    """Return an image file of (width, height) pixels in one colour."""
    file = io.BytesIO()
    Image.new("RGB", size, (red, 20, 0)).save(file, kind)
    return file.getvalue()


def as_json(*images: bytes, **options: Any) -> dict[str, Any]:
    return {"images": [{"data": base64.b64encode(image).decode()} for image in images], **options}


@dataclass
class Running:
    """A server. address: host and port. client: for its paths."""

    address: tuple[str, int]
    client: httpx.Client

    def predict(self, *images: bytes, **options: Any) -> httpx.Response:
        return self.client.post("/predict", json=as_json(*images, **options))

    def exchange(self, sent: bytes, *, ends: bool) -> bytes:
        """Send bytes on a connection of its own, and return the answer; empty if there is none.

        ends: whether the client closes its side then, as one that breaks off does.
        """
        parts = []
        with socket.create_connection(self.address, timeout=20) as connection:
            with suppress(ConnectionError):  # the server answers a wrong head before it has read everything
                connection.sendall(sent)
            with suppress(OSError):  # not connected any more
                if ends:
                    connection.shutdown(socket.SHUT_WR)
            with suppress(ConnectionError):
                while part := connection.recv(1 << 16):
                    parts.append(part)
        return b"".join(parts)

    def number(self, name: str) -> float:
        """Return a number of /metrics."""
        lines = self.client.get("/metrics").text.splitlines()
        (found,) = (line for line in lines if line.startswith(f"{name} "))
        return float(found.rpartition(" ")[2])


class SlowModel:
    """A model whose batches begin when the test allows it. sizes, floors: of the batches."""

    def __init__(self, model: RuntimeModel) -> None:
        self._model, self.may_go = model, threading.Event()
        self.sizes: list[int] = []
        self.floors: list[float] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def predict_prepared(self, images: Any, *, least: float, observed: bool = False) -> Any:
        assert self.may_go.wait(20)
        self.sizes.append(len(images))
        self.floors.append(least)
        return self._model.predict_prepared(images, least=least, observed=observed)


def wait_for(condition: Callable[[], bool]) -> None:
    """Wait until a condition holds."""
    until = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.002)
