"""Thresholds travel with a run: written at its end, used by predictions, refused where damaged."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest

import tlvision
from tlvision.cli.main import main
from tlvision.config.schema import EvaluateSettings
from tlvision.engine.compatibility import check_packages
from tlvision.engine.operating_point import CALIBRATION, THRESHOLDS, analyse_run, read_score_map, read_thresholds
from tlvision.engine.resume import read_run_config
from tlvision.engine.run_folder import forget_results
from tlvision.evaluation.operating_point import DEFAULT_SCORE
from tlvision.evaluation.score_map import ScoreMap
from tlvision.tasks.objects import DETECT
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


def test_predictions_have_the_scores_of_the_map(run: Path, tmp_path: Path, tiny_dataset: Path) -> None:
    """The thresholds of the run are those of the model's scores, `min_score` is one of the new scores."""
    image = sorted((tiny_dataset / "images").iterdir())[0]
    plain = tlvision.load(run).predict(image, min_score=0)
    limit = float(np.median(plain.scores))
    change(run, limit)
    (run / CALIBRATION).write_text(json.dumps({"map": {"points": [[0, 0], [1, 0.5]]}}), encoding="utf-8")
    model = tlvision.load(run)
    assert model.predict(image, min_score=0).scores == pytest.approx(plain.scores / 2)
    assert model.predict(image).scores == pytest.approx(plain.scores[plain.scores >= limit] / 2)
    kept = model.predict(image, min_score=limit / 2 + 1e-6).scores
    assert 0 < len(kept) == (plain.scores / 2 >= limit / 2 + 1e-6).sum() < len(plain)
    assert main(["predict", str(image), "--run", str(run), "--output", str(tmp_path / "out")]) == 0
    written = [row["score"] for row in json.loads((tmp_path / "out" / "predictions.json").read_text(encoding="utf-8"))]
    assert written == pytest.approx(model.predict(image).scores.tolist(), abs=1e-5)
    assert list(model.model.selection.counts_from().per_class.values()) == pytest.approx([limit / 2] * 2)


@pytest.mark.parametrize("kept", [False, True])
def test_the_map_is_written_if_it_is_kept(kept: bool, run: Path) -> None:
    config = read_run_config(run, finished=True)
    asked = config.evaluate.model_copy(update={"calibration": "temperature"})
    fitted = {"kept": kept, "map": {"temperature": 2.0} if kept else None}
    evaluator = Mock(data=Mock(path=Path("val.json")))
    evaluator.analyse.return_value = {"analysis": {"bbox": {"calibration": {"fitted": fitted}}}}
    analyse_run(run, evaluator, DETECT, config.model_copy(update={"evaluate": asked}))
    assert evaluator.analyse.call_args.args[1].calibrate == "temperature"
    assert read_score_map(run) == (ScoreMap(temperature=2.0) if kept else None)
    forget_results(run)
    assert read_score_map(run) is None


def test_a_calibration_without_its_package_is_refused_before_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tlvision.engine.compatibility.find_spec", lambda _: None)
    settings = EvaluateSettings(calibration="isotonic")
    with pytest.raises(InputError, match=r'sklearn.*pip install "tlvision\[calibration\]"'):
        check_packages([], settings)
    check_packages([], EvaluateSettings())


def test_metrics_keep_the_scores_of_the_model(run: Path) -> None:
    (run / CALIBRATION).write_text(json.dumps({"map": {"points": [[0, 0.5], [1, 0.5]]}}), encoding="utf-8")
    assert main(["evaluate", "--run", str(run)]) == 0
    found, trained = (
        json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
        for folder in (run / "evaluations" / "val", run)
    )
    assert found["bbox"] == trained["bbox"]


def test_a_damaged_map_is_a_sentence(run: Path) -> None:
    (run / CALIBRATION).write_text('{"map": {"temperature": -1}}', encoding="utf-8")
    with pytest.raises(InputError, match=r"calibration\.json' is damaged: the temperature must be above 0"):
        tlvision.load(run)
