from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml


@pytest.mark.slow  # five seconds, of a benchmark
def test_each_step_is_set_beside_both_supervised_ones(  # noqa: PLR0917  (pytest fixtures)
    tools: Callable[[str], Any],
    tiny_config: dict[str, Any],
    tiny_dataset: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    config = deepcopy(tiny_config)
    config["data"] |= {"target": {"images": str(tiny_dataset / "images")}, "batch": {"labelled": 2, "unlabelled": 3}}
    config["data"]["source_val"] = config["data"]["val"]
    config["hooks"] = [
        {"ema": {"decay": 0.9, "warmup": 0}},
        {"pseudo_labels": {"threshold": 0.0, "burn_in": 0.5}},
        "mean_teacher",
    ]
    path = tmp_path / "teacher.yaml"
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    monkeypatch.setattr(sys, "argv", ["step", str(path), "--repeats", "2"])
    step = tools("benchmarks.step")
    seen: dict[str, tuple[int, list[str]]] = {}
    take_step = step.take_step

    def watched(variant: Any, *, counted: bool) -> None:
        take_step(variant, counted=counted)
        seen[variant.name] = variant.session.batch_size, sorted(variant.session.context.losses)

    monkeypatch.setattr(step, "take_step", watched)
    step.main()
    assert {name: size for name, (size, _) in seen.items()} == {"source only": 2, "as many images": 5, "teacher": 2}
    assert "mean_teacher/hard" in seen["teacher"][1]
    assert "mean_teacher/hard" not in seen["source only"][1]
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    assert [row.split("|")[1].strip() for row in rows] == ["step", "source only", "as many images", "teacher"]
    assert rows[1].split("|")[3].strip() == "1.00"
    assert rows[2].split("|")[4].strip() == "1.00"


def test_a_mistake_is_answered_without_a_traceback(repository: Path, tmp_path: Path) -> None:
    command = [sys.executable, str(repository / "tools" / "bench.py"), "step", str(tmp_path / "none.yaml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert "none.yaml" in done.stderr
    assert "Traceback" not in done.stderr
