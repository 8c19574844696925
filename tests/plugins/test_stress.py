"""`tlvision stress` on every model family: each condition is predicted and measured, and labels move with images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import tlvision
from families import FAMILIES, outline, task_of
from tlvision.analysis.robustness import stress
from tlvision.analysis.robustness.corruptions import Condition
from tlvision.analysis.robustness.stress import StressSettings, stress_run

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("family", FAMILIES)
def test_stress_on_every_family(
    family: str, tiny_config: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plugin, arch = FAMILIES[family]
    tiny_config["model"] = {"plugin": plugin, "arch": arch, "weights": "none"}
    tiny_config["data"]["batch"]["labelled"] = 6
    if task_of(family) != "detect":
        outline(tiny_config["data"], tmp_path)
    tiny_config["train"] = {"epochs": 1, "lr": 1e-4, "device": "cpu"}
    run = tlvision.train(tiny_config).run
    measured: list[Condition | None] = []
    original = stress._Bench.measure

    def watched(bench: Any, condition: Condition | None) -> float | None:
        measured.append(condition)
        return original(bench, condition) or 1e-6  # models this young find nothing, and nothing would be measured then

    monkeypatch.setattr(stress._Bench, "measure", watched)
    names = ("motion_blur", "scale", "rotation")
    found, out = stress_run(run, StressSettings(images=3, corruptions=names, severities=(3,)))
    assert measured == [None, *(Condition(name, 3, 0) for name in names)]
    assert found["mean_relative_loss"] is not None
    assert {path.name for path in out.glob("*.*")} >= {"stress.json", "stress.png", "curves.png"}
