"""`tlvision adapt`: which arms there are, what the table says, and that labels of the target change no training bit."""

from __future__ import annotations

import json
import re
from copy import deepcopy
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

import tlvision
from adaptation import QUIET, write
from fast import first_fast
from tlvision.cli.main import main
from tlvision.config.load import load_config
from tlvision.engine.build import build_run
from tlvision.experiment.adapt import Row, _compare, _read, adapt, format_rows
from tlvision.report import write_adapt_page
from tlvision.tasks import Metric
from tlvision.types import InputError


def test_the_share_of_the_gap_and_what_is_forgotten() -> None:
    rows = [
        Row("source_only", "source_only", [0.2, 0.3], [0.8, 0.6], [0.3, 0.3]),
        Row("mt", "method", [0.3, 0.4], [0.7, 0.5], [0.4, 0.4]),
        Row("oracle", "oracle", [0.6, 0.7], [], [0.7, 0.7]),
        Row("zero_shot", "zero_shot"),
    ]
    _compare(rows)
    assert (rows[1].mean, rows[1].low, rows[1].high) == (pytest.approx(0.35), 0.3, 0.4)
    assert [row.gap_closed for row in rows] == [0.0, pytest.approx(0.25), pytest.approx(1.0), None]
    assert [row.forgetting for row in rows] == [0.0, pytest.approx(0.1), None, None]
    worse = [Row("source_only", "source_only", [0.5], [], [0.5]), Row("oracle", "oracle", [0.4], [], [0.4])]
    _compare(worse)
    assert worse[1].gap_closed is None, "an oracle that is no better leaves no gap to close"


def test_a_metric_that_one_side_cannot_measure_is_a_note_in_its_row(tmp_path: Path) -> None:
    """No small objects in data.source_val, or in data.val: null in metrics.json, or no such key."""
    small, none = {"bbox": {"APs": 0.3}}, {"bbox": {"APs": None}}
    rows = []
    for name, kind, metrics in (
        ("source_only", "source_only", small | {"source": none}),
        ("method", "method", small | {"source": {"bbox": {"AP": 0.2}}}),
        ("unmeasured", "method", none | {"source": small}),
    ):
        (tmp_path / "metrics.json").write_text(json.dumps(metrics))
        row = Row(name, kind, runs=[str(tmp_path)])  # type: ignore[arg-type]
        for _ in range(2):  # two seeds
            _read(tmp_path, row, Metric("bbox/APs"), [])
        rows.append(row)
    _compare(rows)
    assert [row.values for row in rows] == [[0.3, 0.3], [0.3, 0.3], []]
    assert [row.source for row in rows] == [[], [], [0.3, 0.3]]
    assert [row.forgetting for row in rows] == [None, None, None]
    assert [row.note.count("is not measured on the source") for row in rows] == [1, 1, 0]
    assert rows[2].note.count("is not measured on the target") == 1
    table = format_rows(rows, "bbox/APs")
    assert list(table.columns[1].cells) == ["0.3000", "0.3000", "not measured"]
    result = {"metric": "bbox/APs", "seeds": [0, 1], "rows": [asdict(row) for row in rows]}
    assert "not measured" in write_adapt_page(tmp_path, result).read_text()


@pytest.mark.parametrize(
    ("objects", "word"),
    [([2.0, 4.4], "confirmation bias"), ([0.9, 3.9], "prediction collapse"), ([1.1, 3.9], ""), ([], "")],
)
def test_a_method_that_finds_far_more_or_less_than_source_only_is_told_of(objects: list[float], word: str) -> None:
    rows = [
        Row("source_only", "source_only", [0.2, 0.3], objects=[1.5, 2.5]),
        Row("mt", "method", [0.3, 0.4], objects=objects),
        Row("oracle", "oracle", [0.6, 0.7], objects=[9.0, 9.0]),
    ]
    _compare(rows)
    assert [bool(row.note) for row in rows] == [False, bool(word), False]
    assert word in rows[1].note


