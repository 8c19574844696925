"""`tlvision serve BUNDLE [--host HOST] [--port PORT] …`."""

from __future__ import annotations

import argparse
from pathlib import Path

from tlvision.types import InputError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the verb."""
    parser.add_argument("bundle", metavar="BUNDLE", help="folder that 'tlvision export' has written")
    parser.add_argument(
        "--host", default="127.0.0.1", help="address to listen on (default: this machine only; 0.0.0.0 for all)"
    )
    parser.add_argument("--port", type=int, default=8000, help="port to listen on (default: 8000; 0 for any)")
    parser.add_argument("--threads", type=int, metavar="N", help="threads of a prediction (default: all cores)")
    parser.add_argument(
        "--batch", type=int, default=8, metavar="N", help="images predicted together at most (default: 8)"
    )
    parser.add_argument(
        "--batch-delay", type=float, default=2, metavar="MS", help="milliseconds to wait for more (default: 2)"
    )
    parser.add_argument(
        "--max-body", type=float, default=32, metavar="MIB", help="size of a request at most (default: 32 MiB)"
    )
    parser.add_argument(
        "--max-pixels", type=float, default=25, metavar="MP", help="megapixels of an image at most (default: 25)"
    )
    parser.add_argument(
        "--max-images", type=int, default=16, metavar="N", help="images of a request at most (default: 16)"
    )
    parser.add_argument(
        "--max-waiting", type=int, default=64, metavar="N", help="images of all requests at a time (default: 64)"
    )
    parser.add_argument(
        "--timeout", type=float, default=30, metavar="S", help="seconds that a request may take (default: 30)"
    )
    parser.add_argument("--log", metavar="FILE", help="append a record of each image, for tlvision monitor")
    parser.add_argument(
        "--log-images", type=float, default=0.0, metavar="RATE", help="share of the images kept beside the log, 0 to 1"
    )


def run(options: argparse.Namespace) -> None:
    """Serve until the process is told to end."""
    from tlvision.serving.server import serve_bundle
    from tlvision.serving.settings import MEBIBYTE, ServerSettings

    settings = ServerSettings(
        max_body=int(options.max_body * MEBIBYTE),
        max_pixels=int(options.max_pixels * 1e6),
        max_images=options.max_images,
        max_waiting=options.max_waiting,
        timeout=options.timeout,
        batch=options.batch,
        batch_delay=options.batch_delay / 1000,
    )
    observer = None
    if options.log is not None:
        try:
            from tlvision.monitoring.served import logging_observer
        except ModuleNotFoundError as error:
            raise InputError(f'serve: {error.name} is not installed. pip install "tlvision[serve]"') from error
        observer = logging_observer(Path(options.log), options.log_images)
    elif options.log_images:
        raise InputError("serve: --log-images goes with --log; give the file of the log")
    serve_bundle(
        Path(options.bundle),
        host=options.host,
        port=options.port,
        threads=options.threads,
        settings=settings,
        make_observer=observer,
    )
