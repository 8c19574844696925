"""Warn about a teacher that produces no pseudo-labels, or far more objects than labelled images have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tlvision.hooks.pseudo_labels.targets import PseudoTargets
from tlvision.hooks.pseudo_labels.teacher import TeacherOutput, best_score
from tlvision.types import Prediction

if TYPE_CHECKING:
    from tlvision.hooks.base import Context

_TOO_MANY = 3.0
"""So many times the objects of a labelled image, and a teacher more likely trains the student on its own errors."""


class LabelMonitor:
    """Logs the share and the number of pseudo-labels, and adds a notice if they look wrong.

    name:     the hook in whose name it logs.
    patience: micro-batches without any label after which it warns, and warns again; also those over which the objects
              of an image are compared with those of labelled images.
    """

    def __init__(self, name: str, patience: int) -> None:
        self.name, self.patience = name, patience
        self._silent = 0
        self._seen = [0, 0, 0, 0, 0]  # micro-batches; unlabelled images and objects; labelled images and objects

    def observe(
        self, context: Context, output: TeacherOutput, labels: PseudoTargets, thresholds: Sequence[float]
    ) -> None:
        """Count the pseudo-labels of one micro-batch, made from `output` with `thresholds`."""
        context.measures[f"{self.name}/share"] = labels.share
        context.measures[f"{self.name}/labels"] = float(labels.count)
        self._silent = 0 if labels.count else self._silent + 1
        if self._silent and self._silent % self.patience == 0:
            context.notices.append(self._no_labels(output, thresholds))
        if isinstance(output[0], Prediction):
            self._compare(context, len(output), labels.count)

    def _compare(self, context: Context, images: int, objects: int) -> None:
        """Warn if the teacher finds far more objects in an image than labelled images have."""
        counts = context.step_data.batch.counts
        new = (1, images, objects, len(counts), sum(counts))
        self._seen = [before + more for before, more in zip(self._seen, new, strict=True)]
        steps, images, objects, labelled, known = self._seen
        if steps < self.patience:
            return
        self._seen = [0, 0, 0, 0, 0]
        if known and objects * labelled > _TOO_MANY * known * images:
            context.notices.append(
                f"{self.name}: possible confirmation bias: {objects / images:.1f} pseudo-labels per unlabelled image "
                f"over the last {steps} micro-batches, labelled images have {known / labelled:.1f} objects. Raise "
                "pseudo_labels.threshold, increase burn_in, or set max_pseudo_label_ratio."
            )

    def _no_labels(self, output: TeacherOutput, thresholds: Sequence[float]) -> str:
        low, high, best = min(thresholds), max(thresholds), max(map(best_score, output), default=0.0)
        values = f"{low:.2f}" if low == high else f"{low:.2f} to {high:.2f}"
        return (
            f"{self.name}: no pseudo-label passed the threshold in the last {self._silent} micro-batches (best score "
            f"{best:.3f}, threshold {values}), so unlabelled images contribute no loss. Lower threshold or increase "
            "burn_in."
        )

    def state(self) -> dict[str, Any]:
        """Return the state that a resumed run needs."""
        return {"silent": self._silent, "seen": list(self._seen)}

    def load(self, state: Mapping[str, Any]) -> None:
        """Restore what `state` returned."""
        self._silent, self._seen = int(state["silent"]), [int(value) for value in state["seen"]]
