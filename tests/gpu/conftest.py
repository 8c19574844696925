"""What the tests of a GPU share. Each runs on both devices, so that it is known to work before a GPU is there.

On the GPU: `tools/bench.py gpu` and docs/gpu.md say how. On the CPU they belong to the slow suite.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import pytest
import torch

from families import FAMILIES, build_family, outline, task_of, write_weights
from tiny import QUIET
from tlvision.hooks.registry import hook_class
from tlvision.plugin import Adapter
from tlvision.types import IGNORE_INDEX, Target

DENSE = {"class_mix", "entropy", "masked_consistency"}
"""Objectives for models that score every pixel."""


@pytest.fixture(params=[pytest.param("cpu", marks=pytest.mark.slow), pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request: pytest.FixtureRequest) -> Iterator[str]:
    """ "cpu" or "cuda", with exact float32 arithmetic: TensorFloat-32 has three digits, and tests here compare."""
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    yield request.param
    torch.backends.cudnn.allow_tf32 = before


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    """The name of a model family."""
    return str(request.param)


def build_still(family: str) -> Adapter:
    """Build the model on the CPU, the same at every call, with no random draw left in its forward pass."""
    adapter = build_family(family)
    for module in adapter.module.modules():
        if isinstance(module, torch.nn.modules.dropout._DropoutNd):
            module.p = 0.0
        if hasattr(module, "drop_prob"):
            module.drop_prob = 0.0
    return adapter


@pytest.fixture
def build() -> Callable[[str], Adapter]:
    """The function `build_still`."""
    return build_still


@pytest.fixture
def learning_batch() -> Callable[[str, str], tuple[torch.Tensor, list[Target]]]:
    """Four images with two objects each, (4, 3, 96, 96) float32 in 0..1, and their targets, on a device."""

    def make(family: str, device: str) -> tuple[torch.Tensor, list[Target]]:
        generator = torch.Generator().manual_seed(1)
        images = torch.rand(4, 3, 96, 96, generator=generator)
        boxes = torch.tensor([[8.0, 10, 40, 52], [44, 30, 90, 88]])
        masks = torch.zeros(2, 96, 96, dtype=torch.uint8)
        labelled = torch.full((96, 96), IGNORE_INDEX)
        for row, (x0, y0, x1, y1) in enumerate(boxes.int().tolist()):
            masks[row, y0:y1, x0:x1] = 1
            labelled[y0:y1, x0:x1] = row
        labelled[60:, :30] = 2
        target = Target(
            boxes=boxes.to(device),
            labels=torch.tensor([0, 1], device=device),
            crowd=torch.zeros(2, dtype=torch.bool, device=device),
            masks=masks.to(device),
            semantic=labelled.to(device) if task_of(family) == "semantic" else None,
        )
        return images.to(device), [target] * 4

    return make


@pytest.fixture
def gpu_config(tiny_config: dict[str, Any], tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Return the config of a short run of a family on a device: 5 epochs of 4 steps, all proofs on."""

    def make(family: str, device: str, name: str = "run", **train: Any) -> dict[str, Any]:
        config = json.loads(json.dumps(tiny_config))
        plugin, arch = FAMILIES[family]
        config["model"] |= {"plugin": plugin, "arch": arch}
        config["data"]["batch"]["labelled"] = 3
        if task_of(family) != "detect":
            outline(config["data"], tmp_path)
        config["train"] = {"epochs": 5, "lr": 1e-3, "device": device, "precision": "fp32", "verify": "every_step"}
        config["train"] |= train
        config["evaluate"] = {"every": 5}
        config["hooks"] = [QUIET]
        config["run"]["out"] = str(tmp_path / name)
        return config

    return make


@pytest.fixture
def logged() -> Callable[[Path], list[dict[str, Any]]]:
    """Read the rows of a run's log that hold losses."""

    def read(run: Path) -> list[dict[str, Any]]:
        rows = [json.loads(line) for line in (run / "log.jsonl").read_text(encoding="utf-8").splitlines()]
        found = [row for row in rows if "loss" in row]
        assert found
        return found

    return read


@pytest.fixture
def target_images(tiny_dataset: Path, tmp_path: Path) -> Path:
    """A folder of twelve unlabelled images: negatives of the labelled ones."""
    folder = tmp_path / "target"
    folder.mkdir()
    for path in sorted((tiny_dataset / "images").iterdir())[:12]:
        cv2.imwrite(str(folder / path.name), 255 - cv2.imread(str(path)))
    return folder


@pytest.fixture
def objective_config(
    gpu_config: Callable[..., dict[str, Any]], tmp_path: Path, target_images: Path, small_run: Path
) -> Any:
    """Return the config of a short run of the toy model with one objective of domain adaptation and a teacher."""

    def make(objective: str, device: str, name: str = "run", **train: Any) -> dict[str, Any]:
        family = "toy semantic" if objective in DENSE else "toy"
        config = gpu_config(family, device, name, **train)
        config["model"]["weights"] = write_weights(family, tmp_path / "pretrained")
        config["data"]["target"] = {"images": str(target_images)}
        config["data"]["batch"]["unlabelled"] = 3 if hook_class(objective).uses_unlabelled else 0
        labels = [{"pseudo_labels": {}}] if hook_class(objective).uses_pseudo_labels else []
        options = {"run": str(small_run), "least": 0} if objective == "distill" else {}
        config["hooks"] = [{objective: options}, *labels, {"ema": {"decay": 0.9}}, *config["hooks"]]
        return dict(config)

    return make
