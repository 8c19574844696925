"""Log what a server predicts: the observer that joins `tlvision.serving` and a log."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tlvision.monitoring.records import RecordLog
from tlvision.runtime.model import RuntimeModel
from tlvision.serving.service import Observer, PredictedImage


def logging_observer(path: Path, image_rate: float) -> Callable[[RuntimeModel], Observer]:
    """Return what makes, for a bundle's model, an observer that appends a record of each image to a log.

    path: of the log. image_rate: share of the images that are kept, 0..1.
    """

    def make(model: RuntimeModel) -> Observer:
        log = RecordLog(path, model, image_rate=image_rate)

        def observe(image: PredictedImage) -> None:
            sample = image.image.sample
            log.add(image.name, image.found, image.observation, (sample.width, sample.height), image=image.data)

        return observe

    return make
