"""The tables of the GPU benchmark: every part that was measured is in them, and every one that was not."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

STEP = {"batch": 16, "step_ms": 20.0, "images_per_second": 800.0, "waiting_share": 0.1, "peak_memory_mib": 512.0}
REPORT = {
    "device": "A GPU", "cores": 16, "python": "3.12", "torch": "2.11", "date": "2026-11-28", "small": False,
    "rows": [
        {"part": "steps", "model": "yolov8n", "precision": "bf16", "side": "ours", **STEP, "bare_share": 0.75},
        {"part": "steps", "model": "yolov8n", "precision": "bf16", "side": "upstream", **STEP, "step_ms": 40.0},
        {"part": "steps", "model": "yolov8m", "precision": "fp32", "side": "ours", "error": "out | of memory"},
        {"part": "epochs", "side": "ours", "ap": 0.64, "ap50": 0.93, "train_seconds": 30.0, "wall_seconds": 35.0,
         "epochs": 15, "image_size": 640},
        {"part": "loading", "workers": 4, "ours": 900.0, "ultralytics": 800.0},
        {"part": "profile", "precision": "bf16", "step_ms": 22.0, "idle_share": 0.3,
         "operators": [{"name": "aten::conv2d", "ms": 4.5, "calls": 99}]},
    ],
}  # fmt: skip


@pytest.mark.parametrize("small", [False, True])
def test_every_part_is_in_the_page(repository: Path, tmp_path: Path, small: bool) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "gpu.json").write_text(json.dumps(REPORT | {"small": small}), encoding="utf-8")
    command = [sys.executable, str(repository / "tools" / "bench.py"), "tables", str(tmp_path / "gpu.json")]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    page = tmp_path / "docs" / "benchmarks-gpu.md"
    if small:
        assert "rehearsal" in done.stderr
        assert not page.exists()
        return
    assert done.returncode == 0, done.stderr
    text = page.read_text(encoding="utf-8")
    for part in (
        "2026-11-28, A GPU, 16 CPU cores",
        "| yolov8n, batch 16 | bf16 | ours | 800 | 20.0 | 0.50 | 75 % | 10 % | 512 |",
        "| yolov8n, batch 16 | bf16 | upstream | 800 | 40.0 |  |  | 10 % | 512 |",
        "| ours | 0.6400 | 0.9300 | 30 | 35 |",
        "| 4 | 900 | 800 |",
        "| `aten::conv2d` | 4.50 | 99 |",
        "idle for 30 %",
        "| steps yolov8m fp32 ours | out / of memory |",
    ):
        assert part in text, part
