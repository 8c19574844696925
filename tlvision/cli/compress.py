"""`tlvision compress RUN --output DIR [--method int8 prune distill] [--max-drop D] [--latency-budget 20ms] …`."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tlvision.types import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the verb."""
    parser.add_argument("run", metavar="RUN", help="folder of a trained run")
    parser.add_argument("--output", required=True, metavar="DIR", help="new folder for the bundles and the report")
    parser.add_argument(
        "--method",
        nargs="+",
        default=["int8"],
        choices=["int8", "prune", "distill"],
        help="int8: integers of 8 bits (default); prune: train RUN again with the least important channels left out; "
        "distill: train --student to do what RUN does. What is trained lies next to RUN",
    )
    parser.add_argument("--student", metavar="CONFIG", help="config or preset of the smaller model of distill")
    parser.add_argument(
        "--set", nargs="+", default=[], metavar="KEY=VALUE", help="changes to the trainings of prune and distill"
    )
    parser.add_argument(
        "--max-drop",
        type=float,
        default=0.01,
        metavar="D",
        help="loss of the metric that is accepted; layers that cost more stay in float (default: 0.01)",
    )
    parser.add_argument(
        "--latency-budget", metavar="TIME", help="time that an image may take, such as 20ms: names the best within it"
    )
    parser.add_argument(
        "--calibration", type=int, default=200, metavar="N", help="training images for the ranges (default: 200)"
    )
    parser.add_argument(
        "--search", type=int, default=100, metavar="N", help="training images that measure the loss (default: 100)"
    )
    parser.add_argument(
        "--beside", nargs="+", default=[], metavar="RUN", help="other runs that get rows too: a distilled one, say"
    )
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="threads of one prediction (default: 1)")
    parser.add_argument("--stress", action="store_true", help="measure each variant on corrupted images as well")


def run(options: argparse.Namespace) -> None:
    """Write the bundles, print the table and the advice."""
    for name in ("calibration", "search", "threads"):
        if getattr(options, name) < 1:
            raise InputError(f"compress: --{name} must be a whole number from 1 on, got {getattr(options, name)}")
    if not 0 <= options.max_drop < 1:
        raise InputError(f"compress: --max-drop must be from 0 to below 1, got {options.max_drop}")
    budget = None if options.latency_budget is None else milliseconds(options.latency_budget)
    from tlvision.compress.compress import CompressSettings, compress_run
    from tlvision.compress.train import TrainedMethods

    out = Path(options.output)
    table = compress_run(
        Path(options.run),
        out,
        CompressSettings(
            methods=TrainedMethods(
                methods=tuple(options.method), student=options.student, overrides=tuple(options.set)
            ),
            max_drop=options.max_drop,
            calibration=options.calibration,
            search=options.search,
            beside=tuple(Path(each) for each in options.beside),
            latency_budget=budget,
            threads=options.threads,
            stress=options.stress,
        ),
    )
    _print(table)
    print(f"report         {out / 'report.html'}")


def milliseconds(text: str) -> float:
    """Return a time in milliseconds; InputError if the text is none.

    >>> milliseconds("20ms"), milliseconds("0.5 s"), milliseconds("15")
    (20.0, 500.0, 15.0)
    """
    found = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?)\s*(ms|s|)\s*", text)
    value = 0.0 if found is None else float(found[1]) * (1000 if found[2] == "s" else 1)
    if value <= 0:
        raise InputError(f"compress: --latency-budget must be a time such as 20ms, got '{text}'")
    return value


def _print(table: Mapping[str, Any]) -> None:
    from tlvision.report.compress_page import COST, cells
    from tlvision.terminal import console
    from tlvision.terminal import table as empty_table

    rows = [(row["name"], cells(row)) for row in table["rows"]]
    columns = [
        column
        for column in ("value", "lost", "worst class", "its value", "stress loss", *COST)
        if any(each[column] is not None for _, each in rows)
    ]
    shown = empty_table("variant", *columns, title=f"{table['metric']} on {table['images']} images", right=columns)
    for name, each in rows:
        shown.add_row(name, *(_cell(each[column]) for column in columns))
    target = console(140)
    target.print(shown)
    for sentence in table["advice"]:
        target.print(sentence, soft_wrap=True)


def _cell(value: float | str | None) -> str:
    return "-" if value is None else value if isinstance(value, str) else f"{value:.4f}"
