"""The parity number: mmengine's Runner, as mmseg trains, on label maps, and what its last model predicts on val.

    python -m tlvision_openmmlab.mmseg.parity --train-images D --train-masks D --val-images D --val-masks D \\
        --classes classes.txt --weights W.pth --arch deeplabv3plus_mobilenet-v2-d16 --epochs 20 --image-size 480 \\
        --crop 256 --batch 8 --seed 0 --out DIR

prints what `train_upstream` returns as JSON on its last line. It is meant to run in a process of its own, so that wall
time and peak memory are upstream's. The operators are the same as ours; see `tlvision_openmmlab.mmcv_ops`.

Upstream's recipe is that of mmseg's schedules for whatever number of epochs: SGD with momentum 0.9, a rate of 0.01 for
8 images and weight decay 5e-4, polynomial decay with power 0.9 down to 1e-4, and no warm-up; images scaled by 0.5 to 2,
cropped with at most 75 % of one class, flipped, and distorted in colour. An epoch is as many whole batches as come
nearest to all images.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

from tlvision.types import IGNORE_INDEX, ClassMap, InputError

_Step = dict[str, Any]


def train_upstream(
    train_images: Path,
    train_masks: Path,
    val_images: Path,
    val_masks: Path,
    *,
    classes: Path,
    weights: str,
    arch: str,
    epochs: int,
    image_size: int,
    crop: int,
    batch: int,
    seed: int,
    out: Path,
) -> dict[str, Any]:
    """Train with mmengine's Runner, evaluating after every epoch, and predict the val images with the last weights.

    train_images, …: folders of images and of PNG label maps with the same stems; a value is a line of `classes`,
             counted from 0, or 255 for what is ignored.
    weights: as in a tlvision config. They are brought to mmseg's keys by our own loading, so that both sides start from
             the same tensors. image_size: long side of the images. crop: side of the training crops.
    out:     a folder for the run.

    Returns "predictions" (folder of a label map `<stem>.png` for each val image, in its original size),
    "train_seconds", "total_seconds", "peak_memory_bytes" (of the GPU, or resident, when training has ended),
    "images_per_second", "epochs", "device", "upstream" (its version).

    Raises InputError where the images, the config or the weights cannot be used.
    """
    started = time.perf_counter()
    out = out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    names = tuple(line for line in classes.read_text(encoding="utf-8").splitlines() if line.strip())
    train, val = _dataset(train_images, train_masks, names), _dataset(val_images, val_masks, names)

    import torch
    from mmengine.runner import Runner, set_random_seed

    from tlvision.plugin import BuildSpec
    from tlvision_openmmlab.common.parity import memory_peak, write_start
    from tlvision_openmmlab.mmseg.plugin import plugin
    from tlvision_openmmlab.mmseg.upstream import version

    set_random_seed(seed)
    spec = BuildSpec(arch=arch, weights=weights, classes=ClassMap.from_names(names), image_size=crop)
    start = write_start(plugin, spec, out / "start.pth")
    per_epoch = max(1, round(len(_images(train_images)) / batch))
    config = _runner_config(spec, train, val, per_epoch * epochs, per_epoch, image_size, batch, seed, out)
    config.load_from = str(start)
    runner = Runner.from_cfg(config)
    before = time.perf_counter()
    runner.train()
    train_seconds = time.perf_counter() - before
    return {
        "predictions": str(out / "predictions"),
        "train_seconds": train_seconds,
        "peak_memory_bytes": memory_peak(),
        "total_seconds": time.perf_counter() - started,
        "images_per_second": epochs * per_epoch * batch / train_seconds,
        "epochs": epochs,
        "device": "cuda:0" if torch.cuda.is_available() else "cpu",
        "upstream": version,
    }


def _images(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in (".jpg", ".jpeg", ".png"))


def _dataset(images: Path, masks: Path, names: tuple[str, ...]) -> _Step:
    """Return upstream's dataset, without its pipeline."""
    files = _images(images)
    suffixes = sorted({path.suffix for path in files})
    if len(suffixes) != 1:
        raise InputError(
            f"mmseg reads images of one kind: expected one ending in '{images}', got {', '.join(suffixes) or 'none'}"
        )
    absent = [path.stem for path in files if not (masks / f"{path.stem}.png").is_file()]
    if absent:
        raise InputError(f"'{masks}' lacks the label map of {len(absent)} images, first '{absent[0]}.png'")
    return {
        "type": "BaseSegDataset",
        "data_prefix": {"img_path": str(images.resolve()), "seg_map_path": str(masks.resolve())},
        "img_suffix": suffixes[0],
        "seg_map_suffix": ".png",
        "metainfo": {"classes": names, "palette": [[0, 0, 0]] * len(names)},
    }


