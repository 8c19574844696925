"""Import the benchmarks, and describe jobs of upstream's trainers."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tlvision.types import IGNORE_INDEX


@pytest.fixture
def parity(tools: Callable[[str], Any]) -> Callable[[str], Any]:
    """Return `parity(name)`, which imports a module of `benchmarks.parity`."""
    return lambda name: tools(f"benchmarks.parity.{name}")


@pytest.fixture
def job(parity: Callable[[str], Any], tmp_path: Path) -> Callable[..., Any]:
    """Return `job(plugin, files, …)`, a `Job` of one epoch with random weights and seed 0, unless given otherwise."""

    def make(plugin: str, files: Any, **given: Any) -> Any:
        defaults = {"weights": "none", "arch": "any", "epochs": 1, "image_size": 64, "batch": 4, "seed": 0}
        return parity("runner").Job(plugin=plugin, files=files, **{**defaults, "out": tmp_path / "out", **given})

    return make


@pytest.fixture
def upstream_side(repository: Path) -> Callable[..., str]:
    """Return `upstream_side(plugin, …)`, which runs `bench.py parity --side upstream` and returns the last line."""

    def run(plugin: str, *options: object) -> str:
        command = [sys.executable, repository / "tools" / "bench.py", "parity", "--side", "upstream"]
        done = subprocess.run(
            [*map(str, command), "--plugin", plugin, *map(str, options)], check=True, stdout=subprocess.PIPE, text=True
        )
        return done.stdout.splitlines()[-1]

    return run


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """Eight images of 60 x 40, dark left of a bright right half, and label maps that say so; the first row unknown."""
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
    for number in range(8):
        pixels = np.full((40, 60, 3), 20, np.uint8)
        edge = 20 + 3 * number
        pixels[:, edge:] = (200, 100, 50)
        labels = np.zeros((40, 60), np.uint8)
        labels[:, edge:] = 1
        labels[0] = IGNORE_INDEX
        Image.fromarray(pixels).save(tmp_path / "images" / f"{number}.png")
        Image.fromarray(labels).save(tmp_path / "masks" / f"{number}.png")
    (tmp_path / "classes.txt").write_text("dark\nbright\n", encoding="utf-8")
    return tmp_path


@pytest.fixture
def adamw_rates(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The learning rate of the first group in each step of torch's AdamW, as the test goes on."""
    import torch

    rates: list[float] = []
    step = torch.optim.AdamW.step

    def watched(self: Any, closure: Any = None) -> Any:
        rates.append(self.param_groups[0]["lr"])
        return step(self, closure)

    monkeypatch.setattr(torch.optim.AdamW, "step", watched)
    return rates
