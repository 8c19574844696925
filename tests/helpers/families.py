"""One small model of each make, for tests that go over all model families."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from tlvision.plugin import Adapter, BuildSpec, get_plugin
from tlvision.training.checkpoint import MODEL, save_weights
from tlvision.types import ClassMap

TINY = Path(__file__).parents[1] / "plugins" / "openmmlab" / "configs"
TRANSFORMERS = Path(__file__).parents[1] / "plugins" / "transformers" / "configs"
FAMILIES = {
    "mmdet two-stage": ("mmdet", str(TINY / "faster-rcnn_tiny.py")),
    "mmdet one-stage": ("mmdet", "yolox_nano_8xb8-300e_coco"),
    "mmdet transformer": ("mmdet", str(TINY / "deformable-detr_tiny.py")),
    "mmseg": ("mmseg", "deeplabv3plus_mobilenet-v2-d16"),
    "smp": ("smp", "unet/resnet18"),
    "torchvision one-stage": ("torchvision", "ssdlite320_mobilenet_v3_large"),
    "torchvision two-stage": ("torchvision", "fasterrcnn_mobilenet_v2_fpn_light"),
    "toy": ("toy", "tiny_detector"),
    "toy semantic": ("toy", "tiny_segmenter"),
    "toy instance": ("toy", "toy-instance"),
    "transformers detector": ("transformers", str(TRANSFORMERS / "rt_detr_v2.json")),
    "transformers tokens": ("transformers", str(TRANSFORMERS / "yolos.json")),
    "transformers semantic": ("transformers", str(TRANSFORMERS / "segformer.json")),
    "transformers masks": ("transformers", str(TRANSFORMERS / "mask2former.json")),
    "transformers instance": ("transformers", str(TRANSFORMERS / "mask2former.json") + "#instance"),
    "yolo": ("yolo", "yolov8n"),
    "yolo instance": ("yolo", "yolov8n-seg"),
}
"""Name -> plugin and architecture."""


def task_of(family: str) -> str:
    plugin, arch = FAMILIES[family]
    return get_plugin(plugin).task_of(arch)


def classes_of(family: str) -> ClassMap:
    """The classes of `tiny_dataset`; label maps drawn from its boxes have a background as well."""
    names = ("dark", "light", "background") if task_of(family) == "semantic" else ("dark", "light")
    return ClassMap(names, (3, 90, 91)[: len(names)])


def build_family(family: str) -> Adapter:
    """Build the model on the CPU without weights, the same at every call."""
    plugin, arch = FAMILIES[family]
    torch.manual_seed(0)
    spec = BuildSpec(arch=arch, weights="none", classes=classes_of(family), image_size=96)
    return get_plugin(plugin).build(spec)[0]


def write_weights(family: str, folder: Path) -> str:
    """Write the weights of `build_family` to a file, for a run that starts from pretrained ones; return its path."""
    path = folder / MODEL
    folder.mkdir(parents=True, exist_ok=True)
    save_weights(path, build_family(family).module.state_dict(), classes_of(family))
    return str(path)


def outline(data: dict[str, Any], folder: Path) -> None:
    """Give every object of both sides of a config its box as a polygon, which segmenters need."""
    for side in ("train", "val"):
        content = json.loads(Path(data[side]["json"]).read_text(encoding="utf-8"))
        for row in content["annotations"]:
            x, y, width, height = row["bbox"]
            row["segmentation"] = [[x, y, x + width, y, x + width, y + height, x, y + height]]
        data[side]["json"] = str(folder / f"{side}.json")
        Path(data[side]["json"]).write_text(json.dumps(content), encoding="utf-8")
