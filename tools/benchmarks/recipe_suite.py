"""Development suite for default recipes: data sets, numbers of training images, and the json files of each cell.

A cell is a data set with a number of training images. Its folder holds `fit.json` (trained on), `held.json` (other
images of the same training json, which choose a recipe), `val.json` (which no choice reads) and `both.json` (held-out
and val images, of which a run leaves predictions, so that one run serves both).
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MIN_HELD = 20
"""Fewest held-out images; fewer make AP too noisy to order recipes by."""
HELD_SHARE = 0.25
ALL = 0
"""Number of training images: all but the held-out ones."""
SIZES = (25, 100, ALL)
VAL_OFFSET = 10_000_000
"""Added to the image ids of val in both.json, because train and val both count from 1."""


@dataclass(frozen=True, slots=True)
class DataSet:
    """One set of labels.

    name:   of the set in results and tables.
    source: the images; sets of one source are left out together, because they share their images.
    folder: below the data folder; holds both json files and images/.
    classes: names of the classes that are kept, in train and val; empty: all. Images without any stay.
    """

    name: str
    source: str
    folder: str
    train: str = "train.json"
    val: str = "val.json"
    classes: tuple[str, ...] = ()


SUITE = (
    DataSet("bccd", "bccd", "bccd"),
    DataSet("deeppcb", "deeppcb", "deeppcb"),
    DataSet("coco128", "coco128", "coco128"),
    DataSet("coco_person", "coco128", "coco128", "val.json", "train.json", ("person",)),
    DataSet("kitti", "kitti", "driving_kitti"),
    DataSet("kitti_vehicle", "kitti", "driving_kitti", "train_vehicle.json", "val_vehicle.json"),
    DataSet("carla", "carla", "driving_carla"),
    DataSet("carla_vehicle", "carla", "driving_carla", "train_vehicle.json", "val_vehicle.json"),
)
"""Eight sets of labels on five sources, near to COCO (coco_person) and far from it (deeppcb).

