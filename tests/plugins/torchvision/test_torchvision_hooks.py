"""Every hook on torchvision's detectors, through `tlvision.train` on real files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import tlvision

HOOKS: dict[str, list[Any]] = {
    "freeze": [{"freeze": {"through": "backbone.stage2"}}],
    "gradual_unfreeze": [{"gradual_unfreeze": {"every": 1}}],
    "layerwise_lr": [{"layerwise_lr": {"decay": 0.8}}],
    "l2_sp": ["l2_sp"],
    "ema": ["ema"],
}
QUIET = {"log": {"progress": "none", "tensorboard": "off"}}


@pytest.mark.slow
@pytest.mark.parametrize("arch", ["fasterrcnn_mobilenet_v3_small_fpn", "ssdlite320_mobilenet_v3_large"])
@pytest.mark.parametrize("name", HOOKS)
def test_hooks_run(tiny_config: Any, name: str, arch: str) -> None:
    run(tiny_config, arch, [*HOOKS[name], QUIET])


def test_two_hooks_and_a_reload(tiny_config: Any, tiny_dataset: Path) -> None:
    folder = run(tiny_config, "fcos_mobilenet_v3_small_fpn", [{"freeze": {"roles": ["stem"]}}, "ema", QUIET])
    rows = json.loads((folder / "ledger.json").read_text(encoding="utf-8"))
    assert "stem" in json.dumps(rows)
    model = tlvision.load(folder)
    found = model.predict(tiny_dataset / "images" / "001.png")
    assert found.boxes.shape == (len(found), 4)


def run(config: Any, arch: str, hooks: list[Any]) -> Path:
    config["model"] = {"plugin": "torchvision", "arch": arch, "weights": "none"}
    config["data"]["batch"] = {"labelled": 6}
    config["train"]["epochs"] = 2
    config["hooks"] = hooks
    return Path(tlvision.train(config).run)
