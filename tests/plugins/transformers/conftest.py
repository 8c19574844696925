"""Build tiny models of transformers for the tests of this folder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from tlvision.plugin import BuildSpec
from tlvision.types import ClassMap, Target
from tlvision_transformers.plugin import plugin

CONFIGS = Path(__file__).parent / "configs"


@pytest.fixture
def config_of() -> Callable[[str], str]:
    """Return `path(kind)`: the path of a tiny config, with "#instance" behind it where `kind` has that."""
    return lambda kind: str(CONFIGS / f"{kind.partition('#')[0]}.json") + ("#instance" if "#" in kind else "")


@pytest.fixture
def build(config_of: Callable[[str], str]) -> Callable[..., Any]:
    """Return `build(kind, names, weights)`, which gives the adapter and the weight report."""

    def build(kind: str, names: Sequence[str] = ("a", "b", "c"), weights: object = "none") -> Any:
        torch.manual_seed(0)
        arch = kind if Path(kind).exists() else config_of(kind)
        spec = BuildSpec(arch=arch, weights=str(weights), classes=ClassMap.from_names(tuple(names)), image_size=96)
        return plugin.build(spec)

    return build


@pytest.fixture
def objects() -> Callable[[int], list[Target]]:
    """Return `make(side)`: targets of two images of that side, with three and without objects."""

    def make(side: int = 96) -> list[Target]:
        boxes = torch.tensor([[8.0, 10.0, 60.0, 50.0], [40.0, 30.0, 90.0, 94.0], [5.0, 60.0, 40.0, 90.0]]) * side / 96
        masks = torch.zeros((3, side, side), dtype=torch.uint8)
        for mask, (x0, y0, x1, y1) in zip(masks, boxes.int().tolist(), strict=True):
            mask[y0:y1, x0:x1] = 1
        full = Target(boxes=boxes, labels=torch.tensor([0, 2, 1]), crowd=torch.zeros(3, dtype=torch.bool), masks=masks)
        none = Target(boxes=boxes[:0], labels=full.labels[:0], crowd=torch.zeros(0, dtype=torch.bool), masks=masks[:0])
        return [full, none]

    return make


@pytest.fixture
def images() -> torch.Tensor:
    """Two images of noise, (2, 3, 96, 96)."""
    return torch.rand(2, 3, 96, 96, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def upstream_model() -> Callable[[str], Any]:
    """Return `build(path)`: upstream's model with its weights from a folder, in eval mode."""

    def build(folder: str | Path, model_type: str) -> Any:
        from tlvision_transformers.upstream import auto_model, quiet

        with quiet():
            return auto_model(model_type).from_pretrained(folder, local_files_only=True).eval()

    return build
