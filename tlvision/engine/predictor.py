"""What predicts: a trained run, or the bundle of an exported one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

from tlvision.evaluation.selection import Selection
from tlvision.runtime.bundle import is_bundle
from tlvision.tasks import Task
from tlvision.types import ClassMap, InputError, Pixels, Prediction, Sample


class Predictor(Protocol):
    """A model that finds objects, or classes of pixels, in images.

    name:      of the run. task: names and writes the predictions.
    bits:      bits in use of images with 16-bit values; None if they are not known.
    selection: which objects count, with which scores.
    """

    @property
    def name(self) -> str: ...  # noqa: D102

    @property
    def task(self) -> Task: ...  # noqa: D102

    @property
    def classes(self) -> ClassMap: ...  # noqa: D102

    @property
    def bits(self) -> int | None: ...  # noqa: D102

    @property
    def selection(self) -> Selection: ...  # noqa: D102

    def predict_files(
        self, samples: Sequence[Sample], *, least: float = 0.0
    ) -> Iterator[tuple[Sample, Prediction | InputError]]:
        """Yield each sample with all that is found in it, or with the reason why its file cannot be decoded.

        least: objects with a lower score of the model may be left out.
        """
        ...

    def predict_frames(
        self, frames: Iterable[tuple[Sample, Pixels]], *, least: float = 0.0
    ) -> Iterator[tuple[Sample, Pixels, Prediction]]:
        """Yield decoded images, (H, W, 3) uint8 RGB, with all that is found in them; arguments as above."""
        ...


def open_predictor(
    folder: Path, *, device: str | None = None, max_detections: int | None = None, tiles: int | None = None
) -> Predictor:
    """Return the model of a run, or of a bundle; no torch is imported for a bundle.

    Other arguments are as for `tlvision.load`; a bundle has none of them.

    Raises InputError if `folder` is neither, or an argument has no effect.
    """
    if not is_bundle(folder):
        from tlvision.engine.model import load

        return load(folder, device=device, max_detections=max_detections, tiles=tiles)
    given = {"--device": device, "--max-detections": max_detections, "--tiles": tiles}
    for name, value in given.items():
        if value is not None:
            raise InputError(
                f"predict: {name} has no effect on a bundle, '{folder}', which has the settings that it was exported "
                "with; give the run"
            )
    from tlvision.runtime import load as load_bundle

    return load_bundle(folder)
