"""`tlvision stress RUN [--images N] [--corruptions NAME …] [--severities 1 3 5]`."""

from __future__ import annotations

import argparse
from pathlib import Path

from tlvision.analysis.robustness.severities import SCALES, SEVERITIES


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the verb."""
    parser.add_argument("run", metavar="RUN", help="folder of a trained run, or a bundle; its validation data are used")
    parser.add_argument(
        "--images", type=int, default=100, metavar="N", help="images at most, evenly spread (default: 100)"
    )
    parser.add_argument(
        "--corruptions",
        nargs="+",
        default=[*SCALES],
        metavar="NAME",
        help=f"some of {', '.join(SCALES)} (default: all)",
    )
    parser.add_argument(
        "--severities",
        nargs="+",
        type=int,
        default=[*SEVERITIES],
        metavar="S",
        help="some of 1 to 5 (default: all)",
    )
    parser.add_argument("--seed", type=int, default=0, help="of the random draws of the corruptions (default: 0)")
    parser.add_argument("--output", metavar="DIR", help="folder for the results (default: RUN/stress/NAME_OF_THE_DATA)")


def run(options: argparse.Namespace) -> None:
    """Measure, print the table and the conclusion, write JSON and pictures."""
    from tlvision.analysis.robustness.stress import StressSettings, stress_run

    stress_run(
        Path(options.run),
        StressSettings(
            images=options.images,
            corruptions=tuple(options.corruptions),
            severities=tuple(options.severities),
            seed=options.seed,
            out=None if options.output is None else Path(options.output),
        ),
    )
