"""`tlvision export RUN --output DIR [--format onnx|openvino] [--fixed]`."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the verb."""
    parser.add_argument("run", metavar="RUN", help="folder of a trained run")
    parser.add_argument("--output", required=True, metavar="DIR", help="new folder for the bundle")
    parser.add_argument(
        "--format", choices=("onnx", "openvino"), default="onnx", help="format of the graphs (default: onnx)"
    )
    parser.add_argument(
        "--fixed",
        action="store_true",
        help="take one image of one square size at a time, for devices that need fixed shapes (default: batch, height "
        "and width are free)",
    )


def run(options: argparse.Namespace) -> None:
    """Export, compare, and print what was measured."""
    from tlvision.export.export import export_run

    result = export_run(Path(options.run), Path(options.output), graph_format=options.format, fixed=options.fixed)
    compared = result.comparison
    print(f"bundle         {result.folder}")
    same = "no object to compare"
    if compared.same is not None:
        same = (
            f"{compared.same:.2%} of {compared.objects:,} objects or pixels the same, boxes within {compared.box:.2g} "
            f"px, scores within {compared.score:.2g}"
        )
    print(f"compared       {compared.images} images: {same}")
    if result.bundle is not None and result.run is not None:
        print(f"{result.metric:<14} {result.bundle:.4f} (run: {result.run:.4f})")
    print(f"next           tlvision predict --bundle {result.folder} IMAGES --output found")
