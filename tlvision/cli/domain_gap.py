"""`tlvision domain-gap A B --run RUN`, or `--plugin P --arch ARCH --weights W [--classes …]` in place of the run."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the verb."""
    parser.add_argument("a", metavar="A", help="folder of images: the domain with labels")
    parser.add_argument("b", metavar="B", help="folder of images: the domain that the model is meant for")
    parser.add_argument("--a-json", metavar="JSON", help="of A, only the `images` of this json; no label is read")
    parser.add_argument("--b-json", metavar="JSON", help="the same for B")
    parser.add_argument("--run", metavar="RUN", help="look through the model of this trained run")
    parser.add_argument("--plugin", help="look through a pretrained model: the plugin")
    parser.add_argument("--arch", help="with --plugin: the architecture")
    parser.add_argument("--weights", help="with --plugin: coco, imagenet, pretrained, none, or a path")
    parser.add_argument(
        "--classes",
        nargs="+",
        metavar="NAME",
        help="with --plugin: the classes to predict, or a text file of them; without it only features are compared",
    )
    parser.add_argument("--image-size", type=int, help="long side of the network input (default: the run's, or 640)")
    parser.add_argument("--limit", type=int, default=200, help="images of a side, evenly spread (default: 200)")
    parser.add_argument("--tap", help="the tap to draw (default: the one with the largest gap)")
    parser.add_argument("--seed", type=int, default=0, help="of the random subsets (default: 0)")
    parser.add_argument("--out", default="runs/domain_gap", metavar="DIR", help="default: runs/domain_gap")


def run(options: argparse.Namespace) -> None:
    """Measure, print the tables and the advice, write json and picture."""
    from tlvision.analysis.domain_gap.measure import GapSettings, ImageSource, domain_gap
    from tlvision.analysis.features import ModelChoice

    domain_gap(
        ImageSource(Path(options.a), options.a_json and Path(options.a_json)),
        ImageSource(Path(options.b), options.b_json and Path(options.b_json)),
        ModelChoice(
            run=options.run and Path(options.run),
            plugin=options.plugin,
            arch=options.arch,
            weights=options.weights,
            classes=tuple(options.classes or ()),
            image_size=options.image_size,
        ),
        GapSettings(limit=options.limit, tap=options.tap, seed=options.seed, out=Path(options.out)),
    )
