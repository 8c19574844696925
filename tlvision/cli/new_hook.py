"""`tlvision new-hook NAME [--kind KIND] [--in FOLDER]`."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the verb."""
    parser.add_argument("name", help="the hook's name in a config: lower-case letters, digits, underscores")
    parser.add_argument(
        "--kind",
        default="setup",
        choices=("setup", "objective", "data", "observer", "model"),
        help="kind of hook; see docs/writing-a-hook.md (default: setup)",
    )
    parser.add_argument("--in", dest="parent", type=Path, default=Path(), metavar="FOLDER", help="where to write it")


def run(options: argparse.Namespace) -> None:
    """Write the folder and print the next steps."""
    from tlvision.conformance.new_hook import new_hook

    folder = new_hook(options.name, options.parent, kind=options.kind)
    print(f"{folder}: a hook of the kind {options.kind} that works without changes")
    print(f"next           pip install -e {folder}")
    print(f"then           tlvision check-hook {options.name}")
