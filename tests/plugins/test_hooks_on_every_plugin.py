"""Every setup and observer hook runs on every installed plugin, although none of them knows any."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from tlvision.config.run import train
from tlvision.plugin import BuildSpec, get_plugin, plugin_names
from tlvision.training.checkpoint import MODEL, save_weights
from tlvision.types import ClassMap

TINY = Path(__file__).parent / "openmmlab" / "configs"
# One small detector of each make; a plugin that is installed and not here fails the first test.
MODELS = {
    "mmdet two-stage": ("mmdet", str(TINY / "faster-rcnn_tiny.py")),
    "mmdet one-stage": ("mmdet", "yolox_nano_8xb8-300e_coco"),
    "mmdet transformer": ("mmdet", str(TINY / "deformable-detr_tiny.py")),
    "mmseg": ("mmseg", "deeplabv3plus_mobilenet-v2-d16"),
    "smp": ("smp", "unet/resnet18"),
    "torchvision one-stage": ("torchvision", "ssdlite320_mobilenet_v3_large"),
    "torchvision two-stage": ("torchvision", "fasterrcnn_mobilenet_v2_fpn_light"),
    "toy": ("toy", "tiny_detector"),
    "toy semantic": ("toy", "tiny_segmenter"),
    "yolo": ("yolo", "yolov8n"),
}
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
    ours = {"mmdet", "mmseg", "smp", "torchvision", "toy", "yolo"}
    assert {plugin for plugin, _ in MODELS.values()} == ours
    assert ours <= set(plugin_names())


def with_outlines(data: dict[str, Any], folder: Path) -> None:
    """Give every object its box as a polygon, which a segmenter needs."""
    for side in ("train", "val"):
        content = json.loads(Path(data[side]["json"]).read_text(encoding="utf-8"))
        for row in content["annotations"]:
            x, y, width, height = row["bbox"]
            row["segmentation"] = [[x, y, x + width, y, x + width, y + height, x, y + height]]
        data[side]["json"] = str(folder / f"{side}.json")
        Path(data[side]["json"]).write_text(json.dumps(content), encoding="utf-8")


@pytest.mark.slow
@pytest.mark.parametrize("hook", HOOKS)
@pytest.mark.parametrize("model", MODELS)
def test_it_runs(model: str, hook: str, tiny_config: dict[str, Any], tmp_path: Path) -> None:
    plugin, arch = MODELS[model]
    semantic = get_plugin(plugin).task_of(arch) == "semantic"
    classes = ClassMap(("dark", "light", "background") if semantic else ("dark", "light"), (3, 90, 91)[: 2 + semantic])
    torch.manual_seed(0)
    adapter, _ = get_plugin(plugin).build(BuildSpec(arch=arch, weights="none", classes=classes, image_size=96))
    start = {name: tensor.clone() for name, tensor in adapter.module.state_dict().items()}
    save_weights(tmp_path / MODEL, start, classes)
    tiny_config["model"] = {"plugin": plugin, "arch": arch, "weights": str(tmp_path / MODEL)}
    tiny_config["data"]["batch"]["labelled"] = 6
    if semantic:
        with_outlines(tiny_config["data"], tmp_path)
    tiny_config["train"] = {"epochs": 2, "lr": 1e-3, "device": "cpu", "verify": "every_step"}
    last = [group.name for group in adapter.layer_groups() if group.role != "head"][-1]
    hooks = json.loads(json.dumps(HOOKS[hook]).replace(LAST, last))
    tiny_config["hooks"] = [*hooks, {"log": {"progress": "none", "tensorboard": "off"}}]
    result = train(tiny_config)
    kind, metric = ("semantic", "mean_class_iou") if semantic else ("bbox", "AP")
    assert result.metrics[kind][metric] is not None
    rows = json.loads((result.run / "ledger.json").read_text(encoding="utf-8"))
    assert (hook in {"l2_sp", "ema"}) or any(name in json.dumps(rows) for name in ("freeze", "layerwise_lr", "gradual"))
