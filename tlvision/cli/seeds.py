"""`tlvision seeds CONFIG [--seeds 0 1 2] [--out DIR] [--jobs N] [--plan] [--with NAME …] [--set k=v …]`."""

from __future__ import annotations

import argparse

from tlvision.cli.shortcuts import add_shortcut, run_shortcut


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the verb."""
    add_shortcut(parser, "seeds")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2], help="default: 0 1 2")


def run(options: argparse.Namespace) -> None:
    """Train with every seed, and print the spread."""
    from tlvision.experiment.builders import base_of, seeds

    base, _ = base_of(options.config, options.extra, options.set)
    run_shortcut(seeds(base, options.seeds), options)
