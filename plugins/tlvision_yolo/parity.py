"""The parity number: ultralytics' own trainer on a COCO dataset, and what its best model predicts on the val images.

    python -m tlvision_yolo.parity --train-json T --train-images D --val-json V --val-images D --weights W.pt \\
        --arch yolov8n --epochs 15 --image-size 320 --batch 16 --seed 0 --out DIR

prints what `train_upstream` returns as JSON on its last line. It is meant to run in a process of its own, so that wall
time and peak memory are upstream's: ultralytics is imported here plainly, with whatever it sets. Note that upstream
loads a `.pt` by running its pickle; give it files you trust.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import time
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from tlvision.formats.coco.read import CocoData, read_coco
from tlvision.types import Sample
from tlvision_yolo.architectures import find_architecture


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
    freeze: int | None = None,
    lr: float | None = None,
    last: bool = False,
    precision: str | None = None,
) -> dict[str, Any]:
    """Train with upstream's trainer and its defaults, then predict the val images with its validator's settings.

    weights: path of an ultralytics `.pt`, "coco" or "none".
    arch:    architecture name of this plugin; what is built where `weights` is no path.
    freeze:  upstream's option: the first so many layers.
    lr:      train with AdamW at this rate, all else upstream's default: momentum 0.937, biases warming up from a rate
             of 0.1 down. None leaves optimizer and rate to upstream, whose choice has 0.9 and biases from 0 up.
    last:    do not evaluate while training, and predict with the last weights instead of the best (both averaged).
    precision: "fp32" or "bf16" (mixed); None is upstream's choice, on a GPU mixed with fp16.
    out:     a folder for the converted dataset (copies, for upstream mends broken images in place) and the run.

    Returns "predictions" (path of a COCO results file for `val_json`), "train_seconds", "total_seconds",
    "peak_memory_bytes" (when training has ended: of the GPU, or resident),
    "images_per_second" (training images, its evaluation after each epoch included), "epochs", "device", "upstream"
    (its version) and "skipped" (what the json's reader left out).

    Raises InputError where the json or the images cannot be used.
    """
    started = time.perf_counter()
    out = out.resolve()
    train = read_coco(train_json, train_images)
    val = read_coco(val_json, val_images, train.classes)
    data_yaml = write_dataset(train, val, out / "data")

    import torch
    from ultralytics import __version__
    from ultralytics.models import YOLO

    device = "cuda:0" if torch.cuda.is_available() else "cpu"
    _do_without_polars()
    model = YOLO(start_of(weights, arch))
    before = time.perf_counter()
    model.train(
        data=str(data_yaml),
        epochs=epochs,
        imgsz=image_size,
        batch=batch,
        seed=seed,
        device=device,
        project=str(out),
        name="train",
        exist_ok=True,
        plots=False,
        val=not last,
        freeze=freeze,
        **({} if precision is None else {"amp": {"fp32": False, "bf16": "bf16"}[precision]}),
        **({} if lr is None else {"optimizer": "AdamW", "lr0": lr}),
    )
    train_seconds = time.perf_counter() - before
    peak = memory_peak()
    trained = YOLO(out / "train" / "weights" / ("last.pt" if last else "best.pt"))
    trained.val(
        data=str(data_yaml),
        imgsz=image_size,
        batch=batch,
        device=device,
        project=str(out),
        name="val",
        exist_ok=True,
        plots=False,
        save_json=True,
    )
    predictions = write_results(out / "val" / "predictions.json", val.category_ids, out / "predictions.json")
    return {
        "predictions": str(predictions),
        "train_seconds": train_seconds,
        "peak_memory_bytes": peak,
        "total_seconds": time.perf_counter() - started,
        "images_per_second": epochs * len(train.samples) / train_seconds,
        "epochs": epochs,
        "device": device,
        "upstream": __version__,
        "skipped": [*train.skipped, *val.skipped],
    }


def _do_without_polars() -> None:
    """Leave a table of upstream's metrics out of its checkpoints where polars, which it asks for this, is missing."""
    if find_spec("polars") is None:
        from ultralytics.engine.trainer import BaseTrainer

        BaseTrainer.read_results_csv = lambda trainer: {}  # type: ignore[method-assign]


def start_of(weights: str, arch: str) -> str:
    """Return what upstream's `YOLO` starts from: a description for "none", its own file for "coco", or the path."""
    found = find_architecture(arch)
    return {"none": found.weights.removesuffix(".pt") + ".yaml", "coco": found.weights}.get(weights, weights)


def memory_peak() -> int:
    """Return the peak memory of this process so far in bytes: allocated on the GPU if it was used, else resident."""
    import torch

    if torch.cuda.is_available() and torch.cuda.max_memory_allocated() > 0:
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def write_dataset(train: CocoData, val: CocoData, folder: Path) -> Path:
    """Write the dataset as ultralytics wants it and return the path of its yaml.

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
    """Return the lines of ultralytics' label file for one image; empty where it has no objects."""
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
    # Upstream writes no file where nothing at all was found.
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


def main() -> None:
    """Run `train_upstream` from the command line."""
    parser = argparse.ArgumentParser(description="Train with ultralytics' own trainer, for comparison.")
    for name in ("--train-json", "--train-images", "--val-json", "--val-images", "--out"):
        parser.add_argument(name, type=Path, required=True)
    parser.add_argument("--weights", required=True, help="a .pt of ultralytics, 'coco' or 'none'")
    parser.add_argument("--arch", required=True)
    for name, default in (("--epochs", 15), ("--image-size", 640), ("--batch", 16), ("--seed", 0)):
        parser.add_argument(name, type=int, default=default)
    parser.add_argument("--freeze", type=int)
    parser.add_argument("--lr", type=float)
    parser.add_argument("--last", action="store_true")
    parser.add_argument("--precision", choices=["fp32", "bf16"])
    result = train_upstream(**vars(parser.parse_args()))
    print(json.dumps(result))


if __name__ == "__main__":
    main()
