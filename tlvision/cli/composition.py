"""Arguments that name a config: shared by the verbs that take one."""

from __future__ import annotations

import argparse

CONFIG = "a YAML file, a preset (`tlvision presets`), or several of these joined by +, such as FAMILY+mean_teacher"


def add_composition(parser: argparse.ArgumentParser) -> None:
    """Declare --with and --set."""
    parser.add_argument(
        "--with",
        dest="extra",
        nargs="+",
        action="extend",
        default=[],
        metavar="NAME",
        help="add these files or presets to the config's bases, for example --with mean_teacher my_data.yaml",
    )
    parser.add_argument(
        "--set",
        nargs="+",
        action="extend",
        default=[],
        metavar="KEY=VALUE",
        help="override a key; the value is YAML, for example --set train.lr=2e-4 hooks.ema.decay=0.99 "
        "'hooks=[{freeze: {roles: [stem]}}]'",
    )
