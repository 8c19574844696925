"""One HTML page about a run that needs nothing else: no script, no style sheet, no picture from elsewhere."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from typing import Any

from PIL import Image

from tlvision.evaluation.summary import format_hash, format_number, headlines
from tlvision.files.json_files import write_text
from tlvision.report.curves import curves
from tlvision.report.ledger import ledger_section, rate_section
from tlvision.report.run_files import RunFiles, pick, read_run
from tlvision.types import Json, listing

_WIDEST = 1280
_MOST_PICTURES = 24

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #222; background: #fff; max-width: 1080px; margin: 2rem auto;
  padding: 0 1rem; }
h1 { font-size: 1.5rem; margin: 0; } h2 { font-size: 1.1rem; margin: 2rem 0 .5rem; border-bottom: 1px solid #ddd; }
.sub { color: #666; margin: .2rem 0 1rem; }
.tiles { display: flex; flex-wrap: wrap; gap: .8rem; margin: 1rem 0; }
.tiles div { border: 1px solid #ddd; border-radius: 6px; padding: .5rem 1rem; min-width: 6rem; }
.tiles b { display: block; font-size: 1.4rem; font-variant-numeric: tabular-nums; } .tiles span { color: #666; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(420px, 100%), 1fr)); gap: 1rem; }
figure { margin: 0; } figcaption { font-weight: 600; font-size: .95rem; }
svg { width: 100%; height: auto; } svg text { font: 13px system-ui, sans-serif; fill: #555; }
svg .grid { stroke: #e4e4e4; }
.legend { margin: 0 0 0 3rem; font-size: .85rem; } .legend span { margin-right: 1rem; white-space: nowrap; }
.legend i { display: inline-block; width: .8rem; height: .8rem; border-radius: 2px; margin-right: .3rem;
  vertical-align: -1px; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: .2rem .8rem; border-bottom: 1px solid #eee; }
th { color: #666; font-weight: 600; } th:first-child, td:first-child { text-align: left; }
td.text, th.text { text-align: left; }
.scroll { overflow-x: auto; }
.bar { display: flex; height: 1.1rem; border-radius: 4px; overflow: hidden; margin: .5rem 0; }
.pictures { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(420px, 100%), 1fr)); gap: 1rem; }
.pictures img { width: 100%; height: auto; border: 1px solid #ddd; }
.pictures figcaption { font-weight: 400; color: #666; }
.notes { background: #fff8e6; border: 1px solid #eedca5; border-radius: 6px; padding: .5rem 1rem .5rem 2rem; }
pre { background: #f6f6f6; border-radius: 6px; padding: .8rem; overflow-x: auto; font-size: .85rem; }
"""


def write_report(run: str | Path) -> Path:
    """Write `report.html` into the folder of a run and return its path.

    run: a folder with any of config.yaml, environment.json, classes.json, metrics.json, log.jsonl, ledger.json and
         pictures/*.jpg or *.png. The report names missing and broken files. Pictures are embedded, at most 24 and
         at most 1280 pixels wide; the report has the number of the others.

    Raises InputError if the folder does not exist.
    """
    files = read_run(run)
    pictures = _pictures(files)
    sections = [
        _headline(files),
        section("Curves", curves(files)),
        section("Per class", _per_class(files.metrics)),
        section("Pictures", pictures),
        section("Frozen and trained", ledger_section(files)),
        section("Learning rate", rate_section(files)),
        section("All numbers", _numbers(files.metrics)),
        section("Configuration", f"<pre>{escape(files.config_text)}</pre>" if files.config_text else ""),
        section("Environment", _environment(files.environment)),
        section("Missing", _notes(files.notes)),
    ]
    title = f"{files.folder.resolve().name}: tlvision report"
    path = files.folder / "report.html"
    write_text(path, page(title, sections))
    return path


