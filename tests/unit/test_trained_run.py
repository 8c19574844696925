"""`tlvision.load` gives an object that predicts, draws, evaluates and exports as the commands do."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import tlvision
from tlvision.trained_run import TrainedRun
from tlvision.types import InputError


@pytest.fixture(scope="module")
def run(small_run: Path) -> TrainedRun:
    return tlvision.load(small_run)


def test_evaluate_gives_the_metrics_of_the_run(run: TrainedRun) -> None:
    result = run.evaluate()
    published = json.loads((run.folder / "metrics.json").read_text())
    assert result.metrics["bbox"] == pytest.approx(published["bbox"], abs=1e-9, nan_ok=True)
    assert json.loads((result.folder / "metrics.json").read_text())["bbox"] == result.metrics["bbox"]
    assert str(result).startswith("bbox\n"), "printing shows the table"


def test_evaluate_takes_other_data(run: TrainedRun, tiny_dataset: Path) -> None:
    train = {"json": tiny_dataset / "train.json", "images": str(tiny_dataset / "images")}
    assert run.evaluate(train).metrics["counts"]["images"] == len(json.loads(train["json"].read_text())["images"])


def test_evaluations_with_other_limits_have_folders_of_their_own(run: TrainedRun) -> None:
    """None takes the place of another that is of other predictions."""
    few = tlvision.load(run.folder, score_floor=0.5)
    assert few.config.model.score_floor == 0.5
    folders = [each.evaluate().folder for each in (run, few, run)]
    assert folders[0] == folders[2] != folders[1]
    rows = [len(json.loads((folder / "predictions.json").read_text())) for folder in folders[:2]]
    assert rows[1] < rows[0]


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        ("new.json", r"^evaluate: data: images is missing: the folder of the images"),
        ({"jsn": "new.json", "images": "photos"}, r"^evaluate: data\.jsn: unknown key\. Did you mean 'json'"),
        ({"images": "photos"}, r"^evaluate: data: expected labels"),
        ({"json": "absent.json", "images": "photos"}, r"absent\.json"),
    ],
)
def test_data_that_cannot_be_used_are_one_sentence(run: TrainedRun, data: object, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        run.evaluate(data)  # type: ignore[arg-type]  # the mistakes of a user


def test_draw_shows_what_predict_finds(run: TrainedRun, tiny_dataset: Path) -> None:
    file = sorted((tiny_dataset / "images").iterdir())[0]
    found = run.predict(file, min_score=0)
    assert len(found.scores) > 0
    drawn = np.asarray(run.draw(file, found))
    assert drawn.shape == np.asarray(run.draw(file, found.above(np.full(len(run.classes), 2.0)))).shape
    assert (drawn != np.asarray(run.draw(file, found.above(np.full(len(run.classes), 2.0))))).any()
    from PIL import Image

    assert (np.asarray(run.draw(Image.open(file), found)) == drawn).all(), "a path and a picture give the same"


@pytest.mark.slow
def test_export_writes_a_bundle_that_predicts_the_same(run: TrainedRun, tiny_dataset: Path, tmp_path: Path) -> None:
    result = run.export(tmp_path / "bundle")
    assert result.bundle == pytest.approx(result.run, abs=1e-3)
    with pytest.raises(InputError, match=r"is an exported bundle, not a run\. Use tlvision\.runtime\.load"):
        tlvision.load(result.folder)


def test_it_says_what_it_is(run: TrainedRun) -> None:
    assert repr(run).startswith("TrainedRun: ")
    assert str(run.folder) in repr(run)
