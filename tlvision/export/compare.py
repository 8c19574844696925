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
from tlvision.plugin.export import TAP_PREFIX, ExportGraphs
from tlvision.runtime.model import RuntimeModel, prepare
from tlvision.runtime.sessions import Session
from tlvision.types import Prediction, RunError, Sample

IMAGES = 8
"""Images that are compared, evenly spread over the data."""
PIXELS = 0.1
"""Largest difference of a box, in network-input pixels."""
SCORE = 1e-3
"""Largest difference of a score, and of other outputs relative to their largest value."""
SHARE = 0.99
"""Least share of the objects, or pixels, that the bundle must find as the model does."""
QUERIES = 0.05
"""Largest share of queries that differ where the graph chooses them: at the border of the choice rounding decides."""
MASK = 0.02
"""Largest share of a mask's pixels that differ, one pixel at least."""
LEAST = 0.05
"""Score from which objects are compared; below it they change places at the smallest rounding."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """What the comparison has found.

    images:  compared. outputs: largest difference of each output of the graphs, "model/boxes" and so on; of queries
             that the graph chooses "model/queries", the share that differs.
    objects: of model or bundle with a score of `LEAST` or more; the pixels of a segmenter.
    same:    share of those that model or bundle find which both find: same class, box within `PIXELS`, score within
             `SCORE`, mask but for `MASK`. None if there are none.
    box, score: largest differences of those that both find.
    """

    images: int
    outputs: Mapping[str, float]
    objects: int
    same: float | None
    box: float
    score: float

    def as_json(self) -> dict[str, Any]:
        """Return it for bundle.json, with the tolerances."""
        return {
            **asdict(self),
            "tolerances": {"pixels": PIXELS, "score": SCORE, "mask": MASK, "share": SHARE, "from_score": LEAST},
        }


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
        found = model.graph("model", {"images": own}, taps=True)
        graph = graphs.graphs["model"]
        for name in graph.outputs:
            if graph.ordered or name.startswith(TAP_PREFIX):
                _note(outputs, f"model/{name}", expected[name], found[name])
        if not graph.ordered:
            _compare_queries(outputs, expected, found)
        for name in graphs.graphs:
            if name != "model":
                _compare_regions(outputs, name, model, reference[name], found["level_0"])
        tally.add(wanted[0], model.run(own)[0])
    comparison = Comparison(len(chosen), outputs, tally.objects, tally.share, tally.box, tally.score)
    if tally.share is not None and tally.share < SHARE:
        raise RunError(
            f"export: bundle and model find the same {tally.share:.1%} of {tally.objects:,} objects or pixels on "
            f"{len(chosen)} images; at least {SHARE:.0%} are wanted, though the outputs of the graphs agree. This is "
            "a fault of the plugin's decoder settings; please report it"
        )
    return comparison


def _compare_queries(outputs: dict[str, float], expected: Mapping[str, Any], found: Mapping[str, Any]) -> None:
    """Note the share of queries that one of both alone has, wherever it stands; RunError if it is too large.

    expected, found: "boxes" (1, A, 4) and "scores" (1, A, C).
    """
    mine, other = (
        np.concatenate([each["boxes"][0] / PIXELS, each["scores"][0] / SCORE], axis=1) for each in (expected, found)
    )
    away = np.stack([np.abs(other - row).max(axis=1) for row in mine])  # (A, A), in tolerances
    alone = max(float((away.min(axis=axis) > 1).mean()) for axis in (0, 1))
    outputs["model/queries"] = max(alone, outputs.get("model/queries", 0.0))
    if alone > QUERIES:
        raise RunError(
            f"export: {alone:.1%} of the queries are not those of the model, and {QUERIES:.0%} are allowed. The bundle "
            "was not written"
        )


def _compare_regions(
    outputs: dict[str, float], name: str, model: RuntimeModel, reference: Session, features: Any
) -> None:
    """Compare the outputs of a graph of regions on places of a level, (1, F, h, w), drawn with a seed."""
    rng = np.random.default_rng(0)
    height, width = features.shape[2:]
    corners = np.sort(rng.uniform(0, 1, (16, 2, 2)), axis=1) * [width, height]  # two corners (x, y) each
    places = corners.reshape(16, 4).astype(np.float32)
    given = {"features": features, "places": places, "images": np.zeros(16, np.int64)}
    expected, found = reference.run(given), model.graph(name, given)
    for output, values in expected.items():
        _note(outputs, f"{name}/{output}", values, found[output])


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
    """Count objects with a score of `least` or more, or pixels, that both find, and those that one alone finds."""

    def __init__(self, least: float) -> None:
        self.least = least
        self.objects = self.matched = 0
        self.box = self.score = 0.0

    @property
    def share(self) -> float | None:
        """The share of what either finds that both find; None if there is nothing to compare."""
        return self.matched / self.objects if self.objects else None

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
        for index in range(len(mine)):
            apart = np.abs(found.boxes - mine.boxes[index]).max(axis=1, initial=0.0)
            near = (apart <= PIXELS) & (np.abs(found.scores - mine.scores[index]) <= SCORE)
            near &= (found.labels == mine.labels[index]) & ~taken
            best = int(np.where(near, apart, np.inf).argmin()) if near.any() else None
            if best is not None and _same_mask(mine, index, found, best):
                taken[best] = True
                self.matched += 1
                self.box = max(self.box, float(apart[best]))
                self.score = max(self.score, float(abs(found.scores[best] - mine.scores[index])))
        # One that the bundle alone finds counts too, unless its score lies at the limit, where rounding decides.
        self.objects += len(mine) + int((~taken & (found.scores >= self.least + SCORE)).sum())


def _same_mask(wanted: Prediction, index: int, found: Prediction, other: int) -> bool:
    """Return whether two objects have the same mask, but for `MASK` of its pixels; without masks, True."""
    if wanted.masks is None or found.masks is None:
        return wanted.masks is found.masks
    first, second = wanted.masks[index], found.masks[other]
    return int((first != second).sum()) <= MASK * max(int((first | second).sum()), 1 / MASK)
