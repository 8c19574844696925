"""Where a run comes from: code, data, weights and their lineage, configuration and packages."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tlvision.report.page import Section, flat, section
from tlvision.report.run_files import RunFiles, mapping, pick
from tlvision.types import Json

MAX_ANCESTORS = 10


def provenance_section(files: RunFiles) -> Section | None:
    """Return code version, data hashes and lineage; the whole environment and the config are folded away."""
    environment = files.environment
    blocks: list[dict[str, Any]] = []
    if environment:
        code = [("tlvision", _text(environment.get("tlvision"))), ("commit", _text(environment.get("commit")))]
        code += [(name, _text(environment.get(name))) for name in ("python", "device", "precision", "seed")]
        code += [("plugin", " · ".join(_text(value) for value in mapping(environment, "plugin").values()))]
        blocks += [{"title": "Code and device", "pairs": [(name, value) for name, value in code if value]}]
        blocks += [{"title": "Data", "pairs": _data(mapping(environment, "data"))}]
        blocks += [{"title": "Lineage of the weights", "pairs": _lineage(files.folder, environment)}]
        entries = flat(environment)
        blocks += [{"details": f"Environment: {len(entries)} entries", "pairs": entries}]
    if files.config_text:
        blocks.append({"details": "Configuration", "pre": files.config_text})
    return section("Provenance", blocks)


def _text(value: Any) -> str:
    return "" if value is None else str(value)


def _data(data: Json) -> list[tuple[str, str]]:
    rows = []
    for name, found in data.items():
        where = _text(pick(found, "labels") or pick(found, "path"))
        hashes = [f"{key.replace('_', ' ')} {_text(pick(found, key))[:12]}" for key in _HASHES if pick(found, key)]
        rows.append((f"{name}: {_text(pick(found, 'images'))} images", " · ".join([where, *hashes])))
    return rows


_HASHES = ("sha256", "images_sha256", "label_maps_content")


def _lineage(run: Path, environment: Json) -> list[tuple[str, str]]:
    """Return the weights that a run began with, and, if another run made them, those that that one began with."""
    rows: list[tuple[str, str]] = []
    while len(rows) < MAX_ANCESTORS:
        weights = mapping(environment, "weights")
        source = _text(weights.get("source"))
        if not source:
            break
        digest = f" · sha256 {_text(weights['sha256'])[:12]}" if weights.get("sha256") else ""
        rows.append((f"{run.resolve().name} began with", f"{source}{digest}"))
        parent = _run_of(Path(source))
        if parent is None:
            break
        run, environment = parent
    return rows


def _run_of(weights: Path) -> tuple[Path, Json] | None:
    """Return the folder and environment.json of the run that made a weight file; None if no run did."""
    for folder in list(weights.parents)[:3]:
        try:
            content = json.loads((folder / "environment.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        return (folder, content) if isinstance(content, dict) else None
    return None
