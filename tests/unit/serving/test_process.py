"""The real process: without torch, equal to the runtime, and ended by SIGTERM without losing a request."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from hand_made_bundles import write_detector
from live_server import picture
from no_torch import WITHOUT_TORCH
from tlvision.cli.main import main
from tlvision.runtime import load


def test_the_server_imports_neither_torch_nor_the_rest_of_training() -> None:
    code = (
        "import sys, tlvision.serving.app, tlvision.serving.server; "
        "print([name for name in ('torch', 'torchvision', 'matplotlib', 'tlvision.engine') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return write_detector(tmp_path / "bundle")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--port", "70000"], "--port must be a whole number from 0 to 65535, got 70000"),
        (["--host", "no such host"], "cannot listen on 'no such host'"),
        (["--batch", "0"], "batch must be a number above 0"),
        (["--threads", "0"], "threads must be a whole number from 1 on"),
    ],
)
def test_wrong_arguments_are_sentences(
    bundle: Path, arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["serve", str(bundle), *arguments]) == 2
    assert words in capsys.readouterr().err


def test_a_folder_without_a_bundle_is_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", str(tmp_path)]) == 2
    assert "holds no bundle.json" in capsys.readouterr().err


@pytest.fixture
def process(bundle: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Start the command on a free port; return the process and its address."""
    command = [sys.executable, "-c", WITHOUT_TORCH, "serve", str(bundle), "--port", "0", "--batch-delay", "300"]
    started = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ})
    try:
        assert started.stdout is not None
        lines = [started.stdout.readline() for _ in range(3)]
        found = re.search(r"http://127\.0\.0\.1:\d+", lines[-1])
        assert found, lines
        yield started, found[0]
    finally:
        started.kill()
        started.communicate()


@pytest.mark.slow
def test_sigterm_answers_what_is_on_its_way_and_ends_with_0(
    process: tuple[subprocess.Popen[str], str], bundle: Path, tmp_path: Path
) -> None:
    server, address = process
    data = picture(200, size=(200, 120))
    (tmp_path / "a.png").write_bytes(data)
    wanted = load(bundle).predict(tmp_path / "a.png")
    assert len(wanted) == 1
    ready = threading.Barrier(7)

    def predict() -> httpx.Response:
        with httpx.Client(base_url=address, timeout=20) as client:
            client.get("/health")
            ready.wait(20)
            return client.post("/predict", files={"images": ("a.png", data)})

    with ThreadPoolExecutor(6) as pool:
        answers = [pool.submit(predict) for _ in range(6)]
        ready.wait(20)
        # Each batch waits for 300 ms, so that these are on their way.
        until = time.monotonic() + 20
        while "tlvision_waiting_images 6.0" not in httpx.get(f"{address}/metrics").text:
            assert time.monotonic() < until
        server.send_signal(signal.SIGTERM)
        for answer in answers:
            assert answer.result().status_code == 200
            (image,) = answer.result().json()["images"]
            (found,) = image["objects"]
            x, y, width, height = found["bbox"]
            assert found["score"] == pytest.approx(float(wanted.scores[0]), abs=1e-7)
            assert [x, y, x + width, y + height] == pytest.approx(wanted.boxes[0].tolist(), abs=1e-4)
    assert server.wait(20) == 0
    assert server.stderr is not None
    assert server.stderr.read() == ""
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{address}/health")


@pytest.mark.slow
def test_a_port_in_use_is_a_sentence(
    process: tuple[subprocess.Popen[str], str], bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, address = process
    assert main(["serve", str(bundle), "--port", address.rpartition(":")[2]]) == 2
    assert "Address already in use" in capsys.readouterr().err
