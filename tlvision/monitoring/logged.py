"""A bundle's model that logs a record of every image that it predicts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from tlvision.evaluation.selection import Selection
from tlvision.monitoring.records import RecordLog
from tlvision.runtime.model import RuntimeModel
from tlvision.tasks import Task
from tlvision.types import ClassMap, InputError, Pixels, Prediction, Sample


class LoggedModel:
    """Predicts as `RuntimeModel` does, and appends a record of each image to a log.

    Example: ``LoggedModel(model, RecordLog("photos.jsonl", model)).predict("photo.jpg")``
    """

    def __init__(self, model: RuntimeModel, log: RecordLog) -> None:
        self.model, self.log = model, log

    @property
    def name(self) -> str:
        """The name of the run that was exported."""
        return self.model.name

    @property
    def task(self) -> Task:
        """What the model is for."""
        return self.model.task

    @property
    def classes(self) -> ClassMap:
        """The classes, with the ids that they had in the training data."""
        return self.model.classes

    @property
    def bits(self) -> int | None:
        """Bits in use of images with 16-bit values; None if they are not known."""
        return self.model.bits

    @property
    def selection(self) -> Selection:
        """Which objects count."""
        return self.model.selection

    def predict_files(
        self, samples: Sequence[Sample], *, least: float = 0.0
    ) -> Iterator[tuple[Sample, Prediction | InputError]]:
        """Yield what `RuntimeModel.predict_files` does; an image that cannot be decoded has no record."""
        for sample, found, observation in self.model.observe_files(samples, least=self._least(least)):
            if observation is not None and not isinstance(found, InputError):
                size = sample.width, sample.height
                self.log.add(str(sample.path), found, observation, size, image=sample.path)
            yield sample, found

    def predict_frames(
        self, frames: Iterable[tuple[Sample, Pixels]], *, least: float = 0.0
    ) -> Iterator[tuple[Sample, Pixels, Prediction]]:
        """Yield what `RuntimeModel.predict_frames` does."""
        for sample, pixels in frames:
            ((_, found, seen),) = self.model.observe_samples([sample], [pixels], least=self._least(least))
            number = "" if sample.frame is None else f"#{sample.frame.number}"
            self.log.add(f"{sample.path}{number}", found, seen, (sample.width, sample.height), image=pixels)
            yield sample, pixels, found

    def predict(self, image: str | Path | Pixels, *, min_score: float | None = None) -> Prediction:
        """Return what `RuntimeModel.predict` does for one image; arguments as there."""
        sample, pixels = self.model.as_sample(image)
        given = None if pixels is None else [pixels]
        least = self._least(self.selection.least(min_score))
        ((_, found, seen),) = self.model.observe_samples([sample], given, least=least)
        self.log.add(
            str(sample.path),
            found,
            seen,
            (sample.width, sample.height),
            image=sample.path if pixels is None else pixels,
        )
        return self.selection.select(found, min_score)

    def _least(self, least: float) -> float:
        """Return a limit that leaves what the log needs, whatever the caller asks for."""
        return min(least, self.selection.least())
