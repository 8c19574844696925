"""Every setup and observer hook runs on every installed plugin, although none of them knows any."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from families import FAMILIES, build_family, outline, task_of, write_weights
from tiny import QUIET
from tlvision.engine.train import train
from tlvision.plugin import plugin_names

LAST = "the last group before the head"
HOOKS: dict[str, list[Any]] = {
    "freeze": [{"freeze": {"roles": ["stem"]}}],
    "gradual_unfreeze": [{"gradual_unfreeze": {"every": 1, "down_to": LAST}}],
    "layerwise_lr": [{"layerwise_lr": {"decay": 0.8}}],
    "l2_sp": [{"l2_sp": {}}],
    "ema": [{"ema": {"decay": 0.9}}],
    "all of them": [
        {"freeze": {"roles": ["stem"]}},
        {"gradual_unfreeze": {"every": 1, "down_to": LAST}},
        {"layerwise_lr": {"decay": 0.8}},
        "l2_sp",
        {"ema": {"decay": 0.9}},
    ],
}


def test_no_plugin_is_forgotten() -> None:
    ours = {"mmdet", "mmseg", "smp", "torchvision", "toy", "transformers", "yolo"}
    assert {plugin for plugin, _ in FAMILIES.values()} == ours
    assert ours <= set(plugin_names())


def marks_of(family: str, hook: str) -> list[Any]:
    """Leave to the night what is neither on the toy nor all hooks in one block."""
    return [pytest.mark.slow, *([] if family == "toy" or hook == "all of them" else [pytest.mark.nightly])]


@pytest.mark.parametrize(
    ("family", "hook"),
    [
        pytest.param(family, hook, id=f"{family}-{hook}", marks=marks_of(family, hook))
        for family in FAMILIES
        for hook in HOOKS
    ],
)
def test_it_runs(family: str, hook: str, tiny_config: dict[str, Any], tmp_path: Path) -> None:
    plugin, arch = FAMILIES[family]
    tiny_config["model"] = {"plugin": plugin, "arch": arch, "weights": write_weights(family, tmp_path / "weights")}
    tiny_config["data"]["batch"]["labelled"] = 6
    semantic = task_of(family) == "semantic"
    if task_of(family) != "detect":
        outline(tiny_config["data"], tmp_path)
    tiny_config["train"] = {"epochs": 2, "lr": 1e-3, "device": "cpu", "verify": "every_step"}
    last = [group.name for group in build_family(family).groups if group.role != "head"][-1]
    hooks = json.loads(json.dumps(HOOKS[hook]).replace(LAST, last))
    tiny_config["hooks"] = [*hooks, QUIET]
    result = train(tiny_config)
    kind, metric = ("semantic", "mean_class_iou") if semantic else ("bbox", "AP")
    assert result.metrics[kind][metric] is not None
    rows = json.loads((result.run / "ledger.json").read_text(encoding="utf-8"))
    assert (hook in {"l2_sp", "ema"}) or any(name in json.dumps(rows) for name in ("freeze", "layerwise_lr", "gradual"))
