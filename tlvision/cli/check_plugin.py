"""`tlvision check-plugin NAME [--arch A] [--weights W]`."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

    from tlvision.conformance.kit import Bench

STYLES = {"pass": "green", "fail": "red", "expected failure": "yellow", "not run": "yellow"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the verb."""
    parser.add_argument("name", help="an installed plugin; `tlvision plugins` lists them")
    parser.add_argument("--arch", help="one architecture (default: the first of each task)")
    parser.add_argument("--weights", default="none", help="coco, imagenet, pretrained, none, or a path (default: none)")
    parser.add_argument("--image-size", type=int, default=96, help="long side of the network input (default: 96)")


def run(options: argparse.Namespace) -> None:
    """Run every check of the contract that applies, and print a table."""
    from tlvision import terminal
    from tlvision.conformance import plugin_checks
    from tlvision.data.settings import MAX_SIDE
    from tlvision.types import InputError, RunError, counted

    if not 32 <= options.image_size <= MAX_SIDE or options.image_size % 32:
        raise InputError(
            f"check-plugin: --image-size: expected a multiple of 32 from 32 to {MAX_SIDE}, got {options.image_size}"
        )
    console = terminal.console()
    checks = plugin_checks(options.name, arch=options.arch, weights=options.weights, image_size=options.image_size)
    found = list(dict.fromkeys(check.bench for check in checks))
    if options.weights != "none":
        for bench in found:
            bench.try_build()
    seconds = _run_all(console, found)
    for bench in found:
        _print_table(console, bench, seconds)
    failed = [check for check in checks if check.outcome().status == "fail"]
    for check in checks:
        outcome = check.outcome()
        if outcome.status != "pass":
            console.print(f"{check}: {outcome.status}: {outcome.detail}")
    idle = sum(check.outcome().status == "not run" for check in checks)
    passed = len(checks) - len(failed) - idle
    console.print(f"{passed} passed, {len(failed)} failed, {idle} not run")
    if failed:
        raise RunError(
            f"'{options.name}' fails {len(failed)} of {counted(len(checks), 'check')}. Fix the first, "
            f"'{failed[0].name}', and run it again: tlvision check-plugin {options.name} --arch {failed[0].arch}"
        )
    console.print("next           `tlvision.conformance.plugin_checks` in the plugin's own tests keeps it so")


def _run_all(console: Console, found: list[Bench]) -> dict[str, float]:
    """Run all checks behind a progress bar; return the seconds of each, with the shared work that it does first."""
    from time import perf_counter

    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    checks = [check for bench in found for check in bench.checks]
    seconds = {}
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        bar = progress.add_task("", total=len(checks))
        for check in checks:
            progress.update(bar, description=str(check))
            start = perf_counter()
            check.outcome()
            seconds[str(check)] = perf_counter() - start
            progress.advance(bar)
    return seconds


def _print_table(console: Console, bench: Bench, seconds: dict[str, float]) -> None:
    from rich.text import Text

    from tlvision import terminal

    title = f"{bench.plugin.name}: {bench.arch} ({bench.plugin.task_of(bench.arch)})"
    table = terminal.table("check, and its promise", "outcome", "seconds", title=title, right=["seconds"])
    for check in bench.checks:
        status = check.outcome().status
        promise = Text.assemble(f"{check.name}\n", (check.promise, "dim"))
        table.add_row(promise, Text(status, STYLES[status]), f"{seconds[str(check)]:.1f}")
    for name, reason in bench.inapplicable.items():
        table.add_row(Text.assemble(f"{name}\n", (reason, "dim")), "does not apply", "")
    console.print(table)