coco_person is one class that the pretrained model has. It trains on coco128's val images, which no pretraining has
seen; its val images the pretraining has seen, so that AP there flatters whoever changes the weights least.
"""


@dataclass(frozen=True, slots=True)
class Budget:
    """Training budget of a run.

    image_size: long side of the network input in pixels.
    max_steps:  upper bound for optimizer steps; max_epochs: the same for passes.
    """

    image_size: int
    max_steps: int
    max_epochs: int
    batch: int = 16

    def epochs(self, images: int) -> int:
        """Return the number of epochs for so many training images, at least 1.

        >>> Budget(image_size=256, max_steps=300, max_epochs=60).epochs(100)
        42
        """
        steps = math.ceil(images / self.batch)
        return max(1, min(self.max_epochs, self.max_steps // steps))


BUDGETS = {
    "quick": Budget(image_size=256, max_steps=70, max_epochs=15),
    "medium": Budget(image_size=256, max_steps=180, max_epochs=60),
    "full": Budget(image_size=320, max_steps=300, max_epochs=60),
}


@dataclass(frozen=True, slots=True)
class Cell:
    """A data set with a number of training images; `folder` holds its json files."""

    data: DataSet
    size: int
    images: Path
    val: Path
    folder: Path
    count: int

    @property
    def name(self) -> str:
        """Return for example "bccd-100" or "kitti-all"."""
        return f"{self.data.name}-{self.size or 'all'}"


def split_train(document: Mapping[str, Any], size: int, seed: int = 0) -> tuple[list[Any], list[Any]]:
    """Return (fit, held): the image rows to train on and the image rows to choose by, disjoint.

    document: a COCO json as read.
    size:     number of images to fit on, or ALL for all that are not held out.
    seed:     of the order in which images are taken.

    Held out are `HELD_SHARE` of `size` images, at least `MIN_HELD`. `fit` first takes images until every class that
    occurs has one, as far as `size` allows, then goes on in the shuffled order; `held` does the same with the rest.

    Raises ValueError if the json has too few images for both parts.

    >>> rows = [{"id": i} for i in range(60)]
    >>> fit, held = split_train({"images": rows, "annotations": []}, 25)
    >>> len(fit), len(held)
    (25, 20)
    """
    total = len(document["images"])
    held_count = max(MIN_HELD, math.ceil(HELD_SHARE * (size or total)))
    fit_count = size or total - held_count
    if fit_count < 1 or fit_count + held_count > total:
        raise ValueError(f"{total} images are too few for {size or 'all'} to train on and {held_count} held out")
    classes: dict[int, set[int]] = {image["id"]: set() for image in document["images"]}
    for row in document["annotations"]:
        classes[row["image_id"]].add(row["category_id"])
    order = sorted(document["images"], key=lambda image: int(image["id"]))
    random.Random(seed).shuffle(order)
    fit = cover_classes(order, classes, fit_count)
    taken = {image["id"] for image in fit}
    held = cover_classes([image for image in order if image["id"] not in taken], classes, held_count)
    return fit, held


def cover_classes(order: Sequence[Any], classes: Mapping[int, set[int]], count: int) -> list[Any]:
    """Return `count` images of `order`: first greedily those with most classes not seen yet, then the next ones."""
    rest, chosen, missing = list(order), [], set().union(*(classes[image["id"]] for image in order))
    while missing and len(chosen) < count:
        best = max(rest, key=lambda image: len(classes[image["id"]] & missing))  # the first of equals
        missing -= classes[best["id"]]
        rest.remove(best)
        chosen.append(best)
    return [*chosen, *rest[: count - len(chosen)]]


def read_part(path: Path, classes: Sequence[str]) -> dict[str, Any]:
    """Return the COCO json with the annotations and categories of these classes only, if any are named."""
    document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    if not classes:
        return document
    categories = [row for row in document["categories"] if row["name"] in classes]
    kept = {row["id"] for row in categories}
    rows = [row for row in document["annotations"] if row["category_id"] in kept]
    return {**document, "categories": categories, "annotations": rows}


def part_of(document: Mapping[str, Any], images: Sequence[Any]) -> dict[str, Any]:
    """Return the COCO json with these images only; the categories stay."""
    kept = {image["id"] for image in images}
    rows = [row for row in document["annotations"] if row["image_id"] in kept]
    return {**document, "images": list(images), "annotations": rows}


def join(held: Mapping[str, Any], val: Mapping[str, Any]) -> dict[str, Any]:
    """Return held-out and val images in one COCO json; the ids of val are moved by `VAL_OFFSET`."""
    images = [{**image, "id": image["id"] + VAL_OFFSET} for image in val["images"]]
    rows = [{**row, "id": row["id"] + VAL_OFFSET, "image_id": row["image_id"] + VAL_OFFSET} for row in
            val["annotations"]]  # fmt: skip
    return {**held, "images": [*held["images"], *images], "annotations": [*held["annotations"], *rows]}


def split_predictions(rows: Sequence[Mapping[str, Any]]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the predictions for both.json as those for held.json and those for the val json as it is.

    >>> split_predictions([{"image_id": 3}, {"image_id": VAL_OFFSET + 3}])
    ([{'image_id': 3}], [{'image_id': 3}])
    """
    held = [dict(row) for row in rows if row["image_id"] < VAL_OFFSET]
    val = [{**row, "image_id": row["image_id"] - VAL_OFFSET} for row in rows if row["image_id"] >= VAL_OFFSET]
    return held, val


def make_cell(data: DataSet, size: int, root: Path, out: Path) -> Cell | None:
    """Write the json files of a cell below `out` and return it, or None if the set has too few images."""
    folder = root / data.folder
    train, val = (read_part(folder / name, data.classes) for name in (data.train, data.val))
    try:
        fit, held = split_train(train, size)
    except ValueError:
        return None
    place = out / f"{data.name}-{size or 'all'}"
    cell = Cell(data, size, folder / "images", place / "val.json", place, len(fit))
    cell.folder.mkdir(parents=True, exist_ok=True)
    judged = part_of(train, held)
    documents = {"fit": part_of(train, fit), "held": judged, "val": val, "both": join(judged, val)}
    for name, document in documents.items():
        (cell.folder / f"{name}.json").write_text(json.dumps(document), encoding="utf-8")
    return cell
