"""Pictures of a run: what the selected model finds in a few validation images, beside what is labelled."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np

from tlvision.coco import CocoData, xywh_to_xyxy
from tlvision.coco.formats import rle_to_mask, segment_to_mask
from tlvision.data.images import read_image, write_image
from tlvision.report import contact_sheet, draw_prediction
from tlvision.types import ClassMap, Prediction, Sample, Target


def draw_pictures(run: Path, data: CocoData, classes: ClassMap, count: int = 8, min_score: float = 0.25) -> None:
    """Draw `count` images, spread evenly over the dataset, into `<run>/pictures`, and one sheet of them all.

    What predictions.json holds with a score of at least `min_score` is drawn, boxes and masks, and what is labelled
    dashed: the outlines of masks where the predictions have masks, else boxes.
    """
    rows = json.loads((run / "predictions.json").read_text(encoding="utf-8"))
    index_of = {category: index for index, category in data.category_ids.items()}
    by_image: dict[int, list[dict[str, object]]] = {}
    for row in rows:
        if row["score"] >= min_score:
            by_image.setdefault(row["image_id"], []).append(row)
    masks = any("segmentation" in row for row in rows)
    folder = run / "pictures"
    folder.mkdir(exist_ok=True)
    chosen = np.unique(np.linspace(0, len(data.samples) - 1, count).round().astype(int))
    drawn = []
    for position in chosen:
        sample = data.samples[position]
        prediction = from_results(by_image.get(sample.image_id, []), index_of)
        image, _ = read_image(sample.path, sample.width, sample.height, sample.exif)
        target = _with_masks(sample) if masks else sample.target
        picture = draw_prediction(image, prediction, classes.names, min_score=min_score, target=target)
        write_image(folder / f"{sample.path.stem}.jpg", picture)
        drawn.append(picture)
    write_image(folder / "sheet.jpg", contact_sheet(drawn, columns=4, width=1600))


def from_results(rows: list[dict[str, object]], index_of: dict[int, int]) -> Prediction:
    """Return one image's rows of a COCO results file as a Prediction; `index_of` maps category id to class index.

    Rows may have a box each, or a box and a mask each.
    """
    boxes = xywh_to_xyxy(np.array([row["bbox"] for row in rows], np.float64).reshape(-1, 4))
    masks = [rle_to_mask(row["segmentation"]) for row in rows if "segmentation" in row]  # type: ignore[arg-type]
    return Prediction(
        boxes=boxes.astype(np.float32),
        scores=np.array([row["score"] for row in rows], np.float32),
        labels=np.array([index_of[row["category_id"]] for row in rows], np.int64),  # type: ignore[index]
        masks=np.stack(masks) if masks else None,
    )


def _with_masks(sample: Sample) -> Target:
    """Return what is labelled in a sample, with masks of the size of its image where every object has one."""
    segments = [segment for segment in sample.segments if segment is not None]
    if not segments or len(segments) < len(sample.segments):
        return sample.target
    masks = [segment_to_mask(segment, sample.height, sample.width) for segment in segments]
    return replace(sample.target, masks=np.stack(masks))
