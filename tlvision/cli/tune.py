"""`tlvision tune CONFIG [--space KEY=RANGE …] [--method halving] [--trials 20] [--seeds 0 1 2] [--out DIR] …`."""

from __future__ import annotations

import argparse
from typing import Any

from tlvision.cli.shortcuts import add_shortcut, run_shortcut
from tlvision.types import InputError

METHODS = ("grid", "random", "halving", "optuna")
SPACE = ["train.lr={log: [3.0e-5, 1.0e-2]}"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the verb."""
    add_shortcut(parser, "tune")
    parser.add_argument(
        "--space",
        nargs="+",
        default=SPACE,
        metavar="KEY=RANGE",
        help="what is tried: [1e-4, 1e-3], or one of {values: […]}, {log: [low, high]}, {uniform: [low, high]}, "
        f"{{integer: [low, high]}} (default: '{SPACE[0]}')",
    )
    parser.add_argument("--method", choices=METHODS, default="halving", help="default: halving")
    parser.add_argument("--trials", type=int, metavar="N", help="candidates (default: 20, or all of a few values)")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2], help="of the winner; default: 0 1 2")
    parser.add_argument(
        "--held-out", type=int, default=5, metavar="K", help="one part of K of data.train chooses (default: 5)"
    )
    parser.add_argument("--group-by", metavar="KEY", help="keep images of a group on one side of that division")


def run(options: argparse.Namespace) -> None:
    """Search, train the winner, and print the table."""
    from tlvision.experiment.builders import base_of, tune

    search: dict[str, Any] = {"method": options.method, "space": _space(options.space)}
    search["tune"] = {"fold": [0, options.held_out]}
    if options.group_by is not None:
        search["tune"]["group_by"] = options.group_by
    if options.trials is not None:
        search["trials"] = options.trials
    base, _ = base_of(options.config, options.extra, options.set)
    run_shortcut(tune(base, search, options.seeds), options)


def _space(given: list[str]) -> dict[str, Any]:
    from tlvision.config.yaml_text import parse_yaml

    space = {}
    for each in given:
        key, equals, text = each.partition("=")
        if not equals:
            raise InputError(f"tune: --space: expected KEY=RANGE, such as '{SPACE[0]}', got '{each}'")
        found = parse_yaml(text, f"--space {key}")
        space[key.strip()] = {"values": found} if isinstance(found, list) else found
    return space
