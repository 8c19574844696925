"""End a run that no longer gets better.

Source: Prechelt, "Early Stopping — But When?", 1998; the simplest of its criteria: no improvement for a while.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field

from tlvision.hooks.base import Context, ObserverHook


class EarlyStop(ObserverHook):
    """Stop when the selected metric has not improved for `patience` evaluations.

    patience:  evaluations without an improvement that are waited for, at least 1.
    min_delta: an improvement smaller than this does not count, in units of the metric (AP: 0..1).
    """

    def __init__(
        self,
        *,
        patience: Annotated[int, Field(ge=1)] = 10,
        min_delta: Annotated[float, Field(ge=0)] = 0.0,
    ) -> None:
        self.patience, self.min_delta = patience, min_delta
        self._best: float | None = None
        self._waited = 0

    def after_evaluation(self, context: Context) -> None:
        """Count evaluations without an improvement."""
        value = context.metrics[context.select]
        if self._best is None or context.gain(value, self._best) > self.min_delta:
            self._best, self._waited = value, 0
            return
        self._waited += 1
        if self._waited >= self.patience:
            context.stop(
                f"{context.select} has not improved on {self._best:.4f} for {self._waited} evaluations (early_stop)"
            )

    def state_dict(self) -> dict[str, Any]:
        """Return the best value and how long it has stood."""
        return {"best": self._best, "waited": self._waited}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self._best, self._waited = state["best"], int(state["waited"])
