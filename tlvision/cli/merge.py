"""`tlvision merge --run RUN --output FILE`."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the verb."""
    parser.add_argument("--run", required=True, metavar="RUN", help="folder of a trained run with a hook such as lora")
    parser.add_argument("--output", required=True, metavar="FILE", help="new weight file, .safetensors")


def run(options: argparse.Namespace) -> None:
    """Write the merged weights."""
    from tlvision.engine.merge import merge_run
    from tlvision.types import listing

    merged = merge_run(Path(options.run), Path(options.output))
    print(f"merged         {listing(merged)}\nweights        {options.output}")
