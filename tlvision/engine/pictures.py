"""Draw pictures of a run: predictions of the selected model on a few validation images, next to their labels."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tlvision.data.images import read_image, write_image
from tlvision.engine.datasets import label_options
from tlvision.files.names import stems_in, unique_stems
from tlvision.report import contact_sheet, draw_prediction

if TYPE_CHECKING:
    from tlvision.engine.build import Run


def draw_pictures(run: Path, parts: Run, count: int = 8, min_score: float = 0.25) -> None:
    """Draw `count` images, spread evenly over the validation data, into `<run>/pictures`, and one sheet of them all.

    Of objects: what predictions.json holds with a score of at least `min_score`, boxes and masks, and what is labelled
    dashed: the outlines of masks where the predictions have masks, else boxes. Of label maps: what is labelled beside
    what was predicted.
    """
    data, task, names = parts.val, parts.task, parts.classes.names
    chosen = np.unique(np.linspace(0, len(data.samples) - 1, count).round().astype(int)).tolist()
    samples = [data.samples[position] for position in chosen]
    found = task.read_results(run / task.results_name, data, chosen, label_options(parts.config.data), min_score)
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
    columns = 2 if "label_map" in task.labels else 4  # two label maps lie beside each other in each picture
    write_image(folder / "sheet.jpg", contact_sheet(drawn, columns=columns, width=1600))
