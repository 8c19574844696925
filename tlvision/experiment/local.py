"""Run trials as processes on this machine."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from tlvision.experiment.plan import Trial
from tlvision.experiment.trial_process import PATIENCE, POLL, TLVISION, Outcome, TrialProcess


@dataclass(slots=True)
class LocalExecutor:
    """Runs trials in processes of their own.

    slots: trials at a time. gpus: names of the GPUs for CUDA_VISIBLE_DEVICES; each trial gets one, and without a GPU
           its share of the processor's cores.
    """

    slots: int = 1
    gpus: Sequence[str] = ()
    command: Sequence[str] = TLVISION
    _running: dict[int, TrialProcess] = field(default_factory=dict)

    def start(self, trial: Trial) -> None:
        """Start the process of a trial, or wait for the one that another runner has started."""
        slot = next(number for number in range(self.slots) if number not in self._running)
        self._running[slot] = TrialProcess(trial, self._environment(slot), self.command)

    def ended(self) -> list[Outcome]:
        """Return how those ended that have ended since the last call."""
        time.sleep(POLL)
        found = {slot: each.poll() for slot, each in self._running.items()}
        self._running = {slot: each for slot, each in self._running.items() if found[slot] is None}
        return [outcome for outcome in found.values() if outcome is not None]

    def stop(self) -> None:
        """Ask every process to save and end, and end those that do not."""
        for each in self._running.values():
            each.interrupt()
        until = time.monotonic() + PATIENCE
        for each in self._running.values():
            each.end(until)
        self._running.clear()

    def _environment(self, slot: int) -> dict[str, str]:
        if self.gpus:
            return {"CUDA_VISIBLE_DEVICES": self.gpus[slot % len(self.gpus)]}
        threads = max(1, (os.cpu_count() or 1) // self.slots)
        return {} if "OMP_NUM_THREADS" in os.environ else {"OMP_NUM_THREADS": str(threads)}
