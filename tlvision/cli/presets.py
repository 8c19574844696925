"""`tlvision presets`, and `tlvision presets NAME` for the text of one."""

from __future__ import annotations

import argparse
import textwrap

from tlvision.types import InputError, nearest

TITLES = {
    "start": "a first run, with images that tlvision draws: tlvision train quickstart",
    "families": "model families, with the values that suit them",
    "methods": "methods, for any family: tlvision train FAMILY --with METHOD DATA",
    "data": "where data lie; copy one, and put your own paths into it",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the verb."""
    parser.add_argument("name", nargs="?", help="print this preset")


def run(options: argparse.Namespace) -> None:
    """Print the presets that come with tlvision, or the text of one."""
    from tlvision.config.presets import presets

    known = presets()
    if options.name is None:
        for kind, title in TITLES.items():
            print(title)
            for preset in known.values():
                if preset.kind == kind:
                    print(_entry(preset.name, preset.purpose()))
            print()
        return
    if options.name not in known:
        raise InputError(f"presets: no preset '{options.name}'.{nearest(options.name, known)}")
    print(known[options.name].path.read_text(encoding="utf-8"), end="")


def _entry(name: str, purpose: str) -> str:
    return textwrap.fill(
        purpose, 120, initial_indent=f"  {name:<26}", subsequent_indent=" " * 28, break_on_hyphens=False
    )
