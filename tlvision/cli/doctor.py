"""`tlvision doctor CONFIG [--output DIR] [--with NAME …] [--set k=v …]`."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path

from tlvision.cli.composition import CONFIG, add_composition
from tlvision.files.json_files import write_json
from tlvision.files.outputs import check_folder, output_folder
from tlvision.types import RunError, counted

COMMAND = "doctor"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the verb."""
    parser.add_argument("config", metavar="CONFIG", help=f"whose data are examined: {CONFIG}")
    parser.add_argument("--output", metavar="DIR", help="new folder for findings.json and report.html, with pictures")
    add_composition(parser)


def run(options: argparse.Namespace) -> None:
    """Examine, print the findings, and end with exit code 1 if there are errors."""
    from rich.text import Text

    from tlvision import terminal
    from tlvision.analysis.doctor import examine, write_doctor_page
    from tlvision.config.load import load_config

    if options.output:
        check_folder(Path(options.output), COMMAND)
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
        with output_folder(Path(options.output), COMMAND) as folder:
            write_json(folder / "findings.json", content, indent=1)
            write_doctor_page(folder / "report.html", parts, findings)
        print(f"report         {Path(options.output) / 'report.html'} (findings.json)")
    errors = sum(finding.severity == "error" for finding in findings)
    if errors:
        raise RunError(f"doctor: {counted(errors, 'error')}, which training refuses")
    print("no error" if findings else "nothing was found")


_STYLES = {"error": "bold red", "warning": "yellow", "note": ""}
