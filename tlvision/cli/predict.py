"""`tlvision predict --run RUN IMAGES… --output DIR`."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the verb."""
    parser.add_argument("images", nargs="+", help="image files, folders (with those below), or patterns")
    parser.add_argument("--run", required=True, metavar="RUN", help="folder of a trained run")
    parser.add_argument(
        "--output", required=True, metavar="DIR", help="new folder for pictures and predictions.json, or label maps"
    )
    parser.add_argument(
        "--min-score",
        type=float,
        help="lowest score of an object (default: the thresholds of the run, for each class; 0 keeps all)",
    )
    parser.add_argument(
        "--max-detections", type=int, metavar="N", help="objects of an image at most (default: the run's)"
    )
    parser.add_argument(
        "--format",
        choices=("coco", "cvat", "label_studio"),
        help="also write the objects as labels to correct: a COCO dataset (FiftyOne and others), CVAT, Label Studio",
    )
    parser.add_argument(
        "--tiles", type=int, metavar="SIZE", help="cut images larger than SIZE pixels into tiles (default: as the run)"
    )
    parser.add_argument("--device", help="cpu, cuda or auto (default: as the run was trained)")


def run(options: argparse.Namespace) -> None:
    """Predict, draw, write."""
    from tlvision.engine.predict import predict_images

    predict_images(
        Path(options.run),
        options.images,
        Path(options.output),
        min_score=options.min_score,
        max_detections=options.max_detections,
        device=options.device,
        label_format=options.format,
        tiles=options.tiles,
    )
