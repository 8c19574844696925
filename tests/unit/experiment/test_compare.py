"""tlvision compare: sides, refusals, verdicts."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from tlvision.cli.main import main
from tlvision.engine.run_folder import forget_results
from tlvision.experiment.compare import compare_files, compare_runs, sentence
from tlvision.types import InputError


def copy_of(run: Path, to: Path, change: dict[str, Any] | None = None) -> Path:
    """Return a copy of a run whose config has other values, by dotted key."""
    shutil.copytree(run, to)
    path = to / "config.yaml"
    config = yaml.safe_load(path.read_text(encoding="utf-8"))
    for key, value in {"run.out": str(to), **(change or {})}.items():
        *sections, last = key.split(".")
        place = config
        for section in sections:
            place = place[section]
        place[last] = value
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    return to


def lose(run: Path, share: int = 2) -> Path:
    """Take one of so many predictions out of a run; return it."""
    path = run / "predictions.json"
    rows = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps([row for n, row in enumerate(rows) if n % share]), encoding="utf-8")
    return run


def perfect(run: Path, truth: Path) -> Path:
    """Replace the predictions of a run by the labels; return it."""
    rows = json.loads(truth.read_text(encoding="utf-8"))["annotations"]
    keys = ("image_id", "category_id", "bbox")
    found = [{**{key: row[key] for key in keys}, "score": 0.9} for row in rows]
    (run / "predictions.json").write_text(json.dumps(found), encoding="utf-8")
    return run


def test_runs_that_differ_by_their_seed_are_one_side(small_run: Path, tmp_path: Path, tiny_dataset: Path) -> None:
    runs = [copy_of(small_run, tmp_path / f"a{seed}", {"train.seed": seed}) for seed in (0, 1)]
    runs.append(perfect(copy_of(small_run, tmp_path / "b", {"train.lr": 0.5}), tiny_dataset / "val.json"))
    comparison = compare_runs(runs, repeats=100)
    assert [[run.name for run in side.runs] for side in comparison.sides] == [["a0", "a1"], ["b"]]
    assert comparison.changes == {str(runs[2]): {"train.lr": (0.001, 0.5)}}
    row = comparison.difference("bbox/AP", comparison.sides[1])
    metrics = json.loads((small_run / "metrics.json").read_text(encoding="utf-8"))
    assert row.reference == pytest.approx(metrics["bbox"]["AP"], abs=1e-12)
    assert row.other == pytest.approx(1.0)
    assert row.verdict == "better"
    assert sentence(comparison, comparison.sides[1]).startswith(f"{runs[2]} is better than {runs[0]} in bbox/AP")


def test_a_copy_is_no_evidence(small_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = copy_of(small_run, tmp_path / "b", {"train.lr": 0.5})
    rows = json.loads((other / "predictions.json").read_text(encoding="utf-8"))
    (other / "predictions.json").write_text(json.dumps(rows[::-1]), encoding="utf-8")
    assert main(["compare", str(small_run), str(other), "--repeats", "100", "--output", str(tmp_path / "c")]) == 0
    out = capsys.readouterr().out
    assert "no evidence" in out
    assert "train.lr: 0.001 -> 0.5" in out
    figures = json.loads((tmp_path / "c" / "comparison.json").read_text(encoding="utf-8"))
    assert figures["sides"][1]["metrics"]["bbox/AP"]["verdict"] == "no evidence"
    assert figures["repeats"] == 100
    page = (tmp_path / "c" / "report.html").read_text(encoding="utf-8")
    assert "no evidence that" in page
    assert page.count("<svg") == 1


def other_protocol(run: Path) -> Path:
    path = run / "metrics.json"
    metrics = json.loads(path.read_text(encoding="utf-8"))
    metrics["protocol"]["max_detections"][-1] = 300
    path.write_text(json.dumps(metrics), encoding="utf-8")
    return run


def test_other_protocols_are_refused_with_the_line(small_run: Path, tmp_path: Path) -> None:
    other = other_protocol(copy_of(small_run, tmp_path / "b", {"train.lr": 0.5}))
    with pytest.raises(InputError, match=r"differ in protocol\.max_detections: \[1, 10, 100\] and \[1, 10, 300\]"):
        compare_runs([small_run, other], repeats=100)


@pytest.mark.parametrize("what", ["image", "box"])
def test_other_data_are_refused(what: str, small_run: Path, tmp_path: Path, tiny_dataset: Path) -> None:
    document = json.loads((tiny_dataset / "val.json").read_text(encoding="utf-8"))
    if what == "box":
        document["annotations"][0]["bbox"][0] += 1
    else:
        lost = document["images"].pop()["id"]
        document["annotations"] = [row for row in document["annotations"] if row["image_id"] != lost]
    (tmp_path / "val.json").write_text(json.dumps(document), encoding="utf-8")
    other = copy_of(small_run, tmp_path / "b", {"data.val.json": str(tmp_path / "val.json")})
    if what == "image":
        rows = json.loads((other / "predictions.json").read_text(encoding="utf-8"))
        left = [row for row in rows if row["image_id"] != lost]
        (other / "predictions.json").write_text(json.dumps(left), encoding="utf-8")
    with pytest.raises(InputError, match="labels of the validation" if what == "box" else "number of images"):
        compare_runs([small_run, other], repeats=100)


def test_one_side_or_a_run_twice_is_refused(small_run: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="differ by their seed only"):
        compare_runs([small_run, copy_of(small_run, tmp_path / "b", {"train.seed": 5})], repeats=100)
    with pytest.raises(InputError, match="given twice"):
        compare_runs([small_run, small_run], repeats=100)


def test_a_run_that_has_not_come_to_its_end_is_refused(small_run: Path, tmp_path: Path) -> None:
    """Its predictions are those of the last evaluation, not of the selected checkpoint."""
    other = copy_of(small_run, tmp_path / "b", {"train.lr": 0.5})
    forget_results(other)
    with pytest.raises(InputError, match=r"has not come to its end. Continue it: tlvision train --resume"):
        compare_runs([small_run, other], repeats=100)


def test_files_of_any_trainer_are_compared(small_run: Path, tmp_path: Path, tiny_dataset: Path) -> None:
    fewer = lose(copy_of(small_run, tmp_path / "b")) / "predictions.json"
    comparison = compare_files(tiny_dataset / "val.json", [small_run / "predictions.json", fewer], repeats=100)
    row = comparison.difference("bbox/AP", comparison.sides[1])
    assert row.difference is not None
    assert row.difference < 0
