"""`tlvision learning-curve CONFIG [--fractions 0.1 0.25 0.5 1] [--seeds 0 1 2] [--no-scratch] …`."""

from __future__ import annotations

import argparse

from tlvision.cli.shortcuts import add_shortcut, run_shortcut


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the verb."""
    add_shortcut(parser, "learning-curve")
    parser.add_argument(
        "--fractions",
        nargs="+",
        type=float,
        default=[0.1, 0.25, 0.5, 1.0],
        metavar="F",
        help="shares of data.train (default: 0.1 0.25 0.5 1)",
    )
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2], help="default: 0 1 2")
    parser.add_argument("--no-scratch", action="store_true", help="leave out the runs from random weights")


def run(options: argparse.Namespace) -> None:
    """Train on shares of the images, and print the table."""
    from tlvision.experiment.builders import base_of, learning_curve

    base, _ = base_of(options.config, options.extra, options.set)
    run_shortcut(learning_curve(base, options.fractions, options.seeds, scratch=not options.no_scratch), options)
