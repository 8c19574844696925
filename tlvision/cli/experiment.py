"""`tlvision experiment FILE.yaml [--out DIR] [--jobs N] [--plan] [--with NAME …] [--set k=v …]`."""

from __future__ import annotations

import argparse
from pathlib import Path

from tlvision.cli.composition import add_composition
from tlvision.cli.shortcuts import add_running, running


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the verb."""
    parser.add_argument("file", metavar="FILE", help="YAML file with base, axes and compare")
    parser.add_argument("--out", metavar="DIR", help="folder of the trials and the table (default: runs/NAME_OF_FILE)")
    add_running(parser)
    add_composition(parser)


def run(options: argparse.Namespace) -> None:
    """Run the trials that are not finished, and print the table."""
    from tlvision.experiment.file import read_experiment, with_composition
    from tlvision.experiment.run import run_experiment

    path = Path(options.file)
    out = Path(options.out) if options.out else Path("runs") / path.stem
    experiment = with_composition(read_experiment(path), options.extra, options.set)
    run_experiment(experiment, path, out, **running(options))
