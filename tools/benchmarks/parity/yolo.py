"""Train a job with ultralytics' own trainer, and predict the val images with its best model.

    python tools/bench.py parity --side upstream --plugin yolo --data DIR --weights W.pt --arch yolov8n --epochs 15 \\
        --image-size 320 --batch 16 --seed 0 --out DIR

ultralytics is imported here plainly, with whatever it sets. It loads a `.pt` by running its pickle; give it files you
trust.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from benchmarks.parity.runner import Clock, Job, Outcome, device_name

from tlvision.formats.coco.read import CocoData, read_coco
from tlvision.types import Sample
from tlvision_yolo.architectures import find_architecture

SETTINGS = frozenset({"freeze", "last", "lr", "precision"})


def train(job: Job, clock: Clock) -> Outcome:
    """Train with upstream's trainer and its defaults, then predict the val images with its validator's settings.

    weights: path of an ultralytics `.pt`, "coco" or "none".
    arch:    architecture name of the plugin; it is built if `weights` is no path.
    lr:      train with AdamW at this rate, all else upstream's default: momentum 0.937, biases warming up from a rate
             of 0.1 down. None leaves optimizer and rate to upstream, whose choice has 0.9 and biases from 0 up.
    last:    do not evaluate while training, and predict with the last weights instead of the best (both averaged).
    precision: None is upstream's choice, on a GPU mixed with fp16.
    out:     receives the converted dataset (copies, because upstream repairs broken images in place) and the run.
    """
    train_data = read_coco(job.files.train_labels, job.files.train_images)
    val_data = read_coco(job.files.val_labels, job.files.val_images, train_data.classes)
    data_yaml = write_dataset(train_data, val_data, job.out / "data")

    from ultralytics import __version__
    from ultralytics.models import YOLO

    _do_without_polars()
    _do_without_trackers()
    model = YOLO(start_of(job.weights, job.arch))
    common = _common(job, data_yaml)
    with clock.training():
        model.train(**common, **_training(job))
    trained = YOLO(job.out / "train" / "weights" / ("last.pt" if job.last else "best.pt"))
    trained.val(**common, name="val", save_json=True)
    found = job.out / "val" / "predictions.json"
    return Outcome(
        predictions=write_results(found, val_data.category_ids, job.out / "predictions.json"),
        images=job.epochs * len(train_data.samples),
        upstream=__version__,
        skipped=(*train_data.skipped, *val_data.skipped),
    )


def _common(job: Job, data_yaml: Path) -> dict[str, Any]:
    """Return the arguments of upstream's `train` and `val`."""
    return {
        "data": str(data_yaml),
        "imgsz": job.image_size,
        "batch": job.batch,
        "device": device_name(),
        "project": str(job.out),
        "exist_ok": True,
        "plots": False,
    }


def _training(job: Job) -> dict[str, Any]:
    """Return the arguments that only upstream's `train` has."""
    return {
        "epochs": job.epochs,
        "seed": job.seed,
        "name": "train",
        "val": not job.last,
        "freeze": job.freeze,
        **({} if job.precision is None else {"amp": {"fp32": False, "bf16": "bf16"}[job.precision]}),
        **({} if job.lr is None else {"optimizer": "AdamW", "lr0": job.lr}),
    }


def _do_without_polars() -> None:
    """Leave a table of upstream's metrics out of its checkpoints if polars, which it needs for this, is missing."""
    if find_spec("polars") is None:
        from ultralytics.engine.trainer import BaseTrainer

        BaseTrainer.read_results_csv = lambda trainer: {}  # type: ignore[method-assign]


def _do_without_trackers() -> None:
    """Keep trackers that are installed from writing into the current folder; the user's settings file stays."""
    from ultralytics.utils import SETTINGS

    for name in {"mlflow", "wandb"} & SETTINGS.keys():
        dict.__setitem__(SETTINGS, name, False)  # its own writes the file


def start_of(weights: str, arch: str) -> str:
    """Return what upstream's `YOLO` starts from: a description for "none", its own file for "coco", or the path."""
    found = find_architecture(arch)
    return {"none": found.weights.removesuffix(".pt") + ".yaml", "coco": found.weights}.get(weights, weights)


def write_dataset(train: CocoData, val: CocoData, folder: Path) -> Path:
    """Write the dataset as ultralytics reads it and return the path of its yaml.

    Each image is copied to `images/<split>/<image id><suffix>`, and `labels/<split>/<image id>.txt` has a line per
    object: class, centre x, centre y, width, height, in parts of the image. Crowd regions are left out, as our own
    training does.
    """
    for split, data in (("train", train), ("val", val)):
        images, labels = folder / "images" / split, folder / "labels" / split
        for part in (images, labels):
            part.mkdir(parents=True, exist_ok=True)
        for sample in data.samples:
            shutil.copyfile(sample.path, images / f"{sample.image_id}{sample.path.suffix.lower()}")
            (labels / f"{sample.image_id}.txt").write_text(label_lines(sample), encoding="ascii")
    description = {
        "path": str(folder),
        "train": "images/train",
        "val": "images/val",
        "names": dict(enumerate(train.classes.names)),
    }
    path = folder / "data.yaml"
    path.write_text(yaml.safe_dump(description, allow_unicode=True), encoding="utf-8")
    return path


def label_lines(sample: Sample) -> str:
    """Return the lines of ultralytics' label file for one image; empty if it has no objects."""
    kept = ~sample.target.crowd
    boxes = sample.target.boxes[kept].astype(np.float64)
    size = np.array([sample.width, sample.height])
    centres, extents = (boxes[:, :2] + boxes[:, 2:]) / 2 / size, (boxes[:, 2:] - boxes[:, :2]) / size
    return "".join(
        f"{label} {' '.join(f'{value:.8f}' for value in (*centre, *extent))}\n"
        for label, centre, extent in zip(sample.target.labels[kept], centres, extents, strict=True)
    )


def write_results(source: Path, category_ids: Mapping[int, int], target: Path) -> Path:
    """Turn upstream's predictions (categories counted from 1, image id from the file's name) into those of the json."""
    # Upstream writes no file if it found nothing at all.
    rows = json.loads(source.read_text(encoding="utf-8")) if source.is_file() else []
    kept = [
        {
            "image_id": row["image_id"],
            "category_id": category_ids[row["category_id"] - 1],
            "bbox": row["bbox"],
            "score": row["score"],
        }
        for row in rows
        if row["category_id"] - 1 in category_ids
    ]
    target.write_text(json.dumps(kept), encoding="utf-8")
    return target
