"""One block of hooks, unchanged, on six model families: this is what the contract is for."""

from __future__ import annotations

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import tlvision

BLOCK: list[dict[str, dict[str, Any]]] = [
    {"ema": {"decay": 0.9, "warmup": 0}},
    {"freeze": {"through": "stem"}},
    {"fourier_style": {}},
    {"colour_statistics": {}},
    {"domain_adversarial": {}},
    {"mmd": {}},
    {"coral": {}},
    {"pseudo_labels": {"threshold": 0.0005, "burn_in": 0.0, "ramp": 0.0}},
    {"mean_teacher": {"distillation": "both"}},
    {"masked_consistency": {}},
    {"adabn": {}},
]
FAMILIES = {
    "yolo": ("yolov8n", "ultralytics"),
    "mmdet": ("faster-rcnn_mobilenet-v2_fpn", "mmdet"),
    "torchvision": ("fasterrcnn_mobilenet_v2_fpn_light", "torchvision"),
    "smp": ("unet/mobilenet_v2", "segmentation_models_pytorch"),
    "mmseg": ("deeplabv3plus_mobilenet-v2-d16", "mmseg"),
    "transformers": (str(Path(__file__).parent / "transformers" / "configs" / "rt_detr_v2.json"), "transformers"),
}
SEGMENTERS = ("smp", "mmseg")


@pytest.fixture(scope="module")
def label_maps(tiny_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny dataset as label maps: where a box is, its class; elsewhere background."""
    folder = tmp_path_factory.mktemp("label_maps")
    for split in ("train", "val"):
        content = json.loads((tiny_dataset / f"{split}.json").read_text(encoding="utf-8"))
        order = {row["id"]: number for number, row in enumerate(content["categories"])}
        for kind in ("images", "masks"):
            (folder / kind / split).mkdir(parents=True)
        for image in content["images"]:
            labels = np.full((image["height"], image["width"]), 2, np.uint8)
            for row in content["annotations"]:
                if row["image_id"] == image["id"]:
                    x, y, w, h = (round(value) for value in row["bbox"])
                    labels[y : y + h, x : x + w] = order[row["category_id"]]
            stem = Path(image["file_name"]).stem
            Image.fromarray(labels).save(folder / "masks" / split / f"{stem}.png")
            Image.open(tiny_dataset / "images" / image["file_name"]).save(folder / "images" / split / f"{stem}.png")
    return folder


def config_of(family: str, detection: dict[str, Any], label_maps: Path, out: Path) -> dict[str, Any]:
    config = deepcopy(detection)
    config["model"] = {"plugin": family, "arch": FAMILIES[family][0], "weights": "none"}
    if family in SEGMENTERS:
        for split in ("train", "val"):
            config["data"][split] = {kind: str(label_maps / kind / split) for kind in ("images", "masks")}
        config["data"]["classes"] = ["dark", "light", "background"]
    target = Path(config["data"]["train"]["images"])
    config["data"] |= {
        "source_val": config["data"]["val"],
        "target": {"images": str(target)},
        "image_size": 128,
        "batch": {"labelled": 3, "unlabelled": 3},
        "augment": {"mosaic": 0},
    }
    config["train"] |= {"epochs": 1, "lr": 1e-5, "verify": "first_steps"}
    config["hooks"] = [*BLOCK, {"log": {"progress": "none", "tensorboard": "off", "every": 1}}]
    config["run"] = {"out": str(out)}
    return config


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_the_block_trains_every_family(
    family: str, tiny_config: dict[str, Any], label_maps: Path, tmp_path: Path
) -> None:
    pytest.importorskip(FAMILIES[family][1])
    config = config_of(family, tiny_config, label_maps, tmp_path / "run")
    run = tlvision.train(config).run
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    losses = [line["losses"] for line in lines if line["kind"] == "step"]
    assert len(losses) == 4
    for hook in ("domain_adversarial", "mmd", "coral", "mean_teacher", "masked_consistency"):
        assert all(any(name.startswith(f"{hook}/") for name in step) for step in losses), hook
    assert all(np.isfinite(value) for step in losses for value in step.values())
    assert losses[-1]["mean_teacher/soft"] > 0
    assert sum(step["mean_teacher/hard"] for step in losses) > 0, "the teacher was never sure of anything"
    metrics = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["selection"]["uses_target_labels"] is False
    counted = {"objects"} if family in {"yolo", "mmdet", "torchvision", "transformers"} else set()
    assert set(metrics["unlabelled"]) == {"stability", "certainty", "agreement"} | counted
    instance = [name for name in losses[0] if name.startswith("domain_adversarial/") and "instance" in name]
    assert bool(instance) is (family in {"mmdet", "torchvision"}), sorted(losses[0])
