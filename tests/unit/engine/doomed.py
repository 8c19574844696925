"""Run by `test_resume.py`: train as a config says, draw from every random generator, and die as told.

    python doomed.py CONFIG.yaml STEP MOMENT
    python doomed.py --resume RUN

MOMENT "saved": SIGKILL as soon as the checkpoint of STEP is whole, so before the evaluation where an epoch ends there;
"saving": in the middle of writing that checkpoint; "evaluated": after the evaluation that follows STEP.
"""

from __future__ import annotations

import os
import random
import signal
import sys
from typing import Any

import numpy as np
import torch

from tlvision.engine import train as runs
from tlvision.hooks import Context, ObserverHook
from tlvision.training import manifest
from tlvision.training.session import Session


class Noise(ObserverHook):
    """Pull the head's biases about at random, so that a generator that is not restored changes the weights.

    Not by a loss: a hook draws those from generators of its own.
    """

    def after_backward(self, context: Context) -> None:
        pull = random.random() + float(np.random.rand()) + torch.rand(())
        biases = [p for name, p in context.adapter.module.named_parameters() if name.endswith("classify.bias")]
        assert biases
        for bias in biases:
            assert bias.grad is not None
            bias.grad += 0.01 * pull * bias.detach()


def with_noise(config: Any, **options: Any) -> Any:
    parts = ASSEMBLE(config, **options)
    parts.hooks.insert(0, Noise())
    return parts


ASSEMBLE = runs.build_run


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def doom(step: int, moment: str) -> None:
    """Arrange for this process to be killed."""
    save, evaluate = Session.save, Session.evaluate

    def save_and_die(self: Session, name: str) -> None:
        at = name == "last" and self.context.step == step
        if at and moment == "saving":
            manifest.write_manifest = lambda *_: die()  # type: ignore[assignment]
        save(self, name)
        if at and moment == "saved":
            die()

    def evaluate_and_die(self: Session) -> None:
        evaluate(self)
        if self.context.step == step and moment == "evaluated":
            die()

    Session.save, Session.evaluate = save_and_die, evaluate_and_die  # type: ignore[method-assign]


if __name__ == "__main__":
    runs.build_run = with_noise
    if sys.argv[1] == "--resume":
        runs.train({}, resume=sys.argv[2])
    else:
        if len(sys.argv) > 2:
            doom(int(sys.argv[2]), sys.argv[3])
        runs.train(sys.argv[1])
