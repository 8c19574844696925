"""Write predicted objects as a COCO results file, and read them back with the labels."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import cast

import numpy as np

from tlvision.files.json_files import write_json
from tlvision.formats.coco import result_rows, xywh_to_xyxy
from tlvision.formats.coco.rle import rle_to_mask, segment_to_mask
from tlvision.types import ClassMap, Json, Prediction, RunError, Sample, Target


@dataclass(slots=True)
class ObjectResults:
    """Rows of a COCO results file, written sorted by image id; see `tlvision.tasks.base.Results`.

    category_ids: class index -> category id; an object of another class is left out and counted.
    masks:        whether every object must have a mask.
    names:        image id -> file name, which rows then have as "file_name", with the class as "category"; those of
                  a frame of a video also have "frame" (its number, from 0) and "time" (seconds).
    """

    path: Path
    category_ids: Mapping[int, int]
    masks: bool = field(kw_only=True)
    names: Mapping[int, str] | None = field(default=None, kw_only=True)
    classes: ClassMap | None = field(default=None, kw_only=True)
    title: str = "predictions"
    rows: list[Json] = field(default_factory=list)
    counts: Counter[int] = field(default_factory=Counter)

    @property
    def left_out(self) -> int:
        """Return the number of objects of classes that `category_ids` does not have."""
        return self.counts.total()

    def prepare(self) -> None:
        """Do nothing: `write` replaces the file."""

    def add(self, sample: Sample, prediction: Prediction) -> None:
        """Keep the rows of one image; masks become run lengths at once, because full-size ones would fill the memory.

        Raises RunError if the task has masks and the prediction has none.
        """
        if self.masks and prediction.masks is None:
            raise RunError("predict() returned no masks, but the task has masks. This is a bug in the plugin.")
        rows, left_out = result_rows(sample.image_id, prediction, self.category_ids)
        if self.names is not None and self.classes is not None:
            categories = dict(zip(self.classes.source_ids, self.classes.names, strict=True))
            origin: Json = {"file_name": self.names[sample.image_id]}
            if sample.frame is not None:
                origin |= {"frame": sample.frame.number, "time": sample.frame.time}
            rows = [{**row, **origin, "category": categories[row["category_id"]]} for row in rows]
        self.rows += rows
        self.counts += left_out

    def share(self) -> object:
        """Return the rows and the counts."""
        return self.rows, self.counts

    def merge(self, shares: Sequence[object]) -> None:
        """Take the rows and the counts of all processes."""
        found = cast("Sequence[tuple[list[Json], Counter[int]]]", shares)
        self.rows = [row for rows, _ in found for row in rows]
        self.counts = sum((counts for _, counts in found), Counter())

    def write(self) -> None:
        """Write the file, whole or not at all."""
        write_json(self.path, sorted(self.rows, key=lambda row: row["image_id"]))


def read_objects(
    path: Path, samples: Sequence[Sample], category_ids: Mapping[int, int], min_score: float
) -> Iterator[tuple[Prediction, Target]]:
    """Yield, for each sample, its rows of a results file with a score of at least `min_score`, and its labels."""
    rows: list[Json] = json.loads(path.read_text(encoding="utf-8"))
    index_of = {category: index for index, category in category_ids.items()}
    by_image: dict[int, list[Json]] = {}
    for row in rows:
        if row["score"] >= min_score:
            by_image.setdefault(row["image_id"], []).append(row)
    masks = any("segmentation" in row for row in rows)
    for sample in samples:
        target = _with_masks(sample) if masks else sample.target
        yield from_rows(by_image.get(sample.image_id, []), index_of), target


def from_rows(rows: Sequence[Json], index_of: Mapping[int, int]) -> Prediction:
    """Return one image's rows of a COCO results file as a prediction; `index_of` maps category id to class index.

    Rows may have a box each, or a box and a mask each.
    """
    boxes = xywh_to_xyxy(np.array([row["bbox"] for row in rows], np.float64).reshape(-1, 4))
    masks = [rle_to_mask(row["segmentation"]) for row in rows if "segmentation" in row]
    return Prediction(
        boxes=boxes.astype(np.float32),
        scores=np.array([row["score"] for row in rows], np.float32),
        labels=np.array([index_of[row["category_id"]] for row in rows], np.int64),
        masks=np.stack(masks) if masks else None,
    )


def _with_masks(sample: Sample) -> Target:
    """Return the labels of a sample, with masks of its image's size if every object has one."""
    segments = [segment for segment in sample.segments if segment is not None]
    if not segments or len(segments) < len(sample.segments):
        return sample.target
    masks = [segment_to_mask(segment, sample.height, sample.width) for segment in segments]
    return replace(sample.target, masks=np.stack(masks))
