"""A hook that ends a run as its user would."""

from __future__ import annotations

import os

from tlvision.hooks import Context, ObserverHook


class Interrupt(ObserverHook):
    """Press Ctrl-C after a given step."""

    def __init__(self, *, step: int) -> None:
        self.step = step

    def after_step(self, context: Context) -> None:
        if context.step == self.step:
            os.kill(os.getpid(), 2)