def page(title: str, sections: Iterable[str]) -> str:
    """Return a whole HTML page; `sections` are HTML, the title is plain text."""
    return (
        f'<!doctype html>\n<html lang="en">\n<head><meta charset="utf-8"><title>{escape(title)}</title>\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n<style>{_STYLE}</style></head>\n'
        f"<body>\n{''.join(sections)}</body>\n</html>\n"
    )


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return an HTML table; numbers as in the terminal, text escaped, first column to the left."""
    head = "".join(f"<th>{escape(name)}</th>" for name in header)
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(format_number(cell))}</td>" for cell in row) + "</tr>" for row in rows
    )
    return f'<div class="scroll"><table><tr>{head}</tr>{body}</table></div>'


def section(title: str, content: str) -> str:
    """Return a titled part of a page; empty if there is no content."""
    return f"<section><h2>{escape(title)}</h2>{content}</section>\n" if content else ""


def _headline(files: RunFiles) -> str:
    """Return name, model and data, and the numbers that matter most as tiles."""
    config, metrics = files.config, files.metrics
    facts = [
        ("task", metrics.get("task")),
        ("model", " ".join(str(v) for v in (pick(config, "model.plugin"), pick(config, "model.arch")) if v)),
        ("weights", pick(config, "model.weights")),
        ("train", pick(config, "data.train.json") or pick(config, "data.train.images")),
        ("val", pick(config, "data.val.json") or pick(config, "data.val.images")),
        ("classes", _class_names(files.classes.get("names"))),
    ]
    text = " · ".join(f"{name} {escape(str(value))}" for name, value in facts if value)
    overall = _overall(metrics)
    tiles = "".join(_tiles(numbers, kind if len(overall) > 1 else "") for kind, numbers in overall.items())
    missing = "" if tiles else '<p class="sub">There are no final metrics (metrics.json).</p>'
    return f'<header><h1>{escape(files.folder.resolve().name)}</h1><p class="sub">{text}</p>{tiles}{missing}</header>\n'


def _class_names(names: Any) -> str:
    return f"{len(names)} ({listing(names, 6)})" if isinstance(names, list) else ""


def _overall(metrics: Json) -> dict[str, Json]:
    """Return the overall numbers by kind: boxes, masks, label maps."""
    return headlines(metrics)


def _tiles(numbers: Json, kind: str) -> str:
    """Return a row with the numbers that matter most, named with `kind` in front."""
    preferred = ("AP", "AP50", "AP75", "AR100", "mean_class_iou", "pixel_accuracy")
    shown = [key for key in preferred if key in numbers] or list(numbers)[:4]
    tiles = "".join(
        f"<div><b>{escape(format_number(numbers[key]))}</b>"
        f"<span>{escape(f'{kind} {key}'.strip().replace('_', ' '))}</span></div>"
        for key in shown
    )
    return f'<div class="tiles">{tiles}</div>' if tiles else ""


def _per_class(metrics: Json) -> str:
    rows = {name: row for name, row in _object(metrics, "per_class").items() if isinstance(row, dict)}
    if not rows:
        return ""
    columns = list(next(iter(rows.values())))
    header = ["class", *(column.replace("_", " ") for column in columns)]
    content = table(header, ([name, *(row.get(column) for column in columns)] for name, row in rows.items()))
    absent = metrics.get("absent_classes")
    if isinstance(absent, list) and absent:
        names = escape(", ".join(map(str, absent)))
        content += f'<p class="sub">Left out of the mean (nothing to measure): {names}.</p>'
    return content


def _numbers(metrics: Json) -> str:
    overall, protocol = _overall(metrics), _object(metrics, "protocol")
    if not any(overall.values()):
        return ""
    told = [f"{value} {name.replace('_', ' ')}" for name, value in _object(metrics, "counts").items()]
    told += [str(protocol["library"])] if "library" in protocol else []
    told += [f"protocol {format_hash(protocol['hash'])}"] if "hash" in protocol else []
    columns = list(dict.fromkeys(key for numbers in overall.values() for key in numbers))
    rows = [[kind, *(numbers.get(key) for key in columns)] for kind, numbers in overall.items()]
    return table(["", *columns], rows) + f'<p class="sub">{escape(", ".join(told))}</p>'


def _object(content: Json, key: str) -> Json:
    value = content.get(key)
    return value if isinstance(value, dict) else {}


def _pictures(files: RunFiles) -> str:
    figures = []
    for path in files.pictures[:_MOST_PICTURES]:
        try:
            source = _embedded(path)
        except (OSError, ValueError) as error:
            files.notes.append(f"pictures/{path.name} could not be read ({error}).")
            continue
        name = escape(path.name)
        figures.append(f'<figure><img alt="{name}" src="{source}"><figcaption>{name}</figcaption></figure>')
    more = len(files.pictures) - _MOST_PICTURES
    text = f'<p class="sub">{more} more are in pictures/.</p>' if more > 0 else ""
    return f'<div class="pictures">{"".join(figures)}</div>{text}' if figures else ""


def _embedded(path: Path) -> str:
    """Return a data URI; a picture wider than 1280 pixels is scaled down and stored as JPEG."""
    with Image.open(path) as image:
        image.load()
        kind = "png" if image.format == "PNG" else "jpeg"
        if image.width > _WIDEST:
            size = _WIDEST, max(1, round(image.height * _WIDEST / image.width))
            buffer, kind = io.BytesIO(), "jpeg"
            image.convert("RGB").resize(size, Image.Resampling.LANCZOS).save(buffer, "JPEG", quality=88)
            content = buffer.getvalue()
        else:
            content = path.read_bytes()
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def _environment(environment: Json) -> str:
    rows = list(_flat(environment))
    return f"<details><summary>{len(rows)} entries</summary>{table(('key', 'value'), rows)}</details>" if rows else ""


def _flat(value: Any, prefix: str = "") -> Iterable[tuple[str, str]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _flat(inner, f"{prefix}.{key}" if prefix else str(key))
    else:
        yield prefix, str(value)


def _notes(notes: Sequence[str]) -> str:
    return f'<ul class="notes">{"".join(f"<li>{escape(note)}</li>" for note in notes)}</ul>' if notes else ""
