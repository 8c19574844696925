"""The process of a server: its address, its signals and its end."""

from __future__ import annotations

import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from tlvision.serving.settings import ServerSettings
from tlvision.types import InputError

if TYPE_CHECKING:
    from tlvision.runtime.model import RuntimeModel
    from tlvision.serving.service import Observer

_BACKLOG = 2048
_LAST_PORT = 65535
_GRACE = 5
"""Seconds after the timeouts of a request until a stopped server gives up on those that have no answer."""


def serve_bundle(
    bundle: Path,
    *,
    host: str,
    port: int,
    threads: int | None = None,
    settings: ServerSettings | None = None,
    make_observer: Callable[[RuntimeModel], Observer] | None = None,
) -> None:
    """Serve a bundle until the process gets SIGTERM or SIGINT, then answer what is on its way.

    host:    name or address to listen on. port: 0 for any free one.
    threads: of one prediction; None lets ONNX Runtime or OpenVINO decide.
    make_observer: gives, for the loaded model, what gets every predicted image; None for nobody.

    Prints a line with the address once requests are accepted.

    Raises InputError if the folder is no bundle, the address cannot be used, or the extra `serve` is not installed.
    """
    import cv2

    from tlvision.runtime import load

    try:
        import uvicorn

        from tlvision.serving.app import create_app
    except ModuleNotFoundError as error:
        raise InputError(f'serve: {error.name} is not installed. pip install "tlvision[serve]"') from error
    settings = settings or ServerSettings()
    model = load(bundle, threads=threads)
    cv2.setNumThreads(1)  # images are decoded side by side already
    with _listen(host, port) as listener:
        config = uvicorn.Config(
            create_app(model, settings, None if make_observer is None else make_observer(model)),
            http="h11",
            ws="none",
            log_level="warning",
            access_log=False,
            timeout_graceful_shutdown=int(2 * settings.timeout) + _GRACE,
        )
        server = uvicorn.Server(config)
        with _handled(server.handle_exit):
            print(model)
            print(f"serving        {_address(listener)}/ (docs: {_address(listener)}/docs)", flush=True)
            server.run(sockets=[listener])


@contextmanager
def _handled(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Handle the signals that end a server, also before it runs and after.

    uvicorn raises the signal that has ended it once more: without a handler of ours, that would end the process.
    """
    before = {number: signal.signal(number, handler) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)


def _listen(host: str, port: int) -> socket.socket:
    if not 0 <= port <= _LAST_PORT:  # the system would take the rest of a division
        raise InputError(f"serve: --port must be a whole number from 0 to {_LAST_PORT}, got {port}")
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(address[:2], family=family, backlog=_BACKLOG)
    except (OSError, OverflowError, UnicodeError) as error:
        raise InputError(f"serve: cannot listen on '{host}', port {port} ({error}); set --host and --port") from None


def _address(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
