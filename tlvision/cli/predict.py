"""`tlvision predict --run RUN INPUTS… --output DIR`."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the verb."""
    parser.add_argument(
        "images", nargs="+", metavar="INPUT", help="image or video files, folders (with those below), or patterns"
    )
    parser.add_argument(
        "--run", "--bundle", required=True, metavar="RUN", help="folder of a trained run, or of an exported bundle"
    )
    parser.add_argument(
        "--output",
        required=True,
        metavar="DIR",
        help="new folder for pictures, videos with the objects drawn, and predictions.json or label maps",
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
        choices=("coco", "cvat", "label_studio", "yolo"),
        help="also write the objects as labels to correct: a COCO dataset (FiftyOne and others), CVAT, Label Studio, "
        "or a YOLO dataset (txt files and images); frames of videos are then written as images as well",
    )
    parser.add_argument("--every", type=int, default=1, metavar="N", help="of videos, every N-th frame (default: all)")
    parser.add_argument(
        "--frames", action="store_true", help="of videos, write a picture of each frame instead of a video"
    )
    parser.add_argument(
        "--allow-download",
        action="store_true",
        help="allow http(s) addresses of images as inputs, which are downloaded (50 MiB each at most)",
    )
    parser.add_argument(
        "--log", metavar="FILE", help="with a bundle: append a record of each image to FILE, for 'tlvision monitor'"
    )
    parser.add_argument(
        "--log-images",
        type=float,
        metavar="RATE",
        help="with --log: also copy this share of the images, 0 to 1, to FILE.images (default: 0)",
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
        every=options.every,
        frames=options.frames,
        allow_download=options.allow_download,
        log=options.log and Path(options.log),
        log_images=options.log_images,
    )
