"""`tlvision models add|list|show|get`: runs and bundles under names and versions."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from tlvision.types import counted

if TYPE_CHECKING:
    from tlvision.library.library import Entry, Library


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the verb."""
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument(
        "--library",
        metavar="PLACE",
        help="folder of the library, or mlflow:URI for an MLflow registry (default: $TLVISION_LIBRARY, or "
        "~/.tlvision/library)",
    )
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    add = actions.add_parser("add", parents=[shared], help="keep a copy of a finished run or a bundle")
    add.add_argument("source", metavar="RUN", help="folder of a run, or of a bundle")
    add.add_argument("--name", required=True, help="name in the library; a name that it has gets the next version")
    add.add_argument("--note", default="", metavar="TEXT", help="what is to be known of this version")
    actions.add_parser("list", parents=[shared], help="list all models")
    show = actions.add_parser(
        "show", parents=[shared], help="print one model: metrics, classes, data, where it is from"
    )
    show.add_argument("model", metavar="NAME[@VERSION]")
    get = actions.add_parser("get", parents=[shared], help="copy a model into a new folder")
    get.add_argument("model", metavar="NAME[@VERSION]")
    get.add_argument("--output", required=True, metavar="DIR", help="new folder")


def run(options: argparse.Namespace) -> None:
    """Do the action, and print what there is now."""
    from tlvision.library.address import parse
    from tlvision.library.library import open_library

    library = open_library(options.library)
    if options.action == "add":
        entry, new = library.add(Path(options.source), options.name, options.note)
        print(f"{'added' if new else 'there already'}  {entry.address} ({entry.kind}) in {library.store}")
        if entry.kind == "run":
            print(f"next           model.weights: library://{entry.address}, or tlvision models show {entry.address}")
    elif options.action == "list":
        _list(library)
    elif options.action == "show":
        print("\n".join(_lines(library, library.entry(parse(options.model)))))
    else:
        entry = library.get(parse(options.model), Path(options.output))
        print(f"{entry.kind:<14} {options.output} ({entry.address})")


def _list(library: Library) -> None:
    from tlvision.terminal import console, table

    entries = list(library.entries())
    if not entries:
        print(f"'{library.store}' has no models; add one: tlvision models add RUN --name NAME")
        return
    shown = table("model", "kind", "task", "architecture", "metric", "from", "added", "note")
    for entry in entries:
        about = entry.about
        metric = next((f"{name} {value:.4f}" for name, value in about["metrics"].items()), "-")
        parent = about["parent"]["model"] or about["parent"]["source"]
        row = (str(entry.address), entry.kind, about["task"], str(about["arch"]), metric, parent, about["added"][:10])
        shown.add_row(*row, about["note"])
    console(140).print(shown)


def _lines(library: Library, entry: Entry) -> list[str]:
    about = entry.about
    size = about.get("bytes") or sum(path.stat().st_size for path in entry.folder.rglob("*") if path.is_file())
    lines = [
        f"{entry.address} ({entry.kind}, {about['task']})",
        f"  architecture   {about['arch']} ({about['plugin']}; licence {about['licence']})",
        f"  added          {about['added']}, {counted(len(about['files']), 'file')}, {size / 1e6:.1f} MB",
        f"  folder         {entry.folder}",
        f"  classes        {', '.join(about['classes'])}",
        *(f"  {name:<14} {value:.4f}" for name, value in list(about["metrics"].items())[:3]),
        f"  from           {_origin(about['parent'])}",
    ]
    lines += [f"  data           {side}: {each.get('labels') or each.get('path')}, {counted(each['images'], 'image')}"
              for side, each in about["data"].items()]  # fmt: skip
    if children := library.children(entry.address):
        lines.append(f"  made from it   {', '.join(map(str, children))}")
    return [*lines, f"  note           {about['note']}"] if about["note"] else lines


def _origin(parent: dict[str, str | None]) -> str:
    if parent["model"]:
        return str(parent["model"])
    digest = f" (sha256 {parent['sha256'][:12]} …, in no model of this library)" if parent["sha256"] else ""
    return f"{parent['source']}{digest}"
