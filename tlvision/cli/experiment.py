"""`tlvision experiment FILE.yaml [--out DIR] [--jobs N] [--plan]`."""

from __future__ import annotations

import argparse
from pathlib import Path

from tlvision.types import InputError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the verb."""
    parser.add_argument("file", metavar="FILE", help="YAML file with base, axes and compare")
    parser.add_argument("--out", metavar="DIR", help="folder of the trials and the table (default: runs/NAME_OF_FILE)")
    parser.add_argument("--jobs", type=int, metavar="N", help="trials at a time (default: as the file says)")
    parser.add_argument("--plan", action="store_true", help="check every config, print the plan, and run nothing")


def run(options: argparse.Namespace) -> None:
    """Run the trials that are not finished, and print the table."""
    if options.jobs is not None and not 1 <= options.jobs <= 256:
        raise InputError(f"experiment: --jobs must be from 1 to 256, got {options.jobs}")
    from tlvision.experiment.file import read_experiment
    from tlvision.experiment.run import local_executor, run_experiment

    path = Path(options.file)
    out = Path(options.out) if options.out else Path("runs") / path.stem
    experiment = read_experiment(path)
    executor = local_executor(experiment, options.jobs)
    run_experiment(experiment, path, out, executor=executor, plan_only=options.plan)
