"""The config of a method on the tiny dataset."""

from __future__ import annotations

import shutil
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from adaptation import EMA, LABELS, QUIET, TEACHER
from tlvision.config.load import dump_config, load_config


@pytest.fixture
def origin(tiny_config: dict[str, Any], tmp_path: Path) -> Path:
    """The place of an experiment's file; its base, `base.yaml`, lies beside it."""
    (tmp_path / "base.yaml").write_text(dump_config(load_config(tiny_config)), encoding="utf-8")
    return tmp_path / "experiment.yaml"


@pytest.fixture
def values(tiny_config: dict[str, Any], tiny_dataset: Path, tmp_path: Path) -> dict[str, Any]:
    """A method on the tiny dataset, whose target is the same images; the labels of the target are a copy."""
    target = tmp_path / "target"
    shutil.copytree(tiny_dataset, target)
    config = deepcopy(tiny_config)
    labelled = config["data"]["val"]
    config["data"] |= {
        "source_val": labelled,
        "val": {"json": str(target / "val.json"), "images": str(target / "images")},
        "target": {"images": str(target / "images")},
        "oracle": {"json": str(target / "train.json"), "images": str(target / "images")},
        "batch": {"labelled": 4, "unlabelled": 4},
        "augment": {"mosaic": 0},
    }
    config["train"] |= {"epochs": 2, "lr": 3e-3}
    config["hooks"] = [EMA, {"freeze": {"groups": ["stem"]}}, LABELS, TEACHER, QUIET]
    return config
