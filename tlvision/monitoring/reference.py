"""The records of validation images that a bundle carries: what its log is compared with."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from tlvision.files.atomic import atomic_file
from tlvision.monitoring.record import encode, make_record
from tlvision.runtime.model import RuntimeModel
from tlvision.types import Prediction, Sample

NAME = "reference.jsonl"
"""Of the file in a bundle's folder."""
MAX_IMAGES = 500
"""Images that are kept, drawn with a seed: the distances are computed between at most so many."""


def predict_with_reference(
    model: RuntimeModel, samples: Sequence[Sample], path: Path
) -> Iterator[tuple[Sample, Prediction]]:
    """Yield what `RuntimeModel.predict_samples` does for images, and write the records of up to `MAX_IMAGES` of them.

    path: of the file, which is complete when the last image was yielded.
    """
    count = len(samples)
    kept = np.random.default_rng(0).permutation(count)[:MAX_IMAGES]
    chosen = {samples[index].image_id for index in kept}
    time = datetime.now(UTC)
    with atomic_file(path) as file:
        for sample, found, observation in model.observe_samples(samples):
            if sample.image_id in chosen:
                size = sample.width, sample.height
                record = make_record(sample.path.name, found, observation, size, model.selection, bundle="", time=time)
                file.write(encode(record))
            yield sample, found
