"""`python -m tlvision.synthetic.inspection --out DIR --domain target`: render the dataset into a folder."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from tlvision.synthetic.inspection import render_inspection
from tlvision.types import InputError, RunError

SIZES = {"source": (400, 60), "target": (40, 60)}
"""Images to train on and to validate on: much for pretraining, little for fine-tuning."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Render, and return the exit code: 0 done, 1 failed, 2 wrong input."""
    parser = argparse.ArgumentParser(prog="python -m tlvision.synthetic.inspection", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    parser.add_argument("--domain", choices=sorted(SIZES), default="target")
    parser.add_argument("--train", type=int, help="training images (400 for source, 40 for target)")
    parser.add_argument("--val", type=int, help="validation images (60)")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    train, val = SIZES[options.domain]
    train, val = options.train or train, options.val or val
    try:
        render_inspection(options.out, domain=options.domain, train=train, val=val, seed=options.seed)
    except (InputError, RunError) as error:
        print(error, file=sys.stderr)
        return 2 if isinstance(error, InputError) else 1
    print(f"{options.out}: {train} images in train.json, {val} in val.json")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
