"""The parity number: mmengine's Runner, as mmdet trains, on a COCO dataset, and what its last model predicts on val.

    python -m tlvision_openmmlab.mmdet.parity --train-json T --train-images D --val-json V --val-images D \\
        --weights W.pth --arch faster-rcnn_mobilenet-v2_fpn --epochs 6 --image-size 320 --batch 4 --seed 0 --out DIR

prints what `train_upstream` returns as JSON on its last line. It is meant to run in a process of its own, so that wall
time and peak memory are upstream's. The operators are the same as ours; see `tlvision_openmmlab.mmcv_ops`.

Upstream's recipe is that of mmdet's schedule_1x for whatever number of epochs: SGD with momentum 0.9, a rate of 0.02
for 16 images and weight decay 1e-4, a linear warm-up over 500 steps (a third of the run if that is less), a tenth of
the rate from 8/12 of the epochs on and again from 11/12; images resized with their aspect ratio, flipped, and padded
in the corner. The backbone is frozen and its norms are held as the config says.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

from tlvision.formats.coco.read import CocoData, read_coco

WORKERS = 4


def train_upstream(
    train_json: Path,
    train_images: Path,
    val_json: Path,
    val_images: Path,
    *,
    weights: str,
    arch: str,
    epochs: int,
    image_size: int,
    batch: int,
    seed: int,
    out: Path,
    precision: str = "fp32",
) -> dict[str, Any]:
    """Train with mmengine's Runner, evaluating after every epoch, and predict the val images with the last weights.

    weights: as in a tlvision config. They are brought to mmdet's keys by our own loading, so that both sides start from
             the same tensors. out: a folder for the run.
    precision: "fp32", or "bf16" for mixed precision with mmengine's AmpOptimWrapper.

    Returns "predictions" (path of a COCO results file for `val_json`), "train_seconds", "total_seconds",
    "peak_memory_bytes" (of the GPU, or resident, when training has ended), "images_per_second", "epochs", "device",
    "upstream" (its version).

    Raises InputError where the json, the images, the config or the weights cannot be used.
    """
    started = time.perf_counter()
    out = out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    train = read_coco(train_json, train_images)
    read_coco(val_json, val_images, train.classes)

    import torch
    from mmengine.runner import Runner, set_random_seed

    from tlvision.plugin import BuildSpec
    from tlvision_openmmlab.common.parity import memory_peak, write_start
    from tlvision_openmmlab.mmdet.plugin import plugin
    from tlvision_openmmlab.mmdet.upstream import version
    from tlvision_openmmlab.mmdet.zoo import find_config

    set_random_seed(seed)
    spec = BuildSpec(arch=arch, weights=weights, classes=train.classes, image_size=image_size)
    start = write_start(plugin, spec, out / "start.pth")
    config = _runner_config(
        find_config(arch).path, start, train, train_images, val_json, val_images, epochs, image_size, batch, seed, out
    )
    if precision == "bf16":
        config.optim_wrapper |= {"type": "AmpOptimWrapper", "dtype": "bfloat16"}
    runner = Runner.from_cfg(config)
    before = time.perf_counter()
    runner.train()
    train_seconds = time.perf_counter() - before
    peak = memory_peak()
    predictions = out / "val.bbox.json"  # of the evaluation after the last epoch
    return {
        "predictions": str(predictions),
        "train_seconds": train_seconds,
        "peak_memory_bytes": peak,
        "total_seconds": time.perf_counter() - started,
        "images_per_second": epochs * len(train.samples) / train_seconds,
        "epochs": epochs,
        "device": "cuda:0" if torch.cuda.is_available() else "cpu",
        "upstream": version,
    }


def _runner_config(  # noqa: PLR0917
    path: Path,
    start: Path,
    train: CocoData,
    train_images: Path,
    val_json: Path,
    val_images: Path,
    epochs: int,
    image_size: int,
    batch: int,
    seed: int,
    out: Path,
) -> Any:
    """Return the whole config of upstream's runner: the model's own, with mmdet's default schedule and pipelines."""
    import torch

    from tlvision_openmmlab.mmdet.upstream import Config

    cuda = torch.cuda.is_available()
    model = Config.fromfile(path).model
    _set_classes(model, len(train.classes))
    model.backbone.init_cfg = None  # its tensors are in `start`
    load: list[dict[str, Any]] = [{"type": "LoadImageFromFile"}, {"type": "LoadAnnotations", "with_bbox": True}]
    resize = {"type": "Resize", "scale": (image_size, image_size), "keep_ratio": True}
    flip = {"type": "RandomFlip", "prob": 0.5}
    kept = ("img_id", "img_path", "ori_shape", "img_shape", "scale_factor")
    classes = {"classes": train.classes.names}

    def dataset(json_path: Path, images: Path, pipeline: list[dict[str, Any]], *, test: bool) -> dict[str, Any]:
        return {
            "type": "CocoDataset",
            "ann_file": str(json_path.resolve()),
            "data_prefix": {"img": f"{images.resolve()}/"},
            "metainfo": classes,
            "test_mode": test,
            "pipeline": pipeline,
        }

    def loader(data: dict[str, Any], *, shuffle: bool) -> dict[str, Any]:
        sampler = {"type": "DefaultSampler", "shuffle": shuffle}
        # Without a GPU loading processes would take the model's cores.
        workers = {"num_workers": WORKERS, "persistent_workers": True} if cuda else {"num_workers": 0}
        return {"batch_size": batch, **workers, "sampler": sampler, "dataset": data}

    training = dataset(train.path, train_images, [*load, resize, flip, {"type": "PackDetInputs"}], test=False)
    pack = {"type": "PackDetInputs", "meta_keys": kept}
    validation = dataset(val_json, val_images, [load[0], resize, load[1], pack], test=True)
    steps = -(-len(train.samples) // batch) * epochs
    evaluator = {
        "type": "CocoMetric",
        "ann_file": str(val_json.resolve()),
        "metric": "bbox",
        "outfile_prefix": str(out / "val"),
        "format_only": False,
    }
    return Config(
        {
            "default_scope": "mmdet",
            "model": model,
            "load_from": str(start),
            "work_dir": str(out),
            "randomness": {"seed": seed},
            "train_dataloader": loader(training, shuffle=True),
            "val_dataloader": loader(validation, shuffle=False),
            "val_evaluator": evaluator,
            "train_cfg": {"type": "EpochBasedTrainLoop", "max_epochs": epochs, "val_interval": 1},
            "val_cfg": {"type": "ValLoop"},
            "optim_wrapper": {
                "type": "OptimWrapper",
                "optimizer": {"type": "SGD", "lr": 0.02 * batch / 16, "momentum": 0.9, "weight_decay": 1e-4},
            },
            "param_scheduler": [
                {"type": "LinearLR", "start_factor": 0.001, "by_epoch": False, "begin": 0, "end": min(500, steps // 3)},
                {
                    "type": "MultiStepLR",
                    "begin": 0,
                    "end": epochs,
                    "by_epoch": True,
                    "milestones": sorted({max(1, round(epochs * 8 / 12)), max(1, round(epochs * 11 / 12))}),
                    "gamma": 0.1,
                },
            ],
            "default_hooks": {"checkpoint": {"type": "CheckpointHook", "interval": epochs, "max_keep_ckpts": 1}},
            "log_level": "WARNING",
        }
    )


def _set_classes(part: Any, count: int) -> None:
    if isinstance(part, dict):
        if "num_classes" in part:
            part["num_classes"] = count
        for below in part.values():
            _set_classes(below, count)
    elif isinstance(part, list | tuple):
        for below in part:
            _set_classes(below, count)


def main() -> None:
    """Run `train_upstream` from the command line."""
    parser = argparse.ArgumentParser(description="Train with mmdet's own runner, for comparison.")
    for name in ("--train-json", "--train-images", "--val-json", "--val-images", "--out"):
        parser.add_argument(name, type=Path, required=True)
    parser.add_argument("--weights", required=True, help="coco, imagenet, none or a path")
    parser.add_argument("--arch", required=True, help="a config of mmdet's zoo, or the path of one")
    for name, default in (("--epochs", 6), ("--image-size", 320), ("--batch", 4), ("--seed", 0)):
        parser.add_argument(name, type=int, default=default)
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
    print(json.dumps(train_upstream(**vars(parser.parse_args()))))


if __name__ == "__main__":
    main()
