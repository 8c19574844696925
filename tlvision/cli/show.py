"""`tlvision show CONFIG [--with NAME …] [--set k=v …] [--origin]`."""

from __future__ import annotations

import argparse

from tlvision.cli.composition import CONFIG, add_composition


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the verb."""
    parser.add_argument("config", help=CONFIG)
    add_composition(parser)
    parser.add_argument("--origin", action="store_true", help="print every value and where it comes from, nothing else")


def run(options: argparse.Namespace) -> None:
    """Print the initial state of a training run, or the origin of each config value."""
    if options.origin:
        from tlvision.config.origins import format_origins

        print(format_origins(options.config, options.set, options.extra))
        return
    from tlvision.engine.inspect import show

    show(options.config, options.set, options.extra)
