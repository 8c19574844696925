"""`tlvision compare RUN_A RUN_B …`, or of files: `tlvision compare --gt GT A.json B.json`."""

from __future__ import annotations

import argparse
from pathlib import Path

from tlvision.files.outputs import check_folder, output_folder
from tlvision.types import InputError

COMMAND = "compare"
REPEATS = 1000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the verb."""
    parser.add_argument(
        "runs",
        nargs="+",
        metavar="RUN",
        help="folders of runs; runs that differ by their seed only are one side, the first side is the reference",
    )
    parser.add_argument("--gt", metavar="JSON", help="compare files of COCO results against this COCO json instead")
    parser.add_argument("--max-detections", type=int, metavar="N", help="with --gt: as for evaluate (default: 100)")
    parser.add_argument("--repeats", type=int, default=REPEATS, metavar="N", help="resamples (default: 1000)")
    parser.add_argument("--seed", type=int, default=0, help="of the resamples (default: 0)")
    parser.add_argument("--output", metavar="DIR", help="new folder for report.html and comparison.json")


def run(options: argparse.Namespace) -> None:
    """Compare, print tables and verdicts, and write the figures if requested."""
    inputs = [Path(each) for each in options.runs]
    if len(inputs) < 2:
        raise InputError("compare: give two runs or more, the reference first")
    if not 100 <= options.repeats <= 100_000:
        raise InputError(f"compare: --repeats must be from 100 to 100000, got {options.repeats}")
    if options.gt is None and options.max_detections is not None:
        raise InputError("compare: --max-detections goes with --gt; runs have the value of their config")
    if not 3 <= (options.max_detections or 100) <= 10_000:
        raise InputError(f"compare: --max-detections must be from 3 to 10000, got {options.max_detections}")
    if options.output:
        check_folder(Path(options.output), COMMAND, inputs=inputs)
    from tlvision.experiment.compare import compare_files, compare_runs, print_comparison, write_comparison

    if options.gt is None:
        comparison = compare_runs(inputs, repeats=options.repeats, seed=abs(options.seed))
    else:
        comparison = compare_files(
            Path(options.gt),
            inputs,
            max_detections=options.max_detections or 100,
            repeats=options.repeats,
            seed=abs(options.seed),
        )
    print_comparison(comparison)
    if options.output:
        with output_folder(Path(options.output), COMMAND, inputs=inputs) as out:
            write_comparison(comparison, out)
        print(f"report         {Path(options.output) / 'report.html'}")
