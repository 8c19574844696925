"""A whole run of the core with hooks, for both tasks; every hook alone is in `test_hooks_on_every_plugin`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import tlvision
from tiny import QUIET


@pytest.mark.slow
def test_a_one_stage_detector_with_hooks_and_a_reload(tiny_config: Any, tiny_dataset: Path) -> None:
    tiny_config["train"]["epochs"] = 1
    folder = run(tiny_config, "fcos_mobilenet_v3_small_fpn", [{"freeze": {"roles": ["stem"]}}, "ema"])
    assert "stem" in (folder / "ledger.json").read_text(encoding="utf-8")
    found = tlvision.load(folder).predict(tiny_dataset / "images" / "001.png", min_score=0)
    assert found.boxes.shape == (len(found), 4)


@pytest.mark.slow
def test_mask_rcnn_is_scored_on_its_masks(tiny_config: Any, tiny_dataset: Path, tmp_path: Path) -> None:
    for split in ("train", "val"):
        content = json.loads((tiny_dataset / f"{split}.json").read_text(encoding="utf-8"))
        for row in content["annotations"]:
            x, y, w, h = row["bbox"]
            row["segmentation"] = [[x, y, x + w, y, x + w, y + h, x, y + h]]
        path = tmp_path / f"{split}.json"
        path.write_text(json.dumps(content), encoding="utf-8")
        tiny_config["data"][split]["json"] = str(path)
    folder = run(tiny_config, "maskrcnn_mobilenet_v3_small_fpn", [{"freeze": {"roles": ["stem"]}}])
    assert {"bbox", "segm"} <= set(json.loads((folder / "metrics.json").read_text(encoding="utf-8")))
    rows = json.loads((folder / "predictions.json").read_text(encoding="utf-8"))
    assert rows
    assert all(row["segmentation"]["size"] == [64, 96] for row in rows)
    found = tlvision.load(folder).predict(tiny_dataset / "images" / "001.png", min_score=0)
    assert found.masks.shape == (len(found), 64, 96)


def run(config: Any, arch: str, hooks: list[Any]) -> Path:
    config["model"] = {"plugin": "torchvision", "arch": arch, "weights": "none"}
    config["data"]["batch"] = {"labelled": 6}
    config["hooks"] = [*hooks, QUIET]
    return Path(tlvision.train(config).run)
