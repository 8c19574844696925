"""Compare a bundle with the model that it was made of, on real images: outputs of the graphs, and predictions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from tlvision.data.batches import collate, normalise
from tlvision.data.dataset import EvalImages
from tlvision.export.torch_session import torch_sessions
from tlvision.inference.dense import dense_scores
from tlvision.plugin import Adapter, HasDenseLogits
from tlvision.plugin.export import ExportGraphs
from tlvision.runtime.model import RuntimeModel, prepare
from tlvision.types import Prediction, RunError, Sample

IMAGES = 8
"""Images that are compared, evenly spread over the data."""
PIXELS = 0.1
"""Largest difference of a box, in network-input pixels."""
SCORE = 1e-3
"""Largest difference of a score, and of other outputs relative to their largest value."""
SHARE = 0.99
"""Least share of the objects, or pixels, that the bundle must find as the model does."""
LEAST = 0.05
"""Score from which objects are compared; below it they change places at the smallest rounding."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """What the comparison has found.

    images:  compared. outputs: largest difference of each output of the graphs, "model/boxes" and so on.
    objects: of the model with a score of `LEAST` or more; the pixels of a segmenter.
    same:    share of them that the bundle finds too: same class, box within `PIXELS`, score within `SCORE`.
    box, score: largest differences of those that both find.
    """

    images: int
    outputs: Mapping[str, float]
    objects: int
    same: float
    box: float
    score: float

    def as_json(self) -> dict[str, Any]:
        """Return it for bundle.json, with the tolerances."""
        return {**asdict(self), "tolerances": {"pixels": PIXELS, "score": SCORE, "share": SHARE, "from_score": LEAST}}


def compare_bundle(
    model: RuntimeModel, adapter: Adapter, graphs: ExportGraphs, samples: Sequence[Sample], image_size: int
) -> Comparison:
    """Compare a bundle with the model in torch on some of the images, and return what was found.

    Raises RunError that names the first output, or the predictions, that differ by more than the tolerances.
    """
    chosen = [
        samples[index] for index in np.linspace(0, len(samples) - 1, min(IMAGES, len(samples))).round().astype(int)
    ]
    images = EvalImages(chosen, adapter.input_spec, image_size, cache_bytes=0, canvas=model.bundle.fixed)
    outputs: dict[str, float] = {}
    tally = Tally(LEAST)
    reference = torch_sessions(graphs)
    for index in range(len(chosen)):
        draw = images.draw(index)
        with torch.inference_mode():
            inputs = normalise(collate([draw]).images, adapter.input_spec)
            expected = reference["model"].run({"images": inputs.numpy()})
            wanted: Any = (
                dense_scores(adapter, inputs, model.bundle.window)
                if isinstance(adapter, HasDenseLogits)
                else adapter.predict(inputs)
            )
        own = prepare([draw[0]], adapter.input_spec)
        found = model.graph("model", {"images": own})
        for name in graphs.graphs["model"].outputs:
            _note(outputs, f"model/{name}", expected[name], found[name])
        tally.add(wanted[0], model.run(own)[0])
    comparison = Comparison(len(chosen), outputs, tally.objects, tally.share, tally.box, tally.score)
    if tally.share < SHARE:
        raise RunError(
            f"export: the bundle finds {tally.share:.1%} of what the model finds ({tally.objects:,} compared on "
            f"{len(chosen)} images; at least {SHARE:.0%} are wanted), though the outputs of the graphs agree. This is "
            "a fault of the plugin's decoder settings; please report it"
        )
    return comparison


def _note(outputs: dict[str, float], name: str, expected: Any, found: Any) -> None:
    """Keep the largest difference of an output; RunError if it is too large."""
    if expected.shape != found.shape:
        raise RunError(f"export: output '{name}' has shape {found.shape}, and {expected.shape} in the model")
    largest = float(np.abs(expected - found).max(initial=0.0))
    limit = PIXELS if name == "model/boxes" else SCORE * max(1.0, float(np.abs(expected).max(initial=0.0)))
    outputs[name] = max(largest, outputs.get(name, 0.0))
    if largest > limit:
        raise RunError(
            f"export: output '{name}' differs by {largest:.3g} from that of the model, and {limit:.3g} is allowed. The "
            "bundle was not written"
        )


class Tally:
    """Count objects with a score of `least` or more, or pixels, that both find."""

    def __init__(self, least: float) -> None:
        self.least = least
        self.objects = self.matched = 0
        self.box = self.score = 0.0

    @property
    def share(self) -> float:
        """The share of the model's objects, or pixels, that the bundle finds too; 1 if there are none."""
        return self.matched / self.objects if self.objects else 1.0

    def add(self, wanted: Any, found: Any) -> None:
        """Take the model's prediction, or scores (C, H, W), and the bundle's."""
        if not isinstance(wanted, Prediction):
            expected = wanted.numpy()
            self.objects += expected[0].size
            self.matched += int((expected.argmax(0) == found.argmax(0)).sum())
            self.score = max(self.score, float(np.abs(expected - found).max()))
            return
        mine = wanted.numpy().above(self.least)
        taken = np.zeros(len(found), bool)
        for box, score, label in zip(mine.boxes, mine.scores, mine.labels, strict=True):
            apart = np.abs(found.boxes - box).max(axis=1, initial=0.0)
            near = (apart <= PIXELS) & (np.abs(found.scores - score) <= SCORE) & (found.labels == label) & ~taken
            self.objects += 1
            if near.any():
                best = int(np.where(near, apart, np.inf).argmin())
                taken[best] = True
                self.matched += 1
                self.box = max(self.box, float(apart[best]))
                self.score = max(self.score, float(abs(found.scores[best] - score)))
