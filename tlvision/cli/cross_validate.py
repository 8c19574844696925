"""`tlvision cross-validate CONFIG [--folds 5] [--group-by KEY] [--out DIR] [--jobs N] [--plan] …`."""

from __future__ import annotations

import argparse
from pathlib import Path

from tlvision.cli.shortcuts import add_shortcut, run_shortcut


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the verb."""
    add_shortcut(parser, "cross-validate")
    parser.add_argument("--folds", type=int, default=5, metavar="K", help="parts of data.train (default: 5)")
    parser.add_argument(
        "--group-by", metavar="KEY", help="keep images of a group together; as `data.train.subset.group_by`"
    )
    parser.add_argument("--fold-seed", type=int, default=0, metavar="N", help="seed of the division (default: 0)")


def run(options: argparse.Namespace) -> None:
    """Train once for each fold, print the table, and measure the joined predictions of all folds."""
    from tlvision.evaluation import format_table
    from tlvision.experiment.builders import base_of, cross_validation
    from tlvision.experiment.folds import measure_out_of_fold

    base, config = base_of(options.config, options.extra, options.set)
    group = {} if options.group_by is None else {"group_by": options.group_by}
    table = run_shortcut(cross_validation(base, config, options.folds, seed=options.fold_seed, **group), options)
    if table is None:
        return
    (row,) = table["rows"]
    if row["count"] < options.folds:
        print("not all folds have finished, so their predictions are not joined")
        return
    folder = Path(options.out) / "out_of_fold"
    metrics = measure_out_of_fold(config, [Path(run) for run in row["runs"]], folder)
    print(f"\nall folds together, each image predicted by the model that has not seen it\n{format_table(metrics)}")
    print(f"predictions    {folder}")
