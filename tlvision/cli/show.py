"""`tlvision show CONFIG [--set k=v …]`."""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the verb."""
    parser.add_argument("config", help="a YAML file")
    parser.add_argument("--set", nargs="+", action="extend", default=[], metavar="KEY=VALUE", help="as in train")


def run(options: argparse.Namespace) -> None:
    """Print what a training run would start from."""
    from tlvision.engine.inspect import show

    show(options.config, options.set)
