"""Pictures of a run: what the selected model finds in a few validation images, beside what is labelled."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tlvision.data.images import read_image, write_image
from tlvision.data.targets import semantic_map
from tlvision.engine.datasets import background_of
from tlvision.files.names import stems_in, unique_stems
from tlvision.formats.coco import xywh_to_xyxy
from tlvision.formats.coco.rle import rle_to_mask, segment_to_mask
from tlvision.formats.label_maps import LabelMapData
from tlvision.formats.label_maps.files import read_values
from tlvision.report import contact_sheet, draw_prediction
from tlvision.types import Prediction, Sample, Target, empty_target

if TYPE_CHECKING:
    from tlvision.engine.build import Parts


def draw_pictures(run: Path, parts: Parts, count: int = 8, min_score: float = 0.25) -> None:
    """Draw `count` images, spread evenly over the validation data, into `<run>/pictures`, and one sheet of them all.

    Of objects: what predictions.json holds with a score of at least `min_score`, boxes and masks, and what is labelled
    dashed: the outlines of masks where the predictions have masks, else boxes. Of label maps: what is labelled beside
    what was predicted.
    """
    data, names = parts.val, parts.classes.names
    chosen = np.unique(np.linspace(0, len(data.samples) - 1, count).round().astype(int))
    samples = [data.samples[position] for position in chosen]
    if parts.task == "semantic":
        stems = stems_in([sample.path for sample in data.samples], data.images_dir)
        paths = [run / "predictions" / f"{stems[position]}.png" for position in chosen]
        found = _label_maps(paths, samples, background_of(data, parts.config.data))
    else:
        assert not isinstance(data, LabelMapData)
        found = _objects(run, samples, data.category_ids, min_score)
    folder = run / "pictures"
    folder.mkdir(exist_ok=True)
    drawn = []
    shown = [stem.replace("/", "_") for stem in stems_in([sample.path for sample in samples], data.images_dir)]
    names_of_pictures = unique_stems(["sheet", *shown])[1:]  # the sheet of them all keeps its name
    for sample, name, (prediction, target) in zip(samples, names_of_pictures, found, strict=True):
        image, _ = read_image(sample.path, sample.width, sample.height, sample.exif, bits=sample.bits)
        picture = draw_prediction(image, prediction, names, min_score=min_score, target=target)
        write_image(folder / f"{name}.jpg", picture)
        drawn.append(picture)
    write_image(folder / "sheet.jpg", contact_sheet(drawn, columns=2 if parts.task == "semantic" else 4, width=1600))


def _objects(
    run: Path, samples: list[Sample], category_ids: dict[int, int], min_score: float
) -> Iterator[tuple[Prediction, Target]]:
    rows = json.loads((run / "predictions.json").read_text(encoding="utf-8"))
    index_of = {category: index for index, category in category_ids.items()}
    by_image: dict[int, list[dict[str, object]]] = {}
    for row in rows:
        if row["score"] >= min_score:
            by_image.setdefault(row["image_id"], []).append(row)
    masks = any("segmentation" in row for row in rows)
    for sample in samples:
        target = _with_masks(sample) if masks else sample.target
        yield from_results(by_image.get(sample.image_id, []), index_of), target


def _label_maps(
    paths: list[Path], samples: list[Sample], background: int | None
) -> Iterator[tuple[Prediction, Target]]:
    for path, sample in zip(paths, samples, strict=True):
        nothing = empty_target()
        prediction = Prediction(
            boxes=nothing.boxes,
            scores=np.zeros(0, np.float32),
            labels=nothing.labels,
            semantic=read_values(path).astype(np.int64),
        )
        yield prediction, replace(nothing, semantic=semantic_map(sample, background).astype(np.int64))


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
