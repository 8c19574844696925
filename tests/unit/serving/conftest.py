"""Servers of bundles made by hand, in threads of the test."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
import uvicorn

import tlvision.runtime
from hand_made_bundles import write_detector
from live_server import Running, SlowModel
from tlvision.runtime import RuntimeModel
from tlvision.serving.app import create_app
from tlvision.serving.service import Observer
from tlvision.serving.settings import ServerSettings

Start = Callable[..., Running]


@pytest.fixture(scope="session")
def detector(tmp_path_factory: pytest.TempPathFactory) -> RuntimeModel:
    return tlvision.runtime.load(write_detector(tmp_path_factory.mktemp("detector") / "bundle"), threads=1)


@pytest.fixture(scope="module")
def start(detector: RuntimeModel) -> Iterator[Start]:
    """Return a function that starts a server in a thread; all are ended with the module."""
    ends: list[Callable[[], None]] = []

    def begin(
        settings: ServerSettings | None = None, model: RuntimeModel = detector, observe: Observer | None = None
    ) -> Running:
        app = create_app(model, settings or ServerSettings(), observe)
        config = uvicorn.Config(app, http="h11", ws="none", log_level="critical", access_log=False)
        server = uvicorn.Server(config)
        listener = socket.create_server(("127.0.0.1", 0))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        while not server.started:
            time.sleep(0.005)
        address = listener.getsockname()
        client = httpx.Client(base_url=f"http://{address[0]}:{address[1]}", timeout=20)

        def end() -> None:
            client.close()
            server.should_exit = True
            thread.join()
            listener.close()

        ends.append(end)
        return Running(address, client)

    yield begin
    for end in ends:
        end()


@pytest.fixture(scope="module")
def running(start: Start) -> Running:
    return start()


@pytest.fixture
def slow(detector: RuntimeModel) -> Iterator[Any]:
    model = SlowModel(detector)
    yield model
    model.may_go.set()
