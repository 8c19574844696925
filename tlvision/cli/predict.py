"""`tlvision predict --run RUN IMAGES… --output DIR`."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the verb."""
    parser.add_argument("images", nargs="+", help="image files, or folders of them")
    parser.add_argument("--run", required=True, metavar="RUN", help="folder of a trained run")
    parser.add_argument("--output", required=True, metavar="DIR", help="folder for pictures and predictions.json")
    parser.add_argument("--min-score", type=float, default=0.25, help="draw boxes from this score on (default 0.25)")


def run(options: argparse.Namespace) -> None:
    """Predict, draw, write."""
    from tlvision.config.predict import predict_images

    predict_images(
        Path(options.run), [Path(path) for path in options.images], Path(options.output), min_score=options.min_score
    )
