"""`tlvision doctor CONFIG [--output DIR] [--run RUN] [--predictions FILE] [--fix DIR] [--with …] [--set …]`."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from tlvision.cli.composition import CONFIG, add_composition
from tlvision.files.json_files import write_json
from tlvision.files.outputs import check_folder, output_folder
from tlvision.types import RunError, counted

if TYPE_CHECKING:
    from tlvision.config.schema import Config

COMMAND = "doctor"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the verb."""
    parser.add_argument("config", metavar="CONFIG", help=f"whose data are examined: {CONFIG}")
    parser.add_argument("--output", metavar="DIR", help="new folder for findings.json and report.html, with pictures")
    parser.add_argument("--run", metavar="RUN", help="a trained run: list labels that its predictions contradict")
    parser.add_argument(
        "--predictions",
        metavar="FILE",
        help="COCO results for data.train, such as out_of_fold/predictions.json of cross-validate: list labels that "
        "they contradict",
    )
    parser.add_argument(
        "--fix",
        metavar="DIR",
        help="new folder for copies of the COCO jsons with safe corrections, a config for them, and a log",
    )
    add_composition(parser)


def run(options: argparse.Namespace) -> None:
    """Examine, print the findings, and end with exit code 1 if there are errors."""
    from rich.text import Text

    from tlvision import terminal
    from tlvision.analysis.doctor import examine, write_doctor_page
    from tlvision.config.load import load_config

    for folder in (options.output, options.fix):
        if folder:
            check_folder(Path(folder), COMMAND)
    config = load_config(options.config, options.set, options.extra)
    parts, findings = examine(config, run=_path(options.run), predictions=_path(options.predictions))
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
    if options.fix:
        _fix(config, Path(options.fix))
        return
    errors = sum(finding.severity == "error" for finding in findings)
    if errors:
        raise RunError(f"doctor: {counted(errors, 'error')}, which training refuses")
    print("no error" if findings else "nothing was found")


def _path(text: str | None) -> Path | None:
    return None if text is None else Path(text)


def _fix(config: Config, out: Path) -> None:
    """Write corrected copies, and print what was changed and what was not."""
    from tlvision.analysis.doctor import examine, fix_data
    from tlvision.config.load import load_config

    with output_folder(out, COMMAND) as folder:
        changes, left = fix_data(config, folder)
    for what, count in changes.items():
        print(f"fixed    {counted(count, *what)}")
    if not changes:
        print("fixed    nothing")
    print("left, because only a person can decide it:")
    _, findings = examine(load_config(str(out / "config.yaml")))
    for sentence in [*left, *(f"{each.severity}: {each.shown()}" for each in findings)]:
        print(f"         {sentence}")
    print(f"log      {out / 'fixes.jsonl'}\nnext     tlvision train {out / 'config.yaml'}")


_STYLES = {"error": "bold red", "warning": "yellow", "note": ""}
