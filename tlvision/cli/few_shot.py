"""`tlvision few-shot CONFIG [--images 1 5 10] [--draws 3] [--out DIR] [--jobs N] [--plan] …`."""

from __future__ import annotations

import argparse

from tlvision.cli.shortcuts import add_shortcut, run_shortcut
from tlvision.types import InputError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the verb."""
    add_shortcut(parser, "few-shot")
    parser.add_argument(
        "--images", nargs="+", type=int, default=[1, 5, 10], metavar="K", help="of each class (default: 1 5 10)"
    )
    parser.add_argument("--draws", type=int, default=3, metavar="N", help="draws of the images (default: 3)")


def run(options: argparse.Namespace) -> None:
    """Train on a few images of each class, and print the table."""
    from tlvision.experiment.builders import base_of, few_shot

    if not 1 <= options.draws <= 1000:
        raise InputError(f"few-shot: --draws must be from 1 to 1000, got {options.draws}")
    base, _ = base_of(options.config, options.extra, options.set)
    run_shortcut(few_shot(base, options.images, options.draws), options)
