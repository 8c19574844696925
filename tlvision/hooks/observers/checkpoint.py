"""Keep the last state, to go on from, and the best weights, to use."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from tlvision.hooks.base import Context, ObserverHook


class Checkpoint(ObserverHook):
    """Write `checkpoints/last` and `checkpoints/best`; part of every run.

    every:       epochs between two writes of `last`, at least 1; the end of the run and Ctrl-C always write it.
    every_steps: also write it each time so many steps have been taken, for machines that may go away at any moment;
                 None does not.
    """

    def __init__(
        self, *, every: Annotated[int, Field(ge=1)] = 1, every_steps: Annotated[int, Field(ge=1)] | None = None
    ) -> None:
        self.every, self.every_steps = every, every_steps
        self._saved_at = -1

    def after_step(self, context: Context) -> None:
        """Write `last` within an epoch, if `every_steps` is set."""
        if self.every_steps is not None and context.step % self.every_steps == 0:
            context.save("last")

    def after_evaluation(self, context: Context) -> None:
        """Keep these weights if the selected metric is the best so far."""
        value = context.metrics[context.select]
        if context.best is None or context.gain(value, context.best) > 0:
            context.best = value
            context.save("best")

    def after_epoch(self, context: Context) -> None:
        """Write `last` every so often."""
        if context.epoch % self.every == 0:
            context.save("last")
            self._saved_at = context.step

    def after_fit(self, context: Context) -> None:
        """Write `last` at the end, if the last epoch did not."""
        if self._saved_at != context.step:
            context.save("last")