def test_the_command_trains_every_arm_and_can_be_repeated(
    values: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    values["train"]["epochs"] = 1
    config, out = write(values, tmp_path / "mt.yaml"), tmp_path / "out"
    command = ["adapt", str(config), "--seeds", "0", "1", "--out", str(out)]
    assert main(command) == 0
    printed = capsys.readouterr().out
    assert "gap closed" in printed
    assert "zero_shot: the weights do not have all of it" in " ".join(printed.split())
    result = json.loads((out / "adapt.json").read_text())
    rows = {row["name"]: row for row in result["rows"]}
    assert list(rows) == ["zero_shot", "source_only", "mt", "oracle"]
    for name in ("source_only", "mt", "oracle"):
        values_of = [
            json.loads((out / name / f"seed{seed}" / "metrics.json").read_text())["bbox"]["AP"] for seed in (0, 1)
        ]
        assert rows[name]["values"] == values_of
        assert rows[name]["mean"] == pytest.approx(sum(values_of) / 2)
        assert all(best >= value for best, value in zip(rows[name]["best"], values_of, strict=True))
    assert rows["mt"]["selected_by"] == "unlabelled/stability"
    assert len(rows["mt"]["source"]) == 2
    page = (out / "adapt.html").read_text()
    assert len(re.findall(r"<use [^>]*fill: var\(--series", page)) == 6  # dots of three arms, two seeds
    quality = rows["mt"]["pseudo_labels"]
    assert quality["counts"]["images"] == 12
    assert [row["threshold"] for row in quality["all"]][::4] == [0.1, 0.5, 0.9]
    assert rows["source_only"]["pseudo_labels"] is None
    assert "Quality of the pseudo-labels" in page
    assert "unlabelled/stability" in page

    def no_training(*arguments: Any, **options: Any) -> None:
        raise AssertionError("everything is there already")

    monkeypatch.setattr("tlvision.engine.train.train", no_training)
    assert main(command) == 0
    assert json.loads((out / "adapt.json").read_text()) == result
    with pytest.raises(InputError, match="holds a run with another config"):
        adapt([config], ["train.lr=1e-3"], seeds=[0], out=out)
    (out / "mt" / "seed9" / "predictions").mkdir(parents=True)
    with pytest.raises(InputError, match="seed9' is not empty and holds no run"):
        adapt([config], [], seeds=(0, 9), out=out)


def test_zero_shot_is_the_checkpoint_as_it_is(values: dict[str, Any], tmp_path: Path) -> None:
    plain = deepcopy(values)
    plain["hooks"] = [QUIET]
    plain["data"]["batch"] = {"labelled": 4}
    plain["run"]["out"] = str(tmp_path / "pretrained")
    run = tlvision.train(plain).run
    values["model"]["weights"] = str(run / "checkpoints" / "last" / "model.safetensors")
    result = adapt([write(values, tmp_path / "mt.yaml")], out=tmp_path / "out", kinds=["zero_shot"])
    (row,) = result["rows"]
    assert row["note"] == ""
    # last and best of that run are the same epoch only by chance; its last evaluation is in the log.
    log = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert row["values"] == [log[-1]["metrics"]["target/bbox/AP"]]


# Selection, and that labels of the target stay out of training.


def tensors(run: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(run)): path.read_bytes() for path in sorted((run / "checkpoints").rglob("*.safetensors"))
    }


@pytest.mark.parametrize("select", first_fast(["auto", "source/bbox/AP"]))
def test_deleting_every_label_of_the_target_changes_no_byte(
    values: dict[str, Any], tmp_path: Path, select: str
) -> None:
    values["evaluate"] = {"select": select}
    values["run"]["out"] = str(tmp_path / "with")
    with_labels = tlvision.train(values).run
    for name in ("train.json", "val.json"):
        (tmp_path / "target" / name).unlink()
    del values["data"]["val"], values["data"]["oracle"]
    values["run"]["out"] = str(tmp_path / "without")
    without = tlvision.train(values).run
    one, other = tensors(with_labels), tensors(without)
    assert len(one) >= 5
    assert one == other
    metrics = json.loads((without / "metrics.json").read_text())
    wanted = "unlabelled/stability" if select == "auto" else select
    assert metrics["selection"] == {"by": wanted, "uses_target_labels": False}
    assert metrics["domain"] == "source"
    assert set(metrics["unlabelled"]) == {"stability", "certainty", "agreement", "objects"}


