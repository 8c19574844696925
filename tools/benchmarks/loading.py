"""Training images per second, ours against ultralytics', on the same images in the same process and one thread.

    python tools/benchmarks/loading.py --json data/bccd/train.json --images data/bccd/images

Both make mosaics of four with their usual augmentation and collate batches; neither trains. The first pass over the
images (decoding them) and the following ones are counted apart, in alternation, and the best of the repeats is taken.
Seconds are of CPU time, so that neighbours on the machine do not count.
"""

from __future__ import annotations

import argparse
import itertools
import json
import logging
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import torch

from tlvision.data.batches import train_batches
from tlvision.data.settings import InputSettings
from tlvision.data.train_images import TrainImages
from tlvision.formats.coco import CocoData, read_coco
from tlvision.types import InputSpec


@dataclass(frozen=True, slots=True)
class Result:
    """Images per second of CPU time: `first` while every image is met for the first time, `steady` afterwards."""

    ours_first: float
    ours_steady: float
    ultralytics_first: float
    ultralytics_steady: float
    ratio_first: float
    ratio_steady: float


def run(json_path: Path, images_dir: Path, *, image_size: int = 320, batch_size: int = 16, epochs: int = 3) -> Result:
    """Measure both; `epochs` passes over the images after the first one count as steady."""
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    data = read_coco(json_path, images_dir)
    steps = len(data.samples) // batch_size
    with tempfile.TemporaryDirectory() as folder:
        ours = our_batches(data, image_size, batch_size)
        theirs = ultralytics_batches(data, Path(folder), image_size, batch_size)
        first = [_rate(batches, steps, batch_size) for batches in (ours, theirs)]
        steady = [[_rate(batches, steps, batch_size) for batches in (ours, theirs)] for _ in range(epochs)]
    best = [max(rates) for rates in zip(*steady, strict=True)]
    return Result(first[0], best[0], first[1], best[1], first[0] / first[1], best[0] / best[1])


def _rate(batches: Iterator[object], steps: int, batch_size: int) -> float:
    start = time.process_time()
    for _ in range(steps):
        next(batches)
    return steps * batch_size / (time.process_time() - start)


def our_batches(data: CocoData, image_size: int, batch_size: int, workers: int = 0) -> Iterator[object]:
    """Return our batches without end."""
    images = TrainImages(data.samples, InputSpec(), InputSettings(image_size), num_classes=len(data.classes))
    return train_batches(images, batch_size=batch_size, first_step=0, last_step=1_000_000, workers=workers)


def ultralytics_batches(
    data: CocoData, folder: Path, image_size: int, batch_size: int, workers: int = 0
) -> Iterator[object]:
    """Return upstream's batches without end; `folder` is for its label files."""
    from torch.utils.data import DataLoader
    from ultralytics.cfg import get_cfg
    from ultralytics.data.dataset import YOLODataset
    from ultralytics.utils import LOGGER

    LOGGER.setLevel(logging.ERROR)
    _write_yolo_labels(data, folder)
    names = dict(enumerate(data.classes.names))
    dataset = YOLODataset(
        img_path=str(folder / "images"),
        imgsz=image_size,
        batch_size=batch_size,
        augment=True,
        hyp=get_cfg(),
        rect=False,
        data={"names": names, "nc": len(names), "channels": 3},
        task="detect",
    )
    loader = DataLoader(
        dataset,
        batch_size=batch_size,
        shuffle=True,
        drop_last=True,
        num_workers=workers,
        persistent_workers=workers > 0,
        collate_fn=dataset.collate_fn,
    )
    return itertools.chain.from_iterable(itertools.repeat(loader))


def _write_yolo_labels(data: CocoData, folder: Path) -> None:
    for name in ("images", "labels"):
        (folder / name).mkdir()
    for sample in data.samples:
        (folder / "images" / sample.path.name).symlink_to(sample.path.resolve())
        lines = []
        for (x0, y0, x1, y1), label in zip(sample.target.boxes.tolist(), sample.target.labels.tolist(), strict=True):
            box = ((x0 + x1) / 2 / sample.width, (y0 + y1) / 2 / sample.height)
            lines.append(f"{label} {box[0]} {box[1]} {(x1 - x0) / sample.width} {(y1 - y0) / sample.height}")
        (folder / "labels" / f"{sample.path.stem}.txt").write_text("\n".join(lines), encoding="ascii")


def main() -> int:
    """Measure and print one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--image-size", type=int, default=320)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--epochs", type=int, default=3)
    options = parser.parse_args()
    result = run(
        options.json, options.images, image_size=options.image_size, batch_size=options.batch, epochs=options.epochs
    )
    print(json.dumps({name: round(value, 2) for name, value in asdict(result).items()}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
