"""Throughput and latency of `tlvision serve`, with and without batching, in one run.

    python tools/bench.py serve BUNDLE --images DIR [--requests 2000] [--clients 32] [--threads 1 2] [--json FILE]

For each number of threads of the model, servers with `--batch 8` and `--batch 1` take turns, three times each. Clients
are threads of this process, each with a connection that it keeps, and one image a request, as JPEG. Each turn sends
its share of the requests; latencies of all turns are taken together. An answer other than 200 ends the benchmark.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from tlvision.formats.image_headers import images_in
from tlvision.types import InputError, RunError

TURNS = 3
BOUNDARY = "b0undary"
BATCHES = (8, 1)


def main() -> None:
    """Print one table, and write it as JSON."""
    parser = argparse.ArgumentParser(prog="bench.py serve")
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    bodies = [body_of(path) for path in images_in(options.images)[:64]]
    rows = []
    for threads in options.threads:
        rows += compare(options.bundle, bodies, options.requests, options.clients, threads)
    names = list(rows[0])
    print("| " + " | ".join(names) + " |\n|" + "---|" * len(names))
    for row in rows:
        print("| " + " | ".join(str(row[name]) for name in names) + " |")
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1), encoding="utf-8")


def compare(bundle: Path, bodies: Sequence[bytes], requests: int, clients: int, threads: int) -> list[dict[str, Any]]:
    """Return a row for each size of batches."""
    seconds: dict[int, list[float]] = {batch: [] for batch in BATCHES}
    rates: dict[int, list[float]] = {batch: [] for batch in BATCHES}
    sizes: dict[int, list[float]] = {batch: [] for batch in BATCHES}
    for turn in range(TURNS):
        for batch in BATCHES:
            share = len(range(turn, requests, TURNS))
            with server(bundle, threads, batch, clients) as port:
                send(port, bodies, 2 * clients, clients)  # caches and shapes
                start = time.perf_counter()
                seconds[batch] += send(port, bodies, share, clients)
                rates[batch].append(share / (time.perf_counter() - start))
                sizes[batch].append(mean_batch(port))
    return [
        {
            "bundle": bundle.name,
            "threads": threads,
            "batch": batch,
            "requests": len(seconds[batch]),
            "clients": clients,
            "images/s": round(median(rates[batch]), 1),
            "images/s without batching": round(median(rates[batch]) / median(rates[1]), 2),
            "images a batch": round(median(sizes[batch]), 1),
            **{f"p{share} ms": round(1000 * float(np.percentile(seconds[batch], share)), 1) for share in (50, 95, 99)},
        }
        for batch in BATCHES
    ]


@contextmanager
def server(bundle: Path, threads: int, batch: int, clients: int) -> Iterator[int]:
    """Run a server in a process of its own; give its port. RunError if it does not end with code 0."""
    options = ["--port", "0", "--threads", str(threads), "--batch", str(batch), "--max-waiting", str(max(64, clients))]
    command = [sys.executable, "-m", "tlvision", "serve", str(bundle), *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ)
    assert process.stdout is not None
    port = None
    for line in process.stdout:
        if port := re.search(r"http://127\.0\.0\.1:(\d+)", line):
            break
    if port is None:
        raise InputError(f"serve: no server of '{bundle}'; its message is above")
    try:
        yield int(port[1])
    finally:
        process.send_signal(signal.SIGTERM)
        code = process.wait(60)
    if code:
        raise RunError(f"serve: the server ended with code {code}")


def body_of(path: Path) -> bytes:
    """Return a request with one image file."""
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="images"; filename="{path.name}"\r\n\r\n'
    return head.encode() + path.read_bytes() + f"\r\n--{BOUNDARY}--\r\n".encode()


def send(port: int, bodies: Sequence[bytes], requests: int, clients: int) -> list[float]:
    """Send requests from several clients; return the seconds of each. RunError for an answer other than 200."""

    def client(numbers: range) -> list[float]:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
        seconds = []
        for number in numbers:
            start = time.perf_counter()
            kind = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
            connection.request("POST", "/predict", bodies[number % len(bodies)], kind)
            answer = connection.getresponse()
            content = answer.read()
            seconds.append(time.perf_counter() - start)
            if answer.status != 200:
                raise RunError(f"serve: status {answer.status}: {content.decode()}")
        connection.close()
        return seconds

    with ThreadPoolExecutor(clients) as pool:
        parts = pool.map(client, (range(first, requests, clients) for first in range(clients)))
        return [second for part in parts for second in part]


def mean_batch(port: int) -> float:
    """Return the mean number of images in a batch."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    connection.request("GET", "/metrics")
    text = connection.getresponse().read().decode()
    numbers = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    connection.close()
    return float(numbers["tlvision_batch_images_sum"]) / float(numbers["tlvision_batch_images_count"])


if __name__ == "__main__":
    main()
