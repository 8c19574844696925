"""`tlvision explain --run RUN IMAGES… --output DIR`."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the verb."""
    parser.add_argument("images", nargs="+", help="image files, folders (with those below), or patterns")
    parser.add_argument("--run", required=True, metavar="RUN", help="folder of a trained run")
    parser.add_argument("--output", required=True, metavar="DIR", help="new folder for pictures and explain.json")
    parser.add_argument(
        "--method",
        help="eigen_cam, grad_cam, hires_cam, d_rise or attention (default: hires_cam; of label maps grad_cam)",
    )
    parser.add_argument("--tap", metavar="NAME", help="where features are taken; tlvision show lists the taps")
    parser.add_argument(
        "--class", dest="class_name", metavar="NAME", help="explain this class (default: the best detection)"
    )
    parser.add_argument(
        "--detection", type=int, metavar="N", help="explain the detection with the N-th highest score, from 1"
    )
    parser.add_argument("--seed", type=int, default=0, help="of random masks and random weights (default: 0)")
    parser.add_argument("--masks", type=int, default=500, metavar="N", help="random masks of d_rise (default: 500)")
    parser.add_argument("--no-sanity", action="store_true", help="skip the comparison with random weights")
    parser.add_argument("--device", help="cpu, cuda or auto (default: as the run was trained)")


def run(options: argparse.Namespace) -> None:
    """Explain, draw, write."""
    from tlvision.analysis.saliency.explain import ExplainSettings, explain_images

    explain_images(
        Path(options.run),
        options.images,
        Path(options.output),
        ExplainSettings(
            method=options.method,
            tap=options.tap,
            class_name=options.class_name,
            detection=options.detection,
            seed=options.seed,
            masks=options.masks,
            sanity=not options.no_sanity,
            device=options.device,
        ),
    )
