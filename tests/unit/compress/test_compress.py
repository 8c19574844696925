"""A run becomes bundles in integers that are measured beside those in float."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tlvision
import tlvision.runtime
from stripes import striped_data
from tiny import QUIET, config_of
from tlvision.cli.main import main
from tlvision.compress import int8
from tlvision.compress.calibration import read_inputs, record_inputs
from tlvision.compress.int8 import Int8Settings, quantise
from tlvision.runtime.model import RuntimeModel


def test_without_the_library_nothing_is_begun(
    small_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(int8, "find_spec", lambda name: None)
    assert main(["compress", str(small_run), "--output", str(tmp_path / "out")]) == 2
    assert 'the package nncf is not installed. pip install "tlvision[compress]"' in capsys.readouterr().err
    assert main(["compress", str(small_run), "--output", str(tmp_path / "out"), "--search", "0"]) == 2
    assert "--search must be a whole number from 1 on, got 0" in capsys.readouterr().err
    assert main(["compress", str(small_run), "--output", str(tmp_path / "out"), "--max-drop", "2"]) == 2
    assert "--max-drop must be from 0 to below 1, got 2" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.fixture(scope="module")
def segmenter(tmp_path_factory: pytest.TempPathFactory, tiny_dataset: Path) -> Path:
    """A small segmenter that has learnt something."""
    folder = tmp_path_factory.mktemp("segmenter")
    config = config_of(tiny_dataset, folder / "run", epochs=6, hooks=(QUIET,))
    config["model"]["arch"] = "tiny_segmenter"
    config["data"] = config["data"] | striped_data(folder / "stripes", 8)
    return tlvision.train(config).run


@pytest.fixture(scope="module")
def compressed(segmenter: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("nncf", reason="an extra")
    out = tmp_path_factory.mktemp("compressed") / "out"
    arguments = ["--calibration", "8", "--search", "8", "--latency-budget", "1s", "--max-drop", "0.9"]
    assert main(["compress", str(segmenter), "--output", str(out), *arguments]) == 0
    return out


@pytest.mark.slow
@pytest.mark.openvino
def test_each_variant_is_a_bundle_with_the_value_that_the_table_says(compressed: Path, segmenter: Path) -> None:
    table = json.loads((compressed / "table.json").read_text())
    rows = {row["name"]: row for row in table["rows"]}
    assert list(rows) == ["torch", "onnx", "openvino", "int8"]
    own = json.loads((segmenter / "metrics.json").read_text())["semantic"]["mean_class_iou"]
    assert own > 0.3
    assert rows["torch"]["value"] == pytest.approx(own)
    assert rows["onnx"]["value"] == pytest.approx(own, abs=1e-3)
    for name in ("onnx", "openvino", "int8"):
        assert main(["evaluate", "--bundle", str(compressed / name)]) == 0
        found = json.loads(next((compressed / name).glob("evaluations/*/metrics.json")).read_text())
        assert rows[name]["value"] == pytest.approx(found["semantic"]["mean_class_iou"], abs=1e-9)
        assert rows[name]["low"] <= rows[name]["value"] <= rows[name]["high"]
        classes = found["per_class"]
        assert rows[name]["worst_value"] == pytest.approx(min(each["iou"] for each in classes.values()))
    assert rows["int8"]["drop"] == pytest.approx(rows["onnx"]["value"] - rows["int8"]["value"])
    assert rows["int8"]["megabytes"] < rows["openvino"]["megabytes"]
    assert all(row["latency"]["p95"] >= row["latency"]["median"] > 0 for row in rows.values())
    assert rows["onnx"]["memory"] < rows["torch"]["memory"], "a bundle's process loads no torch"
    assert len(table["advice"]) == 2


@pytest.mark.slow
@pytest.mark.openvino
def test_the_bundle_in_integers_says_so_and_computes_with_them(compressed: Path) -> None:
    about = json.loads((compressed / "int8" / "bundle.json").read_text())["provenance"]["compression"]
    assert about["method"] == "int8"
    assert about["layers"] > 3
    assert about["in_float"] == {"model": []}
    assert "integers of 8 bits" in (compressed / "int8" / "README.md").read_text()
    model = tlvision.runtime.load(compressed / "int8", threads=1)
    other = tlvision.runtime.load(compressed / "openvino", threads=1)
    image = np.random.default_rng(0).integers(0, 256, (96, 96, 3), np.uint8)
    inputs = {"images": np.random.default_rng(0).random((1, 3, 96, 96), np.float32)}
    assert model.predict(image).semantic is not None
    mine, theirs = (each.graph("model", inputs)["scores"] for each in (model, other))
    assert 0 < np.abs(mine - theirs).max() < np.abs(theirs).max()


@pytest.mark.slow
@pytest.mark.openvino
def test_layers_go_back_to_float_until_the_loss_is_accepted(compressed: Path, tmp_path: Path) -> None:
    source = tlvision.runtime.load(compressed / "openvino", threads=1)
    config = (compressed / "openvino" / "config.yaml").read_text()
    images = sorted(Path(config.split("images: ")[1].splitlines()[0]).glob("*.png"))
    samples = tlvision.runtime.model.read_unlabelled(images[:4])
    first = source.graph("model", {"images": np.ones((1, 3, 96, 96), np.float32)})["scores"]

    def measure(model: RuntimeModel, chosen: Any) -> float:
        """Return 1 if the model computes what the one in float does, else less."""
        found = model.graph("model", {"images": np.ones((1, 3, 96, 96), np.float32)})["scores"]
        return 1.0 - float(np.abs(found - first).max() > 1e-4)

    (tmp_path / "strict").mkdir()
    settings = Int8Settings(max_drop=0.5, calibration=samples, search=samples, measure=measure)
    result = quantise(source, tmp_path / "strict", settings)
    assert result.float_value == 1.0
    assert (result.int8_value, len(result.in_float["model"])) == (1.0, result.layers)


@pytest.mark.slow
@pytest.mark.openvino
def test_a_bundle_meets_corrupted_images_as_its_run_does(compressed: Path, segmenter: Path, tmp_path: Path) -> None:
    found = []
    for place, name in ((compressed / "onnx", "a"), (segmenter, "b")):
        out = tmp_path / name
        words = ["--corruptions", "darkness", "--severities", "3", "--output", str(out)]
        assert main(["stress", str(place), *words]) == 0
        found.append(json.loads((out / "stress.json").read_text()))
    assert found[0]["clean"] == pytest.approx(found[1]["clean"], abs=2e-3)
    assert found[0]["mean_relative_loss"] == pytest.approx(found[1]["mean_relative_loss"], abs=5e-3)


@pytest.mark.slow
@pytest.mark.openvino
def test_the_ranges_come_from_what_the_graph_sees_in_use(compressed: Path, tmp_path: Path) -> None:
    model = tlvision.runtime.load(compressed / "onnx", threads=1)
    rng = np.random.default_rng(0)
    path = tmp_path / "image.png"
    tlvision.data.images.write_image(path, rng.integers(0, 256, (90, 60, 3), np.uint8))
    samples = tlvision.runtime.model.read_unlabelled([path])
    *_, files = record_inputs(model, samples, tmp_path / "inputs")
    assert [len(each) for each in files.values()] == [1]
    images = model.inputs(samples)
    expected = tlvision.runtime.model.prepare([images.draw(0)[0]], images.input_spec)
    assert np.array_equal(read_inputs(files["model"][0])["images"], expected)
