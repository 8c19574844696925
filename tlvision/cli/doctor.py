"""`tlvision doctor CONFIG [--output FILE] [--with NAME …] [--set k=v …]`."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path

from tlvision.cli.composition import CONFIG, add_composition
from tlvision.files.outputs import check_file
from tlvision.types import RunError, counted


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the verb."""
    parser.add_argument("config", metavar="CONFIG", help=f"whose data are examined: {CONFIG}")
    parser.add_argument("--output", metavar="FILE", help="write the findings here as well, as JSON")
    add_composition(parser)


def run(options: argparse.Namespace) -> None:
    """Examine, print the findings, and end with exit code 1 if there are errors."""
    from rich.text import Text

    from tlvision import terminal
    from tlvision.analysis.doctor import examine
    from tlvision.config.load import load_config
    from tlvision.formats.coco import write_json

    if options.output:
        check_file(Path(options.output), "doctor", own_keys=[{"findings", "parts"}])
    parts, findings = examine(load_config(options.config, options.set, options.extra))
    console = terminal.console(140)
    for part in parts:
        console.print(
            f"data.{part.name:<12} {counted(len(part.data.samples), 'image')} of {part.data.path}", markup=False
        )
    for finding in findings:
        console.print(Text(f"{finding.severity:<8} {finding.shown()}", _STYLES[finding.severity]), soft_wrap=True)
    if options.output:
        content = {
            "parts": {part.name: {"labels": str(part.data.path), "images": len(part.data.samples)} for part in parts},
            "findings": [asdict(finding) for finding in findings],
        }
        write_json(options.output, content)
        print(f"findings       {options.output}")
    errors = sum(finding.severity == "error" for finding in findings)
    if errors:
        raise RunError(f"doctor: {counted(errors, 'error')}, which training refuses")
    print("no error" if findings else "nothing was found")


_STYLES = {"error": "bold red", "warning": "yellow", "note": ""}
