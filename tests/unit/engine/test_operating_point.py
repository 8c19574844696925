"""Thresholds travel with a run: written at its end, used by predictions, refused where damaged."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

import tlvision
from tlvision.cli.main import main
from tlvision.engine.operating_point import THRESHOLDS, read_thresholds
from tlvision.evaluation.operating_point import DEFAULT_SCORE
from tlvision.types import InputError


@pytest.fixture
def run(small_run: Path, tmp_path: Path) -> Path:
    """A copy of the small run, to change."""
    return shutil.copytree(small_run, tmp_path / "run")


def change(run: Path, default: float) -> None:
    """Give every class the same threshold."""
    content = json.loads((run / THRESHOLDS).read_text(encoding="utf-8"))
    content["default"] = default
    for row in content["per_class"].values():
        row["threshold"] = default
    (run / THRESHOLDS).write_text(json.dumps(content), encoding="utf-8")


def test_a_training_writes_what_its_analysis_says(small_run: Path) -> None:
    metrics = json.loads((small_run / "metrics.json").read_text(encoding="utf-8"))
    point = metrics["analysis"]["bbox"]["operating_point"]
    stored = json.loads((small_run / THRESHOLDS).read_text(encoding="utf-8"))
    assert {key: stored[key] for key in point} == point
    assert stored["kind"] == "bbox"
    thresholds = read_thresholds(small_run)
    assert thresholds.default == point["default"]
    assert dict(thresholds.per_class) == {name: row["threshold"] for name, row in point["per_class"].items()}


@pytest.mark.parametrize("score", [0.0, 1.0])
def test_predictions_use_the_thresholds_unless_told_otherwise(
    score: float, run: Path, tmp_path: Path, tiny_dataset: Path
) -> None:
    change(run, score)
    image = sorted((tiny_dataset / "images").iterdir())[0]
    model = tlvision.load(run)
    everything = len(model.predict(image, min_score=0))
    assert everything > 0
    assert len(model.predict(image)) == (everything if score == 0 else 0)
    for name, flags, expected in (("a", [], len(model.predict(image))), ("b", ["--min-score", "0"], everything)):
        assert main(["predict", str(image), "--run", str(run), "--output", str(tmp_path / name), *flags]) == 0
        assert len(json.loads((tmp_path / name / "predictions.json").read_text(encoding="utf-8"))) == expected


def test_an_evaluation_reports_the_thresholds_of_the_run(run: Path) -> None:
    change(run, 0.125)
    assert main(["evaluate", "--run", str(run)]) == 0
    metrics = json.loads((run / "evaluations" / "val" / "metrics.json").read_text(encoding="utf-8"))
    point = metrics["analysis"]["bbox"]["operating_point"]
    assert point["rule"] == "thresholds of the run"
    assert {row["threshold"] for row in point["per_class"].values()} == {0.125}


def test_a_run_of_an_earlier_version_has_the_default(run: Path) -> None:
    (run / THRESHOLDS).unlink()
    assert read_thresholds(run).default == DEFAULT_SCORE


@pytest.mark.parametrize(
    "content", ['{"default": 2}', '{"per_class": {"a": 1}}', "[]", '{"default": 0.5, "per_class": 3}']
)
def test_a_damaged_file_is_a_sentence(content: str, run: Path) -> None:
    (run / THRESHOLDS).write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match=r"thresholds\.json"):
        tlvision.load(run)
