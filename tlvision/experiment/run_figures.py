"""Read what the table of an experiment needs of one finished run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tlvision.files.json_files import read_object
from tlvision.tasks import Metric

REMEDY = "Remove the folder of that trial, and repeat the command."


@dataclass(frozen=True, slots=True)
class RunFigures:
    """Figures of one run; None where there is nothing to measure.

    value:       the metric on the validation images, of the checkpoint that was chosen.
    source:      the same on `data.source_val`.
    regret:      how far `value` is from the best evaluated epoch by the same images, 0 or more.
    objects:     how many it finds in an unlabelled image with a score of 0.5 or more; of detectors.
    predictions: how many it finds in all.
    memory:      peak memory of its process, or of the GPU, bytes.
    selected_by: the metric that chose the checkpoint.
    wants_source: whether it was measured on the source, even if the metric has no value there.
    """

    value: float | None
    source: float | None = None
    regret: float | None = None
    objects: float | None = None
    predictions: int | None = None
    memory: int | None = None
    selected_by: str = ""
    wants_source: bool = False


def read_figures(run: Path, metric: Metric) -> RunFigures:
    """Return the figures of a finished run."""
    metrics = read_object(run / "metrics.json", REMEDY)
    value = metric_of(metrics, metric.name)
    finished = read_object(run / "finished.json", REMEDY) if (run / "finished.json").exists() else {}
    return RunFigures(
        value,
        metric_of(metrics.get("source", {}), metric.name),
        None if value is None else _regret(run, metric, value),
        metrics.get("unlabelled", {}).get("objects"),
        metrics.get("counts", {}).get("predictions"),
        finished.get("peak_memory"),
        metrics.get("selection", {}).get("by", ""),
        "source" in metrics,
    )


def metric_of(metrics: Mapping[str, Any], metric: str) -> float | None:
    """Return a metric such as "bbox/AP" of metrics.json; None if there was nothing to measure."""
    kind, _, name = metric.partition("/")
    value: float | None = metrics.get(kind, {}).get(name)
    return value


def _regret(run: Path, metric: Metric, value: float) -> float | None:
    log = run / "log.jsonl"
    if not log.exists():  # nothing was trained, or another trainer has
        return None
    lines = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    evaluations = [line["metrics"] for line in lines if line["kind"] == "evaluation"]
    seen = [each[key] for each in evaluations for key in (f"target/{metric.name}", metric.name) if key in each]
    best: float = (max if metric.higher_is_better else min)([value, *seen])
    return abs(best - value)
