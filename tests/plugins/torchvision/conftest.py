"""Build torchvision adapters for the tests of this folder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from tlvision.plugin import BuildSpec
from tlvision.types import ClassMap, Target
from tlvision_torchvision.plugin import plugin

Build = Callable[..., Any]


@pytest.fixture
def build() -> Build:
    """Return `build(arch, names, weights)`, which gives the adapter and the weight report."""

    def build(arch: str = "fasterrcnn_mobilenet_v3_small_fpn", names: Sequence[str] = ("a", "b", "c"),
              weights: object = "none") -> Any:  # fmt: skip
        torch.manual_seed(0)
        return plugin.build(BuildSpec(arch=arch, weights=str(weights), classes=ClassMap.from_names(tuple(names))))

    return build


@pytest.fixture
def make_target() -> Callable[..., Target]:
    """Return `make_target([[x0, y0, x1, y1, label], …], size)`; with a size (H, W), each box has a full mask."""

    def make(rows: Sequence[Sequence[float]] = (), size: tuple[int, int] | None = None) -> Target:
        table = torch.tensor(rows, dtype=torch.float32).reshape(-1, 5)
        masks = None
        if size is not None:
            masks = torch.zeros((len(table), *size), dtype=torch.uint8)
            for mask, (x0, y0, x1, y1) in zip(masks, table[:, :4].int().tolist(), strict=True):
                mask[y0:y1, x0:x1] = 1
        return Target(
            boxes=table[:, :4], labels=table[:, 4].long(), crowd=torch.zeros(len(table), dtype=torch.bool), masks=masks
        )

    return make


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder in which torch's hub looks for files before it downloads them, empty."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    folder = tmp_path / "torch" / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    return folder
