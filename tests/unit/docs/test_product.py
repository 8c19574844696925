"""The commands of docs/product.md go from a training to a server and a drift page, one after the other."""

from __future__ import annotations

import json
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

PAGE = Path(__file__).resolve().parents[3] / "docs" / "product.md"


def commands() -> list[list[str]]:
    """Return the words of each line of the walk."""
    (block,) = re.findall(r"<!-- walk: .*? -->\n```bash\n(.*?)```", PAGE.read_text(), re.DOTALL)
    return [shlex.split(line) for line in block.splitlines()]


def test_the_walk_has_six_commands() -> None:
    words = commands()
    assert [each[:2] for each in words] == [
        ["tlvision", verb] for verb in ("train", "export", "predict", "monitor", "models", "serve")
    ]


@pytest.mark.slow
def test_the_walk_ends_at_a_server_and_a_drift_page(tmp_path: Path) -> None:
    pytest.importorskip("fastapi", reason="an extra")
    program = [sys.executable, "-m", "tlvision"]
    *steps, serve = [[*program, *words[1:]] for words in commands()]
    for words in steps:
        if "train" in words:  # two epochs are enough to see that the steps fit together
            words += ["--set", "train.epochs=2"]
        done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
        # The images of `predict` are those of the run, training images too: whether they differ is not the matter.
        assert done.returncode in ({0, 1} if "monitor" in words else {0}), done.stderr
    assert "<svg" in (tmp_path / "drift" / "report.html").read_text()
    verdict = json.loads((tmp_path / "drift" / "monitor.json").read_text())
    assert verdict
    assert (tmp_path / "library" / "inspection" / "1" / "entry.json").is_file()

    process = subprocess.Popen([*serve, "--port", "0"], cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        address = ""
        while "http://" not in address:
            address = process.stdout.readline()
            assert address or process.poll() is None
        url = re.findall(r"http://[^/ ]+", address)[0]
        image = sorted((tmp_path / "data" / "inspection_target" / "images").iterdir())[0]
        answer = httpx.post(f"{url}/predict", files={"images": image.read_bytes()}, timeout=60).json()
        assert answer["images"][0]["width"] > 0
        assert "<html" in httpx.get(url, timeout=20).text.lower()
        log, until = tmp_path / "logs" / "server.jsonl", time.monotonic() + 20
        while not (log.is_file() and log.read_text().count("\n")):
            assert time.monotonic() < until
            time.sleep(0.05)
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
        assert process.stdout is not None
        process.stdout.close()
    record = json.loads(log.read_text().splitlines()[0])
    first = json.loads((tmp_path / "logs" / "camera.jsonl").read_text().splitlines()[0])
    assert record.keys() == first.keys() - {"file"}, "what comes over HTTP has no path"
    assert record["bundle"] == first["bundle"]
    again = [*program, "monitor", "bundle", "logs/server.jsonl", "--output", "drift2"]
    assert subprocess.run(again, cwd=tmp_path, capture_output=True, check=False).returncode == 3, (
        "one record measures nothing"
    )
