"""`tlvision monitor BUNDLE LOG… [--since T] [--until T] [--output DIR] [--collect N]`."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the verb."""
    parser.add_argument("bundle", metavar="BUNDLE", help="folder of the bundle that has predicted")
    parser.add_argument(
        "logs",
        nargs="+",
        metavar="LOG",
        help="log that 'predict --bundle BUNDLE --log LOG' has written; rotated parts (LOG.1 …) are read too",
    )
    parser.add_argument("--since", metavar="TIME", help="only records from then on: 2030-01-31, 12h or 7d (ago)")
    parser.add_argument("--until", metavar="TIME", help="only records before then")
    parser.add_argument(
        "--limit", type=int, default=500, metavar="N", help="records compared, evenly spread (default: 500)"
    )
    parser.add_argument("--alpha", type=float, default=0.01, help="share of false alarms, 0.01 to 0.2 (default: 0.01)")
    parser.add_argument(
        "--against",
        nargs="+",
        default=[],
        metavar="LOG",
        help="logs of a time when all was well, as the reference (default: the bundle's validation images)",
    )
    parser.add_argument("--seed", type=int, default=0, help="of permutations and subsets (default: 0)")
    parser.add_argument("--output", metavar="DIR", help="folder for report.html and monitor.json")
    parser.add_argument(
        "--collect",
        type=int,
        default=0,
        metavar="N",
        help="write the N images most worth a label to DIR/collected, with predictions as labels to correct",
    )


def run(options: argparse.Namespace) -> int:
    """Compare, print, write; return 0 for no alarm, 1 for an alarm, 3 if there are too few records."""
    from tlvision.monitoring.monitor import MonitorSettings, monitor

    settings = MonitorSettings(
        since=options.since,
        until=options.until,
        limit=options.limit,
        alpha=options.alpha,
        against=[Path(log) for log in options.against],
        collect=options.collect,
        seed=options.seed,
        out=options.output and Path(options.output),
    )
    return monitor(Path(options.bundle), [Path(log) for log in options.logs], settings).exit_code
