"""Read a run folder leniently, so that a broken run has a report too."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tlvision.evaluation.summary import headlines
from tlvision.types import InputError, Json

PICTURE_TYPES = (".jpg", ".jpeg", ".png")


@dataclass(slots=True)
class RunFiles:
    """The files of a run; missing ones are empty here and named in `notes`.

    config, environment, classes, metrics, ledger: the objects in the files of these names.
    rate:         rate.json, which only runs with `train.lr: auto` have.
    data:         report.json: worst images and class balance; runs of earlier versions lack it.
    config_text:  config.yaml as it is.
    steps:        lines of log.jsonl with kind "step"; evaluations: with kind "evaluation".
    notices:      lines with kind "notice".
    pictures:     files in pictures/, sorted by name.
    notes:        one sentence for each file that is missing or could not be read.
    """

    folder: Path
    config: Json = field(default_factory=dict)
    config_text: str = ""
    environment: Json = field(default_factory=dict)
    classes: Json = field(default_factory=dict)
    metrics: Json = field(default_factory=dict)
    ledger: Json = field(default_factory=dict)
    rate: Json = field(default_factory=dict)
    data: Json = field(default_factory=dict)
    steps: list[Json] = field(default_factory=list)
    evaluations: list[Json] = field(default_factory=list)
    notices: list[Json] = field(default_factory=list)
    pictures: list[Path] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def read_run(folder: str | Path) -> RunFiles:
    """Read the files of a run folder; InputError only if the folder itself does not exist."""
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder. Give the folder of a run.")
    files = RunFiles(folder)
    files.config_text = _text(files, "config.yaml")
    try:
        content = yaml.safe_load(files.config_text)
        files.config = content if isinstance(content, dict) else {}
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        files.notes.append(f"config.yaml is not YAML ({type(error).__name__}).")
    files.environment = _object(files, "environment.json")
    files.classes = _object(files, "classes.json")
    files.metrics = _object(files, "metrics.json")
    files.ledger = _object(files, "ledger.json")
    if (folder / "rate.json").is_file():
        files.rate = _object(files, "rate.json")
    if (folder / "report.json").is_file():
        files.data = _object(files, "report.json")
    _read_log(files)
    if (folder / "pictures").is_dir():
        files.pictures = sorted(p for p in (folder / "pictures").iterdir() if p.suffix.lower() in PICTURE_TYPES)
    if not files.pictures:
        files.notes.append("There are no pictures in pictures/.")
    return files


def number(value: object) -> float:
    """Return a number as float and anything else as nan, so that one bad line does not lose a whole curve."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return math.nan
    return float(value)


def pick(content: Json, dotted: str) -> Any:
    """Return the value at a dotted path of nested dicts, or None.

    >>> pick({"model": {"arch": "yolov8n"}}, "model.arch")
    'yolov8n'
    """
    value: Any = content
    for key in dotted.split("."):
        value = value.get(key) if isinstance(value, dict) else None
    return value


def mapping(content: Json, dotted: str) -> Json:
    """Return the object at a dotted path of nested dicts, {} if there is none."""
    value = pick(content, dotted)
    return value if isinstance(value, dict) else {}


def main_kind(files: RunFiles) -> str:
    """Return the kind of the numbers that matter most: masks before boxes; "" if nothing was measured.

    >>> main_kind(RunFiles(Path(), metrics={"bbox": {"AP": 0.5}, "segm": {"AP": 0.4}}))
    'segm'
    """
    kinds = headlines(files.metrics)
    named = pick(files.data, "worst.kind")
    return next((str(kind) for kind in (named, "segm", *kinds) if isinstance(kind, str) and kind in kinds), "")


def _text(files: RunFiles, name: str) -> str:
    path = files.folder / name
    if not path.is_file():
        files.notes.append(f"{name} is missing.")
        return ""
    return path.read_text(encoding="utf-8", errors="replace")


def _object(files: RunFiles, name: str) -> Json:
    text = _text(files, name)
    if not text:
        return {}
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        files.notes.append(f"{name} is not JSON ({error}).")
        return {}
    if not isinstance(content, dict):
        files.notes.append(f"{name} holds no JSON object.")
        return {}
    return content


def _read_log(files: RunFiles) -> None:
    broken = 0
    kinds = {"step": files.steps, "evaluation": files.evaluations, "notice": files.notices}
    for line in _text(files, "log.jsonl").splitlines():
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError):
            broken += 1  # a run that was killed may leave half a line
            continue
        if isinstance(entry, dict) and entry.get("kind") in kinds:
            kinds[entry["kind"]].append(entry)
    if broken:
        files.notes.append(f"log.jsonl has {broken} line(s) that are not JSON; they are left out.")
