"""`tlvision adapt CONFIG … [--seeds 0 1 2] [--out DIR] [--arms …] [--set k=v …]`."""

from __future__ import annotations

import argparse

ARMS = ("zero_shot", "source_only", "method", "oracle")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the verb."""
    parser.add_argument(
        "configs", nargs="+", metavar="CONFIG", help="YAML files of methods, which differ in their hooks"
    )
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2], help="default: 0 1 2")
    parser.add_argument("--out", default="runs/adapt", help="folder of the runs, adapt.json and adapt.html")
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS), help="default: all of them")
    parser.add_argument("--set", nargs="+", action="extend", default=[], metavar="KEY=VALUE", help="as in train")


def run(options: argparse.Namespace) -> None:
    """Train the arms and print the table."""
    from tlvision.experiment.adapt import adapt

    adapt(options.configs, options.set, seeds=options.seeds, out=options.out, kinds=options.arms)
