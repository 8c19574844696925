"""Collect the predictions for images and frames in an output folder, with labels for a label tool."""

from __future__ import annotations

from pathlib import Path

from tlvision.engine.predictor import Predictor
from tlvision.formats.preannotations import PreAnnotations
from tlvision.types import Prediction, Sample


class PredictionFolder:
    """Predictions of one call of `tlvision predict`, on their way into its output folder.

    model:     selects the objects that count; its task names and writes the files.
    folder:    exists and is empty.
    min_score: as for `Selection.select`.
    labels:    also gets the objects; None if no label format is asked for.
    frames:    folder for the frames of videos as they are, which label tools need as image files.
    least:     score of the model below which no object counts.
    objects:   number of objects so far.
    """

    def __init__(
        self,
        model: Predictor,
        folder: Path,
        *,
        min_score: float | None,
        labels: PreAnnotations | None,
        frames: str,
    ) -> None:
        self.model = model
        self.folder = folder
        self.min_score = min_score
        self.least = model.selection.least(min_score)
        self.labels = labels
        self.frames = folder / frames
        self.objects = 0
        # Filled as images come: how many frames a video has is known at its end.
        self._names: dict[int, str] = {}
        self._stems: dict[int, str] = {}
        self.results = model.task.named_results(folder, model.classes, self._names, self._stems)
        self.results.prepare()

    def add(
        self, sample: Sample, found: Prediction, *, name: str, stem: str, label_file: tuple[str, Path] | None
    ) -> Prediction:
        """Take the prediction for one image, and return what of it counts.

        name:       of the image or video in predictions.json.
        stem:       name of the files of this image, without suffix; no other image has it.
        label_file: the name that label tools know the image by, and its file; used if there are labels.
        """
        counting = self.model.selection.select(found, self.min_score)
        self._names[sample.image_id], self._stems[sample.image_id] = name, stem
        self.results.add(sample, counting)
        if self.labels is not None and label_file is not None:
            self.labels.add(*label_file, sample.width, sample.height, counting)
        self.objects += len(counting)
        return counting
