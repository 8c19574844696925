"""`tlvision new-plugin NAME [--task TASK] [--in FOLDER]`."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the verb."""
    parser.add_argument("name", help="the plugin's name in a config: lower-case letters, digits, underscores")
    parser.add_argument(
        "--task",
        default="detect",
        choices=("detect", "instance", "semantic"),
        help="task of the tiny model inside (default: detect)",
    )
    parser.add_argument("--in", dest="parent", type=Path, default=Path(), metavar="FOLDER", help="where to write it")


def run(options: argparse.Namespace) -> None:
    """Write the plugin folder and print the next steps."""
    from tlvision.conformance.new_plugin import NOUNS, new_plugin

    folder = new_plugin(options.name, options.parent, task=options.task)
    print(f"{folder}: a plugin with a tiny {NOUNS[options.task]} that works as it stands")
    print(f"next           pip install -e {folder}")
    print(f"then           tlvision check-plugin {options.name}")
