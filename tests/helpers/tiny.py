"""The config of a run of seconds on the fixture `tiny_dataset`; tests change what they are about."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

TOY = {"plugin": "toy", "arch": "tiny_detector", "weights": "none"}
QUIET = {"log": {"progress": "none", "tensorboard": "off"}}


def config_of(dataset: Path, out: Path, epochs: int = 2, hooks: tuple[Any, ...] = ("ema", QUIET)) -> dict[str, Any]:
    """Return a config whose nested values are its own, so that a test may change them."""
    images = str(dataset / "images")
    return {
        "model": dict(TOY),
        "data": {
            "train": {"json": str(dataset / "train.json"), "images": images},
            "val": {"json": str(dataset / "val.json"), "images": images},
            "image_size": 96,
            "batch": {"labelled": 4},
        },
        "train": {"epochs": epochs, "lr": 1e-3, "device": "cpu"},
        "hooks": deepcopy(list(hooks)),
        "run": {"out": str(out), "report": False},
    }
