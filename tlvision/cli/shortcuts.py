"""Arguments and output that the verbs share which make an experiment of one config."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

from tlvision.cli.composition import CONFIG, add_composition

if TYPE_CHECKING:
    from tlvision.experiment.file import ExperimentFile


class Running(TypedDict):
    """How an experiment runs."""

    jobs: int | None
    plan_only: bool
    estimate: bool


def add_shortcut(parser: argparse.ArgumentParser, verb: str) -> None:
    """Declare config, --out, --with, --set and those of `add_running`."""
    parser.add_argument("config", metavar="CONFIG", help=CONFIG)
    parser.add_argument(
        "--out",
        default=f"runs/{verb}",
        metavar="DIR",
        help=f"folder of the trials and the table (default: runs/{verb})",
    )
    add_running(parser)
    add_composition(parser)


def add_running(parser: argparse.ArgumentParser) -> None:
    """Declare --jobs, --plan and --estimate, which all experiments have."""
    parser.add_argument("--jobs", type=int, metavar="N", help="trials at a time (default: one for each GPU)")
    parser.add_argument("--plan", action="store_true", help="check every config, print the plan, and run nothing")
    parser.add_argument(
        "--estimate", action="store_true", help="train the first trial for one epoch, and print how long all take"
    )


def running(options: argparse.Namespace) -> Running:
    """Return those options as `run_experiment` takes them."""
    return {"jobs": options.jobs, "plan_only": options.plan, "estimate": options.estimate}


def run_shortcut(experiment: ExperimentFile, options: argparse.Namespace) -> dict[str, Any] | None:
    """Run the experiment, and return its table, None with --plan."""
    from tlvision.experiment.run import run_experiment

    return run_experiment(experiment, Path("config"), Path(options.out), **running(options))
