"""`tlvision verify CONFIG [--set k=v …]`."""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the verb."""
    parser.add_argument("config", help="a YAML file")
    parser.add_argument("--set", nargs="+", action="extend", default=[], metavar="KEY=VALUE", help="as in train")


def run(options: argparse.Namespace) -> None:
    """Prove what the config freezes."""
    from tlvision.engine.verify import verify

    verify(options.config, options.set)
