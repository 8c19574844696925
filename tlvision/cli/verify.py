"""`tlvision verify CONFIG [--with NAME …] [--set k=v …]`."""

from __future__ import annotations

import argparse

from tlvision.cli.composition import CONFIG, add_composition


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the verb."""
    parser.add_argument("config", help=CONFIG)
    add_composition(parser)


def run(options: argparse.Namespace) -> None:
    """Prove on the real model and images that everything the config freezes stays unchanged."""
    from tlvision.engine.verify import verify

    verify(options.config, options.set, options.extra)
