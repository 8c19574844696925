"""End a run as its user would."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tlvision.engine import train as runs
from tlvision.hooks import Context, ObserverHook


class Interrupt(ObserverHook):
    """Press Ctrl-C after a given step."""

    def __init__(self, *, step: int) -> None:
        self.step = step

    def after_step(self, context: Context) -> None:
        if context.step == self.step:
            os.kill(os.getpid(), 2)


@contextmanager
def interrupted(step: int) -> Iterator[None]:
    """Press Ctrl-C after a step of the run that is trained inside the with-block; fail if it does not end there."""
    build = runs.build_session

    def build_and_interrupt(*arguments: Any) -> Any:
        session = build(*arguments)
        session.hooks.append(Interrupt(step=step))
        return session

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runs, "build_session", build_and_interrupt)
        with pytest.raises(KeyboardInterrupt, match=f"stopped at step {step}"):
            yield
