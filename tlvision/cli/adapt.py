"""`tlvision adapt CONFIG … [--seeds 0 1 2] [--out DIR] [--arms …] [--jobs N] [--plan] [--with …] [--set …]`."""

from __future__ import annotations

import argparse

from tlvision.cli.composition import CONFIG, add_composition
from tlvision.cli.shortcuts import add_running, running

ARMS = ("zero_shot", "source_only", "method", "oracle")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the verb."""
    parser.add_argument("configs", nargs="+", metavar="CONFIG", help=f"methods, which differ in their hooks: {CONFIG}")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2], help="default: 0 1 2")
    parser.add_argument("--out", default="runs/adapt", help="folder of the trials and the table")
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS), help="default: all of them")
    add_running(parser)
    add_composition(parser)


def run(options: argparse.Namespace) -> None:
    """Train the arms and print the table."""
    from tlvision.experiment.adapt import adapt

    adapt(
        options.configs,
        options.set,
        seeds=options.seeds,
        out=options.out,
        kinds=options.arms,
        extra=options.extra,
        **running(options),
    )
