"""The data of each task: where the files are, how our config reads them, and how predictions are scored."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from benchmarks.evaluation import pycocotools_map
from PIL import Image

from tlvision.types import InputError


@dataclass(frozen=True, slots=True)
class Files:
    """Paths of a data set.

    train_labels, val_labels: a COCO json each, or a folder of PNG label maps with the stems of the images.
    classes: for label maps, a text file of names. Its line numbers, from 0, are the values; 255 is unknown.
    """

    train_images: Path
    train_labels: Path
    val_images: Path
    val_labels: Path
    classes: Path | None = None

    def class_names(self) -> tuple[str, ...]:
        """Return the names of the classes. Raises InputError if there is no file of them."""
        if self.classes is None:
            raise InputError("parity: no file of class names. Set --classes, or --data to a folder with classes.txt.")
        lines = self.classes.read_text(encoding="utf-8").splitlines()
        return tuple(line.strip() for line in lines if line.strip())


@dataclass(frozen=True)
class Boxes:
    """Detectors. The data folder holds train.json, val.json and images/; pycocotools scores."""

    metrics: tuple[str, ...] = ("AP", "AP50")

    def overrides(self, data: Path) -> list[str]:
        """Return what our config needs to read the data."""
        return [
            f"data.train.json={data / 'train.json'}",
            f"data.train.images={data / 'images'}",
            f"data.val.json={data / 'val.json'}",
            f"data.val.images={data / 'images'}",
        ]

    def files(self, data: Path) -> Files:
        """Return the paths of the data."""
        return Files(data / "images", data / "train.json", data / "images", data / "val.json")

    def images(self, data: Path) -> int:
        """Return the number of training images."""
        return len(json.loads((data / "train.json").read_text(encoding="utf-8"))["images"])

    def score(self, data: Path, predictions: Path) -> tuple[float, ...]:
        """Return the metrics as pycocotools computes them."""
        return pycocotools_ap(data / "val.json", predictions)


@dataclass(frozen=True)
class LabelMaps:
    """Segmenters. The data folder holds classes.txt, images/{train,val} and masks/{train,val}; numpy scores."""

    metrics: tuple[str, ...] = ("mean class IoU", "pixel accuracy")

    def overrides(self, data: Path) -> list[str]:
        """Return what our config needs to read the data."""
        folders = [
            f"data.{side}.{kind}={data / kind / side}" for side in ("train", "val") for kind in ("images", "masks")
        ]
        return [f"data.classes={data / 'classes.txt'}", *folders]

    def files(self, data: Path) -> Files:
        """Return the paths of the data."""
        images, masks = data / "images", data / "masks"
        return Files(images / "train", masks / "train", images / "val", masks / "val", data / "classes.txt")

    def images(self, data: Path) -> int:
        """Return the number of training images."""
        return len(list((data / "masks" / "train").glob("*.png")))

    def score(self, data: Path, predictions: Path) -> tuple[float, ...]:
        """Return the metrics over all known pixels, from the definition: a class in neither side is left out."""
        count = len((data / "classes.txt").read_text(encoding="utf-8").split())
        matrix = np.zeros((count, count), np.int64)
        for path in sorted((data / "masks" / "val").glob("*.png")):
            truth, found = np.asarray(Image.open(path)).astype(int), np.asarray(Image.open(predictions / path.name))
            known = truth != 255
            np.add.at(matrix, (truth[known], found[known].astype(int)), 1)
        hits, union = matrix.diagonal(), matrix.sum(0) + matrix.sum(1) - matrix.diagonal()
        return float((hits[union > 0] / union[union > 0]).mean()), float(hits.sum() / matrix.sum())


def pycocotools_ap(truth: Path, predictions: Path) -> tuple[float, float]:
    """Return AP and AP50 as pycocotools computes them; 0 if nothing at all was found, which it cannot read."""
    if not json.loads(predictions.read_text(encoding="utf-8")):
        return 0.0, 0.0
    ap, ap50, *_ = pycocotools_map(truth, predictions)
    return ap, ap50


TASKS: dict[str, Boxes | LabelMaps] = {
    "mmdet": Boxes(),
    "mmseg": LabelMaps(),
    "smp": LabelMaps(),
    "torchvision": Boxes(),
    "transformers": LabelMaps(),
    "yolo": Boxes(),
}
"""Task of each plugin that can be compared."""