def _runner_config(  # noqa: PLR0917
    spec: Any,
    train: _Step,
    val: _Step,
    steps: int,
    per_epoch: int,
    image_size: int,
    batch: int,
    seed: int,
    out: Path,
) -> Any:
    """Return the whole config of upstream's runner: the model's own, with mmseg's default schedule and pipelines."""
    from tlvision_openmmlab.mmseg.config import adapted, edge_width, read_config
    from tlvision_openmmlab.mmseg.upstream import Config
    from tlvision_openmmlab.mmseg.zoo import find_config

    model_config = read_config(find_config(spec.arch))
    crop = (spec.image_size, spec.image_size)
    model = adapted(model_config, len(spec.classes), spec.image_size)
    model["data_preprocessor"] = {**model_config.model["data_preprocessor"], "size": crop}
    model["test_cfg"] = {**(model.get("test_cfg") or {}), "mode": "whole"}
    load: list[_Step] = [{"type": "LoadImageFromFile"}, {"type": "LoadAnnotations"}]
    scale = (image_size, image_size)
    training = [
        *load,
        {"type": "RandomResize", "scale": scale, "ratio_range": (0.5, 2.0), "keep_ratio": True},
        {"type": "RandomCrop", "crop_size": crop, "cat_max_ratio": 0.75, "ignore_index": IGNORE_INDEX},
        {"type": "RandomFlip", "prob": 0.5},
        {"type": "PhotoMetricDistortion"},
    ]
    if width := edge_width(model_config):
        training.append({"type": "GenerateEdge", "edge_width": width})
    testing = [load[0], {"type": "Resize", "scale": scale, "keep_ratio": True}, load[1]]

    def loader(data: _Step, pipeline: list[_Step], sampler: _Step, size: int) -> _Step:
        dataset = data | {"pipeline": [*pipeline, {"type": "PackSegInputs"}]}
        return {"batch_size": size, "num_workers": 0, "sampler": sampler, "dataset": dataset}

    return Config(
        {
            "default_scope": "mmseg",
            "model": model,
            "work_dir": str(out),
            "randomness": {"seed": seed},
            "train_dataloader": loader(train, training, {"type": "InfiniteSampler", "shuffle": True}, batch),
            "val_dataloader": loader(val, testing, {"type": "DefaultSampler", "shuffle": False}, 1),
            "val_evaluator": {"type": "IoUMetric", "iou_metrics": ["mIoU"], "output_dir": str(out / "predictions")},
            "train_cfg": {"type": "IterBasedTrainLoop", "max_iters": steps, "val_interval": per_epoch},
            "val_cfg": {"type": "ValLoop"},
            "optim_wrapper": {
                "type": "OptimWrapper",
                "optimizer": {"type": "SGD", "lr": 0.01 * batch / 8, "momentum": 0.9, "weight_decay": 5e-4},
            },
            "param_scheduler": [
                {"type": "PolyLR", "eta_min": 1e-4, "power": 0.9, "begin": 0, "end": steps, "by_epoch": False}
            ],
            "default_hooks": {
                "checkpoint": {"type": "CheckpointHook", "by_epoch": False, "interval": steps, "max_keep_ckpts": 1},
                "logger": {"type": "LoggerHook", "interval": 50, "log_metric_by_epoch": False},
            },
            "log_processor": {"by_epoch": False},
            "log_level": "WARNING",
        }
    )


def main() -> None:
    """Run `train_upstream` from the command line."""
    parser = argparse.ArgumentParser(description="Train with mmseg's own runner, for comparison.")
    for name in ("--train-images", "--train-masks", "--val-images", "--val-masks", "--classes", "--out"):
        parser.add_argument(name, type=Path, required=True)
    parser.add_argument("--weights", required=True, help="pretrained, imagenet, none or a path")
    parser.add_argument("--arch", required=True, help="a config of mmseg's zoo, or the path of one")
    for name, default in (("--epochs", 20), ("--image-size", 480), ("--crop", 256), ("--batch", 8), ("--seed", 0)):
        parser.add_argument(name, type=int, default=default)
    print(json.dumps(train_upstream(**vars(parser.parse_args()))))


if __name__ == "__main__":
    main()
