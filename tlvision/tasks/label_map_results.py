"""Write predicted label maps as PNG files, and read them back with the labels."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from tlvision.data.targets import semantic_map
from tlvision.formats.label_maps import write_label_map
from tlvision.formats.label_maps.files import read_values
from tlvision.types import Prediction, RunError, Sample, Target, empty_target


@dataclass(slots=True)
class LabelMapResults:
    """One PNG for each image, written as it comes; see `tlvision.tasks.base.Results`.

    path:  the folder.
    stems: image id -> name of its file, without suffix.
    """

    path: Path
    stems: Mapping[int, str]
    title: str = "label maps"
    left_out: int = 0

    def prepare(self) -> None:
        """Empty the folder."""
        shutil.rmtree(self.path, ignore_errors=True)
        self.path.mkdir(parents=True)

    def add(self, sample: Sample, prediction: Prediction) -> None:
        """Write the label map of one image; RunError if the prediction has none."""
        if prediction.semantic is None:
            raise RunError(
                "predict() returned no label map, but the task has label maps. This is a bug in the plugin: it "
                "has no dense_logits() (HasDenseLogits)."
            )
        path = self.path / f"{self.stems[sample.image_id]}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_label_map(path, prediction.semantic)

    def share(self) -> object:
        """Return nothing: every process has written its files."""
        return None

    def merge(self, shares: Sequence[object]) -> None:
        """Do nothing."""

    def write(self) -> None:
        """Do nothing."""


def read_maps(
    paths: Sequence[Path], samples: Sequence[Sample], background: int | None
) -> Iterator[tuple[Prediction, Target]]:
    """Yield the label map of each file as a prediction, and the one that is labelled; see `semantic_map`."""
    for path, sample in zip(paths, samples, strict=True):
        prediction = Prediction.empty(read_values(path).astype(np.int64))
        yield prediction, replace(empty_target(), semantic=semantic_map(sample, background).astype(np.int64))
