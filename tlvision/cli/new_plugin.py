"""`tlvision new-plugin NAME [--in FOLDER]`."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the verb."""
    parser.add_argument("name", help="the plugin's name in a config: lower-case letters, digits, underscores")
    parser.add_argument("--in", dest="parent", type=Path, default=Path(), metavar="FOLDER", help="where to write it")


def run(options: argparse.Namespace) -> None:
    """Write the plugin folder and print the next steps."""
    from tlvision.conformance.new_plugin import new_plugin

    folder = new_plugin(options.name, options.parent)
    print(f"{folder}: a plugin with a tiny detector that works as it stands")
    print(f"next           pip install -e {folder}")
    print(f"then           tlvision check-plugin {options.name}")
