"""Keep what the graphs of a bundle get to see on real images, for the ranges of a quantised model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tlvision.runtime.model import RuntimeModel
from tlvision.runtime.sessions import Session
from tlvision.types import Sample


class RecordingSession:
    """Runs a graph, and writes its inputs into a folder, a file for each call."""

    def __init__(self, session: Session, folder: Path) -> None:
        self._session, self._folder = session, folder
        self.files: list[Path] = []

    def run(self, inputs: Mapping[str, Any], *, taps: bool = False) -> dict[str, Any]:
        """Return the outputs by name."""
        path = self._folder / f"{len(self.files):06d}.npz"
        np.savez(path, **inputs)
        self.files.append(path)
        return self._session.run(inputs, taps=taps)


def record_inputs(
    model: RuntimeModel, samples: Sequence[Sample], folder: Path
) -> Iterator[Mapping[str, Sequence[Path]]]:
    """Predict the samples, and yield after each the files of the inputs of each graph so far.

    Everything is as it is when the model is used: windows, tiles, and the regions that a detector proposes. An image
    with windows or tiles gives several inputs, and the heads of regions may see several calls for an image.
    """
    recording: dict[str, RecordingSession] = {}
    for name, session in model.sessions.items():
        place = folder / name
        place.mkdir(parents=True)
        recording[name] = RecordingSession(session, place)
    other = RuntimeModel(model.folder, model.bundle, recording)
    for sample in samples:
        list(other.predict_samples([sample]))
        yield {name: tuple(session.files) for name, session in recording.items()}


def read_inputs(path: Path) -> dict[str, Any]:
    """Return the inputs of one call by name."""
    with np.load(path) as content:
        return dict(content)