def test_labels_of_the_target_choose_only_when_that_is_said(
    values: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    values["evaluate"] = {"select": "bbox/AP"}
    with pytest.raises(InputError, match=r"'bbox/AP' is ambiguous with two domains. Choose one of: "):
        tlvision.train(values)
    values["evaluate"] = {"select": "target/bbox/AP"}
    values["run"]["report"] = True
    run = tlvision.train(values).run
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["selection"] == {"by": "target/bbox/AP", "uses_target_labels": True}
    printed = capsys.readouterr().out
    assert "4 validation images, 16 without labels, 2 classes" in printed
    assert "on the target; checkpoint chosen by target/bbox/AP: labels of the target chose it" in printed
    environment = json.loads((run / "environment.json").read_text())
    assert environment["data"]["target"]["images"] == 16
    assert "sha256" in environment["data"]["source_val"]
    report = (run / "report.html").read_text()
    assert all(f"Metrics ({kind})" in report for kind in ("target/bbox", "source/bbox", "unlabelled"))
    values["evaluate"] = {"select": "unlabelled/stable"}
    with pytest.raises(InputError, match=r"has no metric 'unlabelled/stable'.*'unlabelled/stability'"):
        tlvision.train(values)


def test_something_must_be_labelled_to_evaluate_on(values: dict[str, Any]) -> None:
    del values["data"]["val"], values["data"]["source_val"]
    with pytest.raises(InputError, match="expected val"):
        load_config(values)
    values["data"]["val"] = values["data"]["oracle"]
    run = tlvision.train(values).run
    assert json.loads((run / "metrics.json").read_text())["selection"]["by"] == "unlabelled/stability"


def test_a_class_takes_the_rows_of_the_one_that_it_is_called_after(
    values: dict[str, Any], tmp_path: Path, tiny_config: dict[str, Any]
) -> None:
    weights = tlvision.train(tiny_config).run / "checkpoints" / "last" / "model.safetensors"
    data = values["data"]
    for name in ("val", "oracle"):
        path = Path(data[name]["json"])
        path.write_text(path.read_text().replace('"dark"', '"gloomy"'))
    data["train"], data["source_val"] = data["oracle"], data["val"]
    values["model"] |= {"weights": str(weights), "rename": {"gloomy": "dark"}}
    result = adapt([write(values, tmp_path / "mt.yaml")], out=tmp_path / "out", kinds=["zero_shot"])
    assert result["rows"][0]["note"] == ""
    assert len(result["rows"][0]["values"]) == 1
    values["model"]["rename"] = {}
    result = adapt([write(values, tmp_path / "mt.yaml")], out=tmp_path / "out2", kinds=["zero_shot"])
    assert "fresh gloomy" in result["rows"][0]["note"]
    values["model"]["rename"] = {"gloom": "dark"}
    with pytest.raises(InputError, match=r"model\.rename: the data have no class 'gloom'.*'gloomy'"):
        tlvision.train(values)
    values["model"]["rename"] = {"gloomy": "light"}
    with pytest.raises(InputError, match="'light' of the weights would be two classes of ours"):
        tlvision.train(values)


def scores_in(folder: Path) -> tuple[set[int], set[float]]:
    rows = json.loads((folder / "zero_shot" / "predictions.json").read_text())
    return {row["category_id"] for row in rows}, {round(row["score"], 5) for row in rows}


def test_several_of_their_classes_are_one_of_ours(
    values: dict[str, Any], tmp_path: Path, tiny_config: dict[str, Any]
) -> None:
    weights = tlvision.train(tiny_config).run / "checkpoints" / "last" / "model.safetensors"
    data = values["data"]
    for name in ("val", "oracle"):
        path = Path(data[name]["json"])
        content = json.loads(path.read_text())
        content["categories"] = [{"id": 7, "name": "thing"}]
        for annotation in content["annotations"]:
            annotation["category_id"] = 7
        path.write_text(json.dumps(content))
    data["train"], data["source_val"] = data["oracle"], data["val"]
    data["classes"] = ["thing"]
    values["model"] |= {"weights": str(weights), "rename": {"thing": ["dark", "light"]}}
    both, alone = tmp_path / "both", tmp_path / "alone"
    (row,) = adapt([write(values, tmp_path / "mt.yaml")], out=both, kinds=["zero_shot"])["rows"]
    assert row["note"] == ""
    categories, merged = scores_in(both)
    assert categories == {7}
    # The weights' own two classes, read apart, are what was merged.
    apart = {}
    for name in ("dark", "light"):
        values["model"]["rename"] = {"thing": name}
        adapt([write(values, tmp_path / "mt.yaml")], out=alone / name, kinds=["zero_shot"])
        _, apart[name] = scores_in(alone / name)
    assert merged == apart["dark"] | apart["light"]
    assert all(apart.values())
    # Training starts from the first.
    values["model"]["rename"] = {"thing": ["dark", "light"]}
    assert build_run(load_config(values)).report.remapped[0].endswith("rows dark of 2")


def test_an_arm_that_was_stopped_after_an_evaluation_is_trained_to_its_end(
    values: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every evaluation writes metrics.json, so that it does not mark the end of a run."""
    values["evaluate"] = {"every": 1}
    config, out = write(values, tmp_path / "mt.yaml"), tmp_path / "out"
    command = ["adapt", str(config), "--seeds", "0", "--arms", "method", "--out", str(out)]
    run = out / "mt" / "seed0"

    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("tlvision.engine.train._finish", stop)
        main(command)
    assert (run / "metrics.json").exists()
    assert not (run / "thresholds.json").exists()
    assert main(command) == 0
    assert (run / "thresholds.json").exists()
