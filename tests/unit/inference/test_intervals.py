"""The end of a training gives intervals."""

from __future__ import annotations

import json
from pathlib import Path

from tlvision.evaluation import format_table


def test_the_metrics_of_a_run_have_intervals_around_them(small_run: Path) -> None:
    metrics = json.loads((small_run / "metrics.json").read_text(encoding="utf-8"))
    assert set(metrics["intervals"]) == {"bbox/AP", "bbox/AP50"}
    low, high = metrics["intervals"]["bbox/AP50"]
    assert 0 <= low < high <= 1
    assert f"{low:.4f} to {high:.4f} (95 % interval over images)" in format_table(metrics)
