"""Train a job with mmengine's Runner, as mmseg trains, and predict label maps of val with its last model.

    python tools/bench.py parity --side upstream --plugin mmseg --data DIR --weights W.pth \\
        --arch deeplabv3plus_mobilenet-v2-d16 --epochs 20 --image-size 480 --crop 256 --batch 8 --seed 0 --out DIR

The operators are the same as ours; see `tlvision_openmmlab.mmcv_ops`.

Upstream's recipe is that of mmseg's schedules for whatever number of epochs: SGD with momentum 0.9, a rate of 0.01 for
8 images and weight decay 5e-4, polynomial decay with power 0.9 down to 1e-4, and no warm-up; images scaled by 0.5 to 2,
cropped with at most 75 % of one class, flipped, and distorted in colour. An epoch is as many whole batches as come
nearest to all images.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.parity.openmmlab import run_training, write_start
from benchmarks.parity.runner import Clock, Job, Outcome

from tlvision.plugin import BuildSpec
from tlvision.types import IGNORE_INDEX, ClassMap, InputError

SETTINGS = frozenset({"crop"})
CROP = 256

_Part = dict[str, Any]


def train(job: Job, clock: Clock) -> Outcome:
    """Train with mmengine's Runner, evaluating after every epoch, and predict the val images with the last weights.

    weights: brought to mmseg's keys by our own loading, so that both sides start from the same tensors.
    image_size: long side of the images. crop: side of the training crops.
    """
    files, names = job.files, job.files.class_names()
    train_data = _dataset(files.train_images, files.train_labels, names)
    val_data = _dataset(files.val_images, files.val_labels, names)

    from mmengine.runner import set_random_seed

    from tlvision_openmmlab.mmseg.plugin import plugin
    from tlvision_openmmlab.mmseg.upstream import version

    set_random_seed(job.seed)
    classes = ClassMap.from_names(names)
    spec = BuildSpec(arch=job.arch, weights=job.weights, classes=classes, image_size=job.crop or CROP)
    start = write_start(plugin, spec, job.out / "start.pth")
    per_epoch = max(1, round(len(_images(files.train_images)) / job.batch))
    config = runner_config(job, spec, train_data, val_data, per_epoch)
    config.load_from = str(start)
    run_training(config, clock)
    return Outcome(predictions=job.out / "predictions", images=job.epochs * per_epoch * job.batch, upstream=version)


def _images(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in (".jpg", ".jpeg", ".png"))


def _dataset(images: Path, masks: Path, names: tuple[str, ...]) -> _Part:
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


def runner_config(job: Job, spec: BuildSpec, train_data: _Part, val_data: _Part, per_epoch: int) -> Any:
    """Return the whole config of upstream's runner: the model's own, with mmseg's default schedule and pipelines."""
    from tlvision_openmmlab.common.engine import Config
    from tlvision_openmmlab.mmseg.config import adapted, edge_width, read_config
    from tlvision_openmmlab.mmseg.zoo import find_config

    model_config = read_config(find_config(spec.arch))
    crop = (spec.image_size, spec.image_size)
    model = adapted(model_config, len(spec.classes), spec.image_size)
    model["data_preprocessor"] = {**model_config.model["data_preprocessor"], "size": crop}
    model["test_cfg"] = {**(model.get("test_cfg") or {}), "mode": "whole"}
    training, testing = _pipelines(job.image_size, crop, edge_width(model_config))
    endless, in_order = {"type": "InfiniteSampler", "shuffle": True}, {"type": "DefaultSampler", "shuffle": False}
    maps = str(job.out / "predictions")
    return Config(
        {
            "default_scope": "mmseg",
            "model": model,
            "work_dir": str(job.out),
            "randomness": {"seed": job.seed},
            "train_dataloader": _loader(train_data | {"pipeline": training}, endless, job.batch),
            "val_dataloader": _loader(val_data | {"pipeline": testing}, in_order, 1),
            "val_evaluator": {"type": "IoUMetric", "iou_metrics": ["mIoU"], "output_dir": maps},
            **_schedule(per_epoch * job.epochs, per_epoch, job.batch),
            "log_processor": {"by_epoch": False},
            "log_level": "WARNING",
        }
    )


def _pipelines(image_size: int, crop: tuple[int, int], edge: int | None) -> tuple[list[_Part], list[_Part]]:
    """Return the transforms of a training image and of a val image. edge: width of class borders."""
    load: list[_Part] = [{"type": "LoadImageFromFile"}, {"type": "LoadAnnotations"}]
    scale, pack = (image_size, image_size), {"type": "PackSegInputs"}
    training = [
        *load,
        {"type": "RandomResize", "scale": scale, "ratio_range": (0.5, 2.0), "keep_ratio": True},
        {"type": "RandomCrop", "crop_size": crop, "cat_max_ratio": 0.75, "ignore_index": IGNORE_INDEX},
        {"type": "RandomFlip", "prob": 0.5},
        {"type": "PhotoMetricDistortion"},
        *([{"type": "GenerateEdge", "edge_width": edge}] if edge else []),
    ]
    return [*training, pack], [load[0], {"type": "Resize", "scale": scale, "keep_ratio": True}, load[1], pack]


def _loader(dataset: _Part, sampler: _Part, batch: int) -> _Part:
    return {"batch_size": batch, "num_workers": 0, "sampler": sampler, "dataset": dataset}


def _schedule(steps: int, per_epoch: int, batch: int) -> _Part:
    """Return the part of the config that has the steps, the optimizer, its learning rates and the checkpoints."""
    return {
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
    }
