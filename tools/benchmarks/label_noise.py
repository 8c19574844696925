"""How well `tlvision doctor --run` finds label errors: plant them in a labelled set, and count those that it lists.

    python tools/bench.py label_noise --json val.json --images images --run RUN [RUN …] [--count 20] [--seed 0]

Of each kind `--count` errors are planted, for the n-th run with the seed `--seed` + n: labels removed, classes changed,
boxes shifted to an IoU of 0.35 to 0.55, and boxes added where there is no object. The images should be others than
those that the runs were trained on. "random" is the precision of labels (for removed labels: of predictions without a
label) in random order.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from tlvision.analysis.doctor.findings import Part
from tlvision.analysis.doctor.label_noise import Candidate, label_noise, overlaps
from tlvision.analysis.doctor.predictions import MAX_DETECTIONS, SCORE_FLOOR, of_run
from tlvision.engine.model import load
from tlvision.formats.coco import read_coco
from tlvision.types import InputError, Json

KIND = {"removed": "missing", "class changed": "class", "shifted": "box", "added": "nothing"}
"""What is planted -> what it should be found as."""


def main() -> None:
    """Print one table: precision among the first k, recall of all, and precision of a random order."""
    parser = argparse.ArgumentParser(prog="bench.py label_noise")
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--run", type=Path, nargs="+", required=True)
    parser.add_argument("--count", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rows: dict[str, list[tuple[float, ...]]] = {name: [] for name in KIND}
    for seed, run in enumerate(options.run, options.seed):
        data = read_coco(options.json, options.images)
        found = of_run(
            load(run, score_floor=SCORE_FLOOR, max_detections=MAX_DETECTIONS), Part("val", data), trained_on=None
        )
        labels = _labels(options.json, data.classes.names)
        sizes = {sample.image_id: (sample.width, sample.height) for sample in data.samples}
        noisy, planted = plant(labels, sizes, len(data.classes), options.count, seed)
        candidates = label_noise(data.classes.names, list(sizes), noisy, found.rows)
        for name, kind in KIND.items():
            rows[name].append(_score(candidates, kind, planted[name], noisy, found.rows))
    print(f"| planted | listed | precision among the first {options.count} | recall | random |\n|---|---|---|---|---|")
    for name, values in rows.items():
        listed, precision, recall, chance = np.mean(values, axis=0).tolist()
        spread = np.std(values, axis=0, ddof=1 if len(values) > 1 else 0)
        print(
            f"| {name} | {listed:.0f} | {precision:.2f} ± {spread[1]:.2f} | {recall:.2f} ± {spread[2]:.2f} | "
            f"{chance:.3f} |"
        )


def _labels(path: Path, names: tuple[str, ...]) -> list[Json]:
    content = json.loads(path.read_text())
    index = {row["id"]: names.index(row["name"]) for row in content["categories"]}
    return [
        {"image_id": row["image_id"], "category_id": index[row["category_id"]], "bbox": row["bbox"], "iscrowd": 0}
        for row in content["annotations"]
        if not row.get("iscrowd")
    ]


def plant(
    labels: list[Json], sizes: dict[int, tuple[int, int]], classes: int, count: int, seed: int
) -> tuple[list[Json], dict[str, list[Json]]]:
    """Return noisy labels, and the planted errors: the removed labels, and the rows of the others as they are now."""
    if len(labels) < 3 * count:
        raise InputError(f"label_noise: {len(labels)} labels are too few for {3 * count} errors")
    generator = np.random.default_rng(seed)
    order = generator.permutation(len(labels)).tolist()
    removed, flipped, shifted = (set(order[number * count : (number + 1) * count]) for number in range(3))
    planted: dict[str, list[Json]] = {"removed": [labels[one] for one in removed]}
    noisy = []
    changed: dict[str, list[Json]] = {"class changed": [], "shifted": [], "added": []}
    for number, row in enumerate(labels):
        if number in removed:
            continue
        new = dict(row)
        if number in flipped:
            new["category_id"] = (row["category_id"] + int(generator.integers(1, classes))) % classes
            changed["class changed"].append(new)
        if number in shifted:
            new["bbox"] = _shifted(row["bbox"], generator)
            changed["shifted"].append(new)
        noisy.append(new)
    images = list(sizes)
    while len(changed["added"]) < count:
        image = images[int(generator.integers(len(images)))]
        new = dict(labels[int(generator.integers(len(labels)))])
        new["image_id"], (_, _, width, height) = image, new["bbox"]
        if width >= sizes[image][0] or height >= sizes[image][1]:
            continue
        x, y = (
            float(generator.uniform(0, side - own)) for side, own in zip(sizes[image], (width, height), strict=True)
        )
        new["bbox"] = [x, y, width, height]
        others = [row["bbox"] for row in [*labels, *noisy] if row["image_id"] == image]
        if not others or overlaps([new["bbox"]], others).max() == 0:
            changed["added"].append(new)
            noisy.append(new)
    return noisy, planted | changed


def _shifted(box: list[float], generator: np.random.Generator) -> list[float]:
    """Return the box moved in a random direction, to an IoU of 0.35 to 0.55 with itself."""
    x, y, width, height = box
    wanted, angle = generator.uniform(0.35, 0.55), generator.uniform(0, 2 * np.pi)
    for step in np.linspace(0, 1, 201)[1:].tolist():
        moved = [x + step * width * np.cos(angle), y + step * height * np.sin(angle), width, height]
        if overlaps([moved], [box])[0, 0] <= wanted:
            break
    return [float(value) for value in moved]


def _score(
    candidates: list[Candidate], kind: str, planted: list[Json], noisy: list[Json], predictions: list[Json]
) -> tuple[float, float, float, float]:
    """Return the number of candidates, precision of the first ones, recall, and precision of a random order."""
    listed = [each for each in candidates if each.kind == kind]
    if kind == "missing":
        hits = [_hit(each.image_id, each.box, planted) for each in listed]
        free = [row for row in predictions if _free(row, noisy)]
        chance = float(np.mean([_hit(row["image_id"], row["bbox"], planted) is not None for row in free]))
    else:
        numbers = {id(row): number for number, row in enumerate(planted)}
        hits = [numbers.get(id(noisy[each.row])) if each.row is not None else None for each in listed]
        chance = len(planted) / len(noisy)
    first = [hit is not None for hit in hits[: len(planted)]]
    recall = len({hit for hit in hits if hit is not None}) / len(planted)
    return float(len(listed)), float(np.mean(first)) if first else 0.0, recall, chance


def _hit(image: int, box: Any, planted: list[Json]) -> int | None:
    for number, row in enumerate(planted):
        if row["image_id"] == image and overlaps([box], [row["bbox"]])[0, 0] >= 0.5:
            return number
    return None


def _free(row: Json, labels: list[Json]) -> bool:
    others = [label["bbox"] for label in labels if label["image_id"] == row["image_id"]]
    return not others or bool(overlaps([row["bbox"]], others).max() < 0.3)
