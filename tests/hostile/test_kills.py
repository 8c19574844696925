"""Kills at random moments, over three model families: every run ends with the bits of an undisturbed one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tiny import TOY, config_of

KILLS = int(os.environ.get("TLVISION_KILLS", "3"))
"""Kills of each family; TLVISION_KILLS=10 makes thirty, which take 13 minutes on a busy machine."""
HOOKS: tuple[Any, ...] = (
    {"checkpoint": {"every_steps": 2}},
    {"ema": {"decay": 0.9, "warmup": 4}},
    {"freeze": {"roles": ["stem"]}},
    {"log": {"progress": "none", "tensorboard": "off", "every": 1}},
)
SSD = {"plugin": "torchvision", "arch": "ssdlite320_mobilenet_v3_large", "weights": "none"}


def detector(model: dict[str, Any], size: int, dataset: Path, out: Path) -> dict[str, Any]:
    config = config_of(dataset, out, epochs=4, hooks=HOOKS)
    config["model"] = model
    config["data"] |= {"image_size": size, "workers": 0}
    return config


def segmenter(folder: Path, out: Path) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    for split, count in (("train", 8), ("val", 3)):
        for name in ("images", "masks"):
            (folder / split / name).mkdir(parents=True)
        for number in range(count):
            labels = np.zeros((50, 70), np.uint8)
            labels[:, int(rng.integers(20, 50)) :] = 1
            image = np.where(labels[..., None] == 1, 200, 60) + rng.integers(-20, 20, (50, 70, 3))
            Image.fromarray(image.astype(np.uint8)).save(folder / split / "images" / f"{number}.png")
            Image.fromarray(labels).save(folder / split / "masks" / f"{number}.png")
    return {
        "model": {"plugin": "smp", "arch": "unet/mobilenet_v2", "weights": "none"},
        "data": {
            "classes": ["dark", "light"],
            **{split: {name: str(folder / split / name) for name in ("images", "masks")} for split in ("train", "val")},
            "image_size": 64,
            "batch": {"labelled": 4},
            "workers": 0,
        },
        "train": {"epochs": 4, "lr": 1e-3, "device": "cpu"},
        "hooks": list(HOOKS),
        "run": {"out": str(out)},
    }


@pytest.mark.slow
@pytest.mark.parametrize(("family", "seed"), [("toy", 1), ("torchvision", 2), ("smp", 3)])
def test_kills_at_random_moments(tiny_dataset: Path, tmp_path: Path, family: str, seed: int) -> None:
    out = tmp_path / "runs"
    config = {
        "toy": lambda: detector(TOY, 96, tiny_dataset, out),
        "torchvision": lambda: detector(SSD, 320, tiny_dataset, out),
        "smp": lambda: segmenter(tmp_path / "stripes", out),
    }[family]()
    path = tmp_path / "config.json"
    path.write_text(json.dumps(config))
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("kills.py")), str(path), str(seed), str(KILLS)],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["kills"] >= KILLS
    print(family, result)
