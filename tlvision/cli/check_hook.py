"""`tlvision check-hook NAME [--options YAML]`."""

from __future__ import annotations

import argparse

STYLES = {"pass": "green", "fail": "red"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the verb."""
    parser.add_argument("name", help="an installed hook; `tlvision hooks` lists them")
    parser.add_argument(
        "--options",
        default="{}",
        metavar="YAML",
        help="parameters of the hook as in a config, such as '{roles: [stem]}'",
    )


def run(options: argparse.Namespace) -> None:
    """Run every check that applies to the hook, and print a table."""
    from rich.text import Text

    from tlvision import terminal
    from tlvision.config.yaml_text import parse_yaml
    from tlvision.conformance import hook_checks
    from tlvision.types import InputError, RunError, counted

    values = parse_yaml(options.options, "check-hook: --options")
    if not isinstance(values, dict) or not all(isinstance(key, str) for key in values):
        raise InputError(f"check-hook: --options: expected a mapping such as '{{weight: 0.1}}', got {options.options}")
    console = terminal.console()
    table = terminal.table("check, and its promise", "outcome", title=options.name)
    failed = []
    checks = hook_checks(options.name, values)
    for check in checks:
        outcome = check.outcome()
        promise = Text.assemble(f"{check.name}\n", (check.promise, "dim"))
        table.add_row(promise, Text(outcome.status, STYLES[outcome.status]))
        if outcome.status == "fail":
            failed.append(f"{check.name}: {outcome.detail}")
    console.print(table)
    for text in failed:
        console.print(Text(text), soft_wrap=True)
    if failed:
        raise RunError(f"'{options.name}' fails {len(failed)} of {counted(len(checks), 'check')}")
    console.print(f"{counted(len(checks), 'check')} passed", highlight=False)
