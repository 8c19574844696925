"""What a tracker must have of a run, read from the run's own files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml


def logged_numbers(run: Path) -> dict[str, list[tuple[int, float]]]:
    """Return {name: [(step, value), …]} of log.jsonl, with the names that trackers get."""
    found: dict[str, list[tuple[int, float]]] = {}
    for line in (run / "log.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        if row["kind"] == "step":
            losses = {f"loss/{name}": value for name, value in row["losses"].items()}
            values = {"lr": row["lr"], "total_loss": row["loss"], **losses, **row.get("measures", {})}
        else:
            values = row.get("metrics", {})
        for name, value in values.items():
            found.setdefault(name, []).append((row["step"], value))
    return found


def config_values(run: Path) -> dict[str, Any]:
    """Return some of the run's config as a tracker must have it."""
    config = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))
    return {
        "model.arch": config["model"]["arch"],
        "train.lr": config["train"]["lr"],
        "train.epochs": config["train"]["epochs"],
        "data.train.json": config["data"]["train"]["json"],
        "data.batch.labelled": config["data"]["batch"]["labelled"],
        "hooks.ema.decay": 0.9,
    }
