"""What `parity` needs to know of a task: where the data lies, how upstream is told, how predictions are scored."""

from __future__ import annotations

import contextlib
import io
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image


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

    def arguments(self, data: Path) -> list[str]:
        """Return what upstream's script needs to read the data."""
        sides = [[f"--{side}-json", str(data / f"{side}.json"), f"--{side}-images", str(data / "images")] for side in
                 ("train", "val")]  # fmt: skip
        return sides[0] + sides[1]

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

    def arguments(self, data: Path) -> list[str]:
        """Return what upstream's script needs to read the data."""
        folders = [
            (f"--{side}-{kind}", str(data / kind / side)) for side in ("train", "val") for kind in ("images", "masks")
        ]
        return ["--classes", str(data / "classes.txt"), *(part for pair in folders for part in pair)]

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


def _folders(data: Path) -> list[tuple[str, str, Path]]:
    return [(side, kind, data / kind / side) for side in ("train", "val") for kind in ("images", "masks")]


def pycocotools_ap(truth: Path, predictions: Path) -> tuple[float, float]:
    """Return AP and AP50 as pycocotools computes them; 0 where nothing at all was found, which it cannot read."""
    if not json.loads(predictions.read_text(encoding="utf-8")):
        return 0.0, 0.0
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        dataset = COCO(str(truth))
        evaluation = COCOeval(dataset, dataset.loadRes(str(predictions)), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return float(evaluation.stats[0]), float(evaluation.stats[1])
