"""Hooks of the small domain-adaptation runs, and how their configs become files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

ALL = ("zero_shot", "source_only", "method", "oracle")
EMA = {"ema": {"decay": 0.9, "warmup": 0}}
QUIET = {"log": {"progress": "none", "tensorboard": "off", "every": 1}}
LABELS = {"pseudo_labels": {"threshold": 0.02, "burn_in": 0.2}}
TEACHER: dict[str, Any] = {"mean_teacher": {}}


def write(values: dict[str, Any], path: Path) -> Path:
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    return path
