"""Run trials as tasks of a Ray cluster (extra `ray`)."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tlvision.experiment.file import RaySettings
from tlvision.experiment.plan import Trial
from tlvision.experiment.trial_process import PATIENCE, POLL, TLVISION, Outcome, is_done, run_to_end
from tlvision.types import InputError

_STORE = 100_000_000
"""Bytes of the object store of a local Ray; outcomes are small."""


class RayExecutor:
    """Runs each trial in a task of a Ray cluster, which chooses the machine and the time.

    The folders of the experiment and of its data lie on a file system that all machines share, under the same path, and
    each machine has tlvision. A task whose worker dies is started once more, and goes on from the last checkpoint.

    settings: what a trial gets. If `gpus` is not set and no machine has a GPU, a trial gets none.
    jobs:     replaces the number of trials that are submitted at a time.
    command:  the words of `tlvision`; None for the Python of the worker.

    Raises InputError if Ray is not installed.
    """

    def __init__(self, settings: RaySettings, jobs: int | None = None, command: Sequence[str] | None = None) -> None:
        try:
            import ray
        except ImportError:
            raise InputError('executor.ray: ray is not installed. Do: pip install "tlvision[ray]"') from None
        self.slots = settings.jobs if jobs is None else jobs
        self._ray: Any = ray
        self._settings, self._command = settings, command
        self._running: dict[Any, Trial] = {}
        self._task: Any = None
        self._gpus, self._connected = 0.0, False

    def start(self, trial: Trial) -> None:
        """Submit a trial; the first one connects to the cluster, or starts a local one.

        Raises InputError if there is no such cluster, or none of its machines has what a trial asks for.
        """
        if self._task is None:
            self._connect()
            self._gpus = self._choose_gpus()
            options = {"num_cpus": self._settings.cpus, "num_gpus": self._gpus, "max_retries": 1}
            self._task = self._ray.remote(_run).options(**options)
        task = self._task.remote(trial, self._environment(), self._command, str(Path.cwd()))
        self._running[task] = trial

    def ended(self) -> list[Outcome]:
        """Return how those ended that have ended since the last call."""
        if not self._running:
            time.sleep(POLL)
            return []
        tasks = list(self._running)
        ready, _ = self._ray.wait(tasks, num_returns=len(tasks), timeout=POLL)
        return [self._outcome(task) for task in ready]

    def stop(self) -> None:
        """Take back what waits, ask the rest to save and end, and disconnect."""
        tasks = list(self._running)
        for task in tasks:
            self._ray.cancel(task)
        if tasks:
            self._ray.wait(tasks, num_returns=len(tasks), timeout=PATIENCE)
        self._running.clear()
        self._task = None
        if self._connected:
            self._ray.shutdown()
            self._connected = False

    def _connect(self) -> None:
        if self._ray.is_initialized():
            return
        address = self._settings.address
        local: dict[str, Any] = {"address": "local", "include_dashboard": False, "object_store_memory": _STORE}
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        try:
            self._ray.init(**({"address": address} if address else local), log_to_driver=False, logging_level="ERROR")
        except (ConnectionError, ImportError, RuntimeError) as error:
            raise InputError(
                f"executor.ray.address: no connection to '{address or 'local'}' ({error}). Set that of a cluster."
            ) from error
        self._connected = True

    def _choose_gpus(self) -> float:
        """Return the GPUs of a trial; InputError if no machine has so many, on which the trial would wait for ever."""
        machines = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        given = "gpus" in self._settings.model_fields_set or any(machine.get("GPU") for machine in machines)
        cpus, gpus = self._settings.cpus, self._settings.gpus if given else 0.0
        if not any(machine.get("CPU", 0) >= cpus and machine.get("GPU", 0) >= gpus for machine in machines):
            found = sorted({f"{machine.get('CPU', 0):g} CPU and {machine.get('GPU', 0):g} GPU" for machine in machines})
            raise InputError(
                f"executor.ray: a trial asks for {cpus:g} CPU and {gpus:g} GPU, but no machine has both: "
                f"{', '.join(found)}. Set cpus and gpus to what one of them has."
            )
        return gpus

    def _environment(self) -> dict[str, str]:
        threads = os.environ.get("OMP_NUM_THREADS") or str(max(1, int(self._settings.cpus)))
        hidden = {} if self._gpus else {"CUDA_VISIBLE_DEVICES": ""}  # Ray hides GPUs only from tasks that ask for some
        return {"OMP_NUM_THREADS": threads, **hidden}

    def _outcome(self, task: Any) -> Outcome:
        trial, errors = self._running.pop(task), self._ray.exceptions
        try:
            outcome: Outcome = self._ray.get(task)
            return outcome
        except errors.RayTaskError as error:
            problem = f"its Ray task failed, {error.cause!r}"
        except errors.RayError as error:
            problem = f"its Ray worker died twice ({type(error).__name__}); repeat the command to go on"
        return Outcome(trial, None, "" if is_done(trial) else problem)


def _run(trial: Trial, environment: dict[str, str], command: Sequence[str] | None, folder: str) -> Outcome:
    """Run a trial in the worker, in the folder of the runner: paths of a config may be relative to it."""
    os.chdir(folder)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})  # Ray blocks it, and the trial would inherit that
    return run_to_end(trial, environment, command or TLVISION)
