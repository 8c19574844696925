"""`tlvision show CONFIG [--with NAME …] [--set k=v …] [--origin | --augment IMAGES]`."""

from __future__ import annotations

import argparse
from pathlib import Path

from tlvision.cli.composition import CONFIG, add_composition
from tlvision.types import InputError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the verb."""
    parser.add_argument("config", help=CONFIG)
    add_composition(parser)
    instead = parser.add_mutually_exclusive_group()
    instead.add_argument(
        "--augment", type=int, metavar="IMAGES", help="draw so many augmented training inputs with their labels instead"
    )
    parser.add_argument("--output", metavar="DIR", help="with --augment: folder for augmented.png (default: augmented)")
    instead.add_argument("--origin", action="store_true", help="print only the config values, each with its origin")


def run(options: argparse.Namespace) -> None:
    """Print the initial state of a training run or the origin of each config value, or draw augmented inputs."""
    if options.output is not None and options.augment is None:
        raise InputError("show: --output has no effect without --augment, which draws pictures")
    if options.origin:
        from tlvision.config.origins import format_origins

        print(format_origins(options.config, options.set, options.extra))
        return
    if options.augment is not None:
        from tlvision.engine.augment_pictures import show_augmented

        show_augmented(options.config, options.augment, Path(options.output or "augmented"), options.set, options.extra)
        return
    from tlvision.engine.inspect import show

    show(options.config, options.set, options.extra)
