"""Draw pictures of a run: predictions of the selected model on a few validation images, next to their labels."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tlvision.data.images import read_image, write_image
from tlvision.engine.datasets import label_options
from tlvision.engine.operating_point import read_thresholds
from tlvision.files.names import stems_in, unique_stems
from tlvision.report import contact_sheet, draw_prediction

if TYPE_CHECKING:
    from tlvision.engine.build import Run


def draw_pictures(run: Path, parts: Run, count: int = 8) -> None:
    """Draw `count` images, spread evenly over the validation data, into `<run>/pictures`, and one sheet of them all.

    Of objects: what predictions.json holds from the run's thresholds on, boxes and masks, and what is labelled
    dashed: the outlines of masks where the predictions have masks, else boxes. Of label maps: the labels next to
    what was predicted.
    """
    data, task, names = parts.val, parts.task, parts.classes.names
    chosen = np.unique(np.linspace(0, len(data.samples) - 1, count).round().astype(int)).tolist()
    least = read_thresholds(run).of(names)
    samples = [data.samples[position] for position in chosen]
    found = task.read_results(
        run / task.results_name, data, chosen, label_options(parts.config.data), float(least.min())
    )
    folder = run / "pictures"
    folder.mkdir(exist_ok=True)
    drawn = []
    shown = [stem.replace("/", "_") for stem in stems_in([sample.path for sample in samples], data.images_dir)]
    names_of_pictures = unique_stems(["sheet", *shown])[1:]  # the sheet of them all keeps its name
    for sample, name, (prediction, target) in zip(samples, names_of_pictures, found, strict=True):
        image, _ = read_image(sample.path, sample.width, sample.height, sample.exif, bits=sample.bits)
        picture = draw_prediction(image, prediction.above(least), names, min_score=0, target=target)
        write_image(folder / f"{name}.jpg", picture)
        drawn.append(picture)
    columns = 2 if "label_map" in task.labels else 4  # two label maps lie side by side in each picture
    write_image(folder / "sheet.jpg", contact_sheet(drawn, columns=columns, width=1600))
