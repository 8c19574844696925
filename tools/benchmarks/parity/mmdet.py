"""Train a job with mmengine's Runner, as mmdet trains, and predict the val images with its last model.

    python tools/bench.py parity --side upstream --plugin mmdet --data DIR --weights W.pth \\
        --arch faster-rcnn_mobilenet-v2_fpn --epochs 6 --image-size 320 --batch 4 --seed 0 --out DIR

The operators are the same as ours; see `tlvision_openmmlab.mmcv_ops`.

Upstream's recipe is that of mmdet's schedule_1x for whatever number of epochs: SGD with momentum 0.9, a rate of 0.02
for 16 images and weight decay 1e-4, a linear warm-up over 500 steps (a third of the run if that is less), a tenth of
the rate from 8/12 of the epochs on and again from 11/12; images resized with their aspect ratio, flipped, and padded
in the corner. The backbone is frozen and its norms are held as set in the config.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.parity.openmmlab import run_training, write_start
from benchmarks.parity.runner import Clock, Job, Outcome

from tlvision.formats.coco.read import CocoData, read_coco
from tlvision.plugin import BuildSpec

SETTINGS = frozenset({"precision"})
WORKERS = 4

_Part = dict[str, Any]


def train(job: Job, clock: Clock) -> Outcome:
    """Train with mmengine's Runner, evaluating after every epoch, and predict the val images with the last weights.

    weights: brought to mmdet's keys by our own loading, so that both sides start from the same tensors.
    precision: "bf16" is mixed precision with mmengine's AmpOptimWrapper.
    """
    files = job.files
    data = read_coco(files.train_labels, files.train_images)
    read_coco(files.val_labels, files.val_images, data.classes)

    from mmengine.runner import set_random_seed

    from tlvision_openmmlab.mmdet.plugin import plugin
    from tlvision_openmmlab.mmdet.upstream import version

    set_random_seed(job.seed)
    spec = BuildSpec(arch=job.arch, weights=job.weights, classes=data.classes, image_size=job.image_size)
    config = runner_config(job, data, write_start(plugin, spec, job.out / "start.pth"))
    if job.precision == "bf16":
        config.optim_wrapper |= {"type": "AmpOptimWrapper", "dtype": "bfloat16"}
    run_training(config, clock)
    predictions = job.out / "val.bbox.json"  # of the evaluation after the last epoch
    return Outcome(predictions=predictions, images=job.epochs * len(data.samples), upstream=version)


def runner_config(job: Job, data: CocoData, start: Path) -> Any:
    """Return the whole config of upstream's runner: the model's own, with mmdet's default schedule and pipelines."""
    from tlvision_openmmlab.common.engine import Config
    from tlvision_openmmlab.mmdet.zoo import find_config

    model = Config.fromfile(find_config(job.arch).path).model
    _set_classes(model, len(data.classes))
    model.backbone.init_cfg = None  # its tensors are in `start`
    return Config(
        {
            "default_scope": "mmdet",
            "model": model,
            "load_from": str(start),
            "work_dir": str(job.out),
            "randomness": {"seed": job.seed},
            **_data(job, data),
            **_schedule(job, len(data.samples)),
            "default_hooks": {"checkpoint": {"type": "CheckpointHook", "interval": job.epochs, "max_keep_ckpts": 1}},
            "log_level": "WARNING",
        }
    )


def _data(job: Job, data: CocoData) -> _Part:
    """Return the part of the config that loads images and evaluates."""
    load: list[_Part] = [{"type": "LoadImageFromFile"}, {"type": "LoadAnnotations", "with_bbox": True}]
    resize = {"type": "Resize", "scale": (job.image_size, job.image_size), "keep_ratio": True}
    flip = {"type": "RandomFlip", "prob": 0.5}
    kept = ("img_id", "img_path", "ori_shape", "img_shape", "scale_factor")
    pack = {"type": "PackDetInputs", "meta_keys": kept}
    files, classes = job.files, data.classes.names
    training = _dataset(data.path, files.train_images, classes, [*load, resize, flip, {"type": "PackDetInputs"}])
    validation = _dataset(files.val_labels, files.val_images, classes, [load[0], resize, load[1], pack])
    return {
        "train_dataloader": _loader(training | {"test_mode": False}, job.batch, shuffle=True),
        "val_dataloader": _loader(validation | {"test_mode": True}, job.batch, shuffle=False),
        "val_evaluator": {
            "type": "CocoMetric",
            "ann_file": str(files.val_labels.resolve()),
            "metric": "bbox",
            "outfile_prefix": str(job.out / "val"),
            "format_only": False,
        },
    }


def _dataset(labels: Path, images: Path, classes: tuple[str, ...], pipeline: list[_Part]) -> _Part:
    return {
        "type": "CocoDataset",
        "ann_file": str(labels.resolve()),
        "data_prefix": {"img": f"{images.resolve()}/"},
        "metainfo": {"classes": classes},
        "pipeline": pipeline,
    }


def _loader(dataset: _Part, batch: int, *, shuffle: bool) -> _Part:
    import torch

    # Without a GPU loading processes would take the model's cores.
    parallel: _Part = {"num_workers": WORKERS, "persistent_workers": True}
    workers = parallel if torch.cuda.is_available() else {"num_workers": 0}
    sampler = {"type": "DefaultSampler", "shuffle": shuffle}
    return {"batch_size": batch, **workers, "sampler": sampler, "dataset": dataset}


def _schedule(job: Job, images: int) -> _Part:
    """Return the part of the config that has the epochs, the optimizer and its learning rates."""
    epochs, steps = job.epochs, -(-images // job.batch) * job.epochs
    milestones = sorted({max(1, round(epochs * 8 / 12)), max(1, round(epochs * 11 / 12))})
    return {
        "train_cfg": {"type": "EpochBasedTrainLoop", "max_epochs": epochs, "val_interval": 1},
        "val_cfg": {"type": "ValLoop"},
        "optim_wrapper": {
            "type": "OptimWrapper",
            "optimizer": {"type": "SGD", "lr": 0.02 * job.batch / 16, "momentum": 0.9, "weight_decay": 1e-4},
        },
        "param_scheduler": [
            {"type": "LinearLR", "start_factor": 0.001, "by_epoch": False, "begin": 0, "end": min(500, steps // 3)},
            {
                "type": "MultiStepLR",
                "begin": 0,
                "end": epochs,
                "by_epoch": True,
                "milestones": milestones,
                "gamma": 0.1,
            },
        ],
    }


def _set_classes(part: Any, count: int) -> None:
    if isinstance(part, dict):
        if "num_classes" in part:
            part["num_classes"] = count
        for below in part.values():
            _set_classes(below, count)
    elif isinstance(part, list | tuple):
        for below in part:
            _set_classes(below, count)
