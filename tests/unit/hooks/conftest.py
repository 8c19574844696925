"""A model of five layer groups with every kind of norm, and its plan; short runs with unlabelled images."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import nn

import tlvision
from interrupt import interrupted
from tlvision.formats.label_maps import write_label_map
from tlvision.hooks import Duration, Plan, initial_plan
from tlvision.plugin import LayerGroup, map_groups

GROUPS = (
    LayerGroup("stem", "stem", ("stem",)),
    LayerGroup("backbone.stage1", "backbone", ("stage1",)),
    LayerGroup("backbone.stage2", "backbone", ("stage2",)),
    LayerGroup("neck", "neck", ("neck",)),
    LayerGroup("head", "head", ("head",)),
)


class NormedModel(nn.Module):
    """Linear layers, each followed by another kind of norm; the head has none."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))
        self.stage1 = nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4), nn.Dropout(0.5))
        self.stage2 = nn.Sequential(nn.Linear(4, 4), nn.GroupNorm(2, 4))
        self.neck = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))
        self.head = nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for stage in (self.stem, self.stage1, self.stage2, self.neck, self.head):
            x = stage(x)
        return x


@pytest.fixture
def model() -> NormedModel:
    torch.manual_seed(0)
    return NormedModel()


@pytest.fixture
def plan_of() -> Callable[..., Plan]:
    """Return the plan of a model over `epochs` epochs of ten steps."""

    def make(module: nn.Module, epochs: int = 10) -> Plan:
        return initial_plan(module, map_groups(module, GROUPS), Duration(epochs=epochs, steps_per_epoch=10))

    return make


@pytest.fixture
def adapt_config(tiny_config: dict[str, Any], tiny_dataset: Path) -> dict[str, Any]:
    """`tiny_config` with unlabelled images in each batch, without a hook that uses them."""
    tiny_config["data"] |= {
        "target": {"images": str(tiny_dataset / "images")},
        "batch": {"labelled": 4, "unlabelled": 4},
        "workers": 0,
    }
    tiny_config["hooks"] = [{"log": {"progress": "none", "tensorboard": "off", "every": 1}}]
    return tiny_config


@pytest.fixture
def segment_config(adapt_config: dict[str, Any], tmp_path: Path) -> dict[str, Any]:
    """A run of a segmenter on eight images of two stripes, with the same images as unlabelled ones."""
    rng = np.random.default_rng(0)
    for name in ("stripes", "masks"):
        (tmp_path / name).mkdir()
    for number in range(8):
        labels = (np.arange(64) > rng.integers(20, 44)).astype(np.uint8)[None].repeat(64, axis=0)
        image = np.where(labels[..., None], 200, 60) + rng.integers(-20, 20, (64, 64, 3))
        Image.fromarray(image.astype(np.uint8)).save(tmp_path / "stripes" / f"{number}.png")
        write_label_map(tmp_path / "masks" / f"{number}.png", labels)
    (tmp_path / "classes.txt").write_text("dark\nlight\n", encoding="utf-8")
    both = {"images": str(tmp_path / "stripes"), "masks": str(tmp_path / "masks")}
    adapt_config["model"]["arch"] = "tiny_segmenter"
    adapt_config["data"] |= {
        "classes": str(tmp_path / "classes.txt"),
        "train": both,
        "val": both,
        "target": {"images": both["images"]},
        "image_size": 64,
        "augment": {"mosaic": 0},
    }
    return adapt_config


@pytest.fixture
def losses_of() -> Callable[[Path, str], list[dict[str, float]]]:
    """Return the losses of a run whose names begin with a hook's key, a dict for each logged step."""

    def read(run: Path, key: str) -> list[dict[str, float]]:
        lines = [json.loads(line) for line in (run / "log.jsonl").read_text(encoding="utf-8").splitlines()]
        steps = [line["losses"] for line in lines if line["kind"] == "step"]
        return [{name: value for name, value in step.items() if name.startswith(f"{key}/")} for step in steps]

    return read


@pytest.fixture
def assert_resumes(tmp_path: Path) -> Callable[[dict[str, Any], int], None]:
    """Train straight, and again with Ctrl-C after a step and a resume; both must end with the same bits."""

    def check(config: dict[str, Any], step: int) -> None:
        ends = []
        for name in ("straight", "interrupted"):
            run = tmp_path / name
            options = {**config, "run": {"out": str(run)}}
            if name == "interrupted":
                with interrupted(step):
                    tlvision.train(options)
                tlvision.train({}, resume=run)
            else:
                tlvision.train(options)
            files = sorted((run / "checkpoints" / "last").glob("*.safetensors"))
            ends.append({f"{file.stem}|{key}": value for file in files for key, value in load_file(str(file)).items()})
        straight, resumed = ends
        assert straight.keys() == resumed.keys()
        assert not [name for name in straight if not torch.equal(straight[name], resumed[name])]

    return check
