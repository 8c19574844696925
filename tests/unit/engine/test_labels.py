"""A config names labels of any tool, and the run is that of the COCO json."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

import tlvision
from label_tools import write_label_studio, write_voc
from tlvision.config.load import load_config
from tlvision.engine.labels import is_foreign, resolve_labels
from tlvision.experiment.builders import base_of, cross_validation
from tlvision.experiment.file import parse_experiment
from tlvision.experiment.plan import make_plan
from tlvision.formats.exchange import write_yolo
from tlvision.formats.exchange.coco import read_labels
from tlvision.types import InputError


@pytest.fixture
def yolo(tiny_dataset: Path, tmp_path: Path) -> Path:
    """The tiny dataset as YOLO has it."""
    parts = {name: read_labels(tiny_dataset / f"{name}.json", tiny_dataset / "images") for name in ("train", "val")}
    write_yolo(parts, tmp_path / "yolo")
    return tmp_path / "yolo"


def objects(run: Path) -> list[tuple[Any, ...]]:
    """Return the predictions of a run without ids, which differ between formats."""
    rows = json.loads((run / "predictions.json").read_text())
    return sorted((*(round(value, 2) for value in row["bbox"]), round(row["score"], 3)) for row in rows)


def test_a_run_on_labels_of_another_tool_is_that_of_the_coco_json(
    tiny_config: dict[str, Any], yolo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    expected = tlvision.train(tiny_config)
    capsys.readouterr()
    for name in ("train", "val"):
        tiny_config["data"][name] = {"json": str(yolo / "data.yaml")}
    tiny_config["run"]["out"] = str(tmp_path / "runs" / "yolo")
    result = tlvision.train(tiny_config, until=1)
    printed = " ".join(capsys.readouterr().out.split())
    assert f"data.train: {yolo / 'data.yaml'} is YOLO txt: 12 images" in printed
    shutil.rmtree(yolo / "labels")  # the run has its own
    result = tlvision.train({}, resume=result.run)
    assert result.metrics["bbox"]["AP"] == pytest.approx(expected.metrics["bbox"]["AP"], abs=1e-6)
    assert objects(result.run) == objects(expected.run)
    assert len(list((tmp_path / "runs" / ".labels").glob("*.json"))) == 2


def test_the_part_of_a_dataset_follows_from_the_key(tiny_config: dict[str, Any], yolo: Path, tmp_path: Path) -> None:
    images = read_labels(Path(tiny_config["data"]["val"]["json"]), Path(tiny_config["data"]["val"]["images"]))
    voc = write_voc(images, tmp_path / "voc")
    tiny_config["data"]["train"] = {"json": str(yolo)}
    tiny_config["data"]["val"] = {"json": str(voc), "images": str(images.images)}
    config, found = resolve_labels(load_config(tiny_config))
    assert "YOLO txt" in found[0]
    assert "Pascal VOC" in found[1]
    assert config.data.val is not None
    assert config.data.val.json_ != config.data.train.json_
    assert resolve_labels(config) == (config, []), "what is COCO stays as it is"
    tiny_config["data"] |= {
        "oracle": {"json": str(yolo)},
        "val": {"json": str(yolo)},
        "source_val": {"json": str(yolo)},
    }
    tiny_config["data"]["target"] = {"images": str(images.images)}
    tiny_config["data"]["batch"] = {"labelled": 4, "unlabelled": 4}
    data = resolve_labels(load_config(tiny_config))[0].data
    assert data.val is not None
    assert data.oracle is not None
    assert data.source_val is not None
    parts = [Path(each.json_ or "").name.split("-")[1] for each in (data.train, data.oracle, data.val, data.source_val)]
    assert parts == ["train", "train", "val", "val"]
    (yolo / "data.yaml").write_text("names: [dark, light]\ntest: images/val\n")
    with pytest.raises(InputError, match=r"data\.train\.json: .* has the parts test, none of train, all"):
        resolve_labels(load_config(tiny_config))


def test_what_is_foreign_is_seen_without_reading_it_all(tiny_dataset: Path, yolo: Path, tmp_path: Path) -> None:
    labels = read_labels(tiny_dataset / "val.json", tiny_dataset / "images")
    assert is_foreign(str(write_label_studio(labels, tmp_path / "studio")))
    assert is_foreign(str(yolo))
    assert is_foreign(str(yolo / "data.yaml"))
    assert not is_foreign(str(tiny_dataset / "val.json"))
    assert not is_foreign(str(tmp_path / "missing.yaml")), "a missing file is reported by its reader"
    (tmp_path / "results.json").write_text('[{"image_id": 1, "category_id": 1, "score": 0.5}]')
    assert not is_foreign(str(tmp_path / "results.json"))


def test_images_are_named_where_the_labels_cannot(tiny_config: dict[str, Any]) -> None:
    del tiny_config["data"]["train"]["images"]
    with pytest.raises(InputError, match=r"data\.train: images is missing: the folder of the images"):
        load_config(tiny_config)


def test_an_experiment_takes_them_too_and_sees_changed_labels(
    tiny_config: dict[str, Any], yolo: Path, tmp_path: Path
) -> None:
    for name in ("train", "val"):
        tiny_config["data"][name] = {"json": str(yolo)}
    (tmp_path / "base.yaml").write_text(json.dumps(tiny_config))
    axes = {"seed": {"role": "replicate", "key": "train.seed", "values": [0]}}
    experiment = parse_experiment({"base": "base.yaml", "axes": axes}, "experiment.yaml")
    before = list(make_plan(experiment, tmp_path / "experiment.yaml", tmp_path / "out").trials)
    label = next((yolo / "labels" / "train").glob("*.txt"))
    text = label.read_text()
    label.write_text(("1" if text[0] == "0" else "0") + text[1:])  # as many bytes as before
    assert list(make_plan(experiment, tmp_path / "experiment.yaml", tmp_path / "out").trials) != before


def test_folds_are_of_the_training_part(tiny_config: dict[str, Any], yolo: Path, tmp_path: Path) -> None:
    """And not of the part for validation, although a fold is measured as `data.val`."""
    for name in ("train", "val"):
        tiny_config["data"][name] = {"json": str(yolo)}
    tiny_config["run"]["out"] = str(tmp_path / "runs" / "any")
    base = tmp_path / "base.yaml"
    base.write_text(json.dumps(tiny_config))
    values, config = base_of(str(base))
    plan = make_plan(cross_validation(values, config, 3), Path("config"), tmp_path / "out")
    for trial in plan.trials.values():
        assert trial.config.data.val is not None
        assert Path(trial.config.data.val.json_ or "").name == Path(trial.config.data.train.json_ or "").name
        assert "-train-" in str(trial.config.data.val.json_)
