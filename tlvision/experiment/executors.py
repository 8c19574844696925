"""Make the executor that an experiment's file names."""

from __future__ import annotations

import os

from tlvision.experiment.executor import Executor
from tlvision.experiment.file import ExperimentFile, LocalSettings
from tlvision.experiment.local import LocalExecutor
from tlvision.types import InputError


def make_executor(experiment: ExperimentFile, jobs: int | None = None) -> Executor:
    """Return the executor of an experiment; `jobs` replaces the number of trials at a time.

    Raises InputError if a library that it needs is not installed.
    """
    if jobs is not None and not 1 <= jobs <= 10_000:
        raise InputError(f"--jobs must be from 1 to 10000, got {jobs}")
    settings = experiment.executor
    if settings.ray is not None:
        from tlvision.experiment.ray_executor import RayExecutor

        return RayExecutor(settings.ray, jobs)
    if settings.slurm is not None:
        from tlvision.experiment.slurm_executor import SlurmExecutor

        return SlurmExecutor(settings.slurm, jobs)
    gpus = gpu_names()
    wanted = (settings.local or LocalSettings()).jobs if jobs is None else jobs
    return LocalExecutor(slots=max(1, len(gpus)) if wanted == "auto" else int(wanted), gpus=gpus)


def gpu_names() -> list[str]:
    """Return the GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    given = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    return [name.strip() for name in given.split(",")][:count] if given else [str(number) for number in range(count)]
