"""A run becomes a bundle that finds the same without torch, or no bundle at all."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import tlvision
import tlvision.runtime
from no_torch import WITHOUT_TORCH
from stripes import striped_data
from tiny import QUIET, config_of
from tlvision.cli.main import main
from tlvision.export import compare
from tlvision.export.export import check_exportable, check_window, export_run
from tlvision.runtime.model import RuntimeModel
from tlvision.types import InputError, RunError


def without_torch(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, *arguments], capture_output=True, text=True, check=False
    )


def predictions(folder: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((folder / "predictions.json").read_text())
    return found


def test_a_family_without_an_export_is_an_error_before_anything_is_built(
    small_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InputError, match=r"--format 'onx' is not known\. Did you mean 'onnx'"):
        export_run(small_run, tmp_path / "out", graph_format="onx")
    model = tlvision.load(small_run).model
    without: Any = object()
    with pytest.raises(InputError, match=r"plugin 'toy' has no export of 'tiny_detector' \(not written\)"):
        check_exportable(replace(model, adapter=without))

    class Segmenters:
        name, capabilities = "toy", {"Exportable": "impossible: it is a drawing"}

    monkeypatch.setattr("tlvision.export.export.get_plugin", lambda name: Segmenters)
    with pytest.raises(InputError, match=r"plugin 'toy' has no export \(impossible: it is a drawing\)"):
        export_run(small_run, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_graph_of_one_size_takes_no_sliding_window(small_run: Path) -> None:
    model = tlvision.load(small_run).model
    config = model.config
    windowed = replace(
        model, config=config.model_copy(update={"evaluate": config.evaluate.model_copy(update={"window": 32})})
    )
    graphs = model.adapter.export_graphs(torch.zeros(1, 3, 96, 96))  # type: ignore[attr-defined]
    check_window(windowed, graphs)
    stiff = replace(graphs, graphs={"model": replace(graphs.graphs["model"], free={})})
    check_window(model, stiff)
    with pytest.raises(
        InputError, match=r"takes images of one size, and evaluate.window 32 of the run asks for smaller"
    ):
        check_window(windowed, stiff)


def test_a_command_that_needs_torch_says_so_without_it(small_run: Path, tmp_path: Path) -> None:
    done = without_torch("predict", "--run", str(small_run), str(small_run), "--output", str(tmp_path / "out"))
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert 'pip install "tlvision[train]"' in done.stderr


@pytest.fixture(scope="module")
def bundle(small_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("bundle") / "small"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compare, "LEAST", 0.011)  # a run of one epoch is sure of nothing
        result = export_run(small_run, out)
    assert result.comparison.objects > 100
    assert result.comparison.same is not None
    assert result.comparison.same >= compare.SHARE
    assert result.bundle == pytest.approx(result.run, abs=1e-6)
    return out


@pytest.mark.slow
def test_a_bundle_predicts_without_torch_what_the_run_predicts(
    bundle: Path, small_run: Path, tiny_dataset: Path, tmp_path: Path
) -> None:
    images = str(tiny_dataset / "images")
    every = ["--min-score", "0"]
    done = without_torch("predict", "--bundle", str(bundle), images, "--output", str(tmp_path / "a"), *every)
    assert done.returncode == 0, done.stderr
    assert main(["predict", "--run", str(small_run), images, "--output", str(tmp_path / "b"), *every]) == 0
    found, wanted = predictions(tmp_path / "a"), predictions(tmp_path / "b")
    assert len(found) == len(wanted) > 100
    for mine, other in zip(sorted(found, key=_of_class), sorted(wanted, key=_of_class), strict=True):
        assert (mine["image_id"], mine["category_id"]) == (other["image_id"], other["category_id"])
        assert mine["score"] == pytest.approx(other["score"], abs=1e-5)


def _of_class(row: dict[str, Any]) -> tuple[int, int, float]:
    return row["image_id"], row["category_id"], row["score"]


@pytest.mark.slow
def test_a_bundle_is_logged_and_monitored_without_torch(bundle: Path, tiny_dataset: Path, tmp_path: Path) -> None:
    about = json.loads((bundle / "bundle.json").read_text())
    assert "reference.jsonl" in about["files"]
    assert len([name for name in about["check"]["comparison"]["outputs"] if name.startswith("model/tap/")]) == 3
    names = [json.loads(line)["name"] for line in (bundle / "reference.jsonl").read_bytes().splitlines()]
    assert sorted(names) == ["013.png", "014.png", "015.png", "016.png"]
    log = tmp_path / "log.jsonl"
    images = str(tiny_dataset / "images")
    options = ["--output", str(tmp_path / "found"), "--log", str(log)]
    done = without_torch("predict", "--bundle", str(bundle), images, *options)
    assert done.returncode == 0, done.stderr
    assert len(log.read_bytes().splitlines()) == 16
    collect = ["--output", str(tmp_path / "drift"), "--collect", "3", "--against", str(log)]
    done = without_torch("monitor", str(bundle), str(log), *collect)
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "drift/collected/images").iterdir())) == 3
    done = without_torch("monitor", str(bundle), str(log))
    assert done.returncode == 3
    assert "the reference has 4 images, and 16 are needed" in done.stdout


@pytest.mark.slow
def test_a_bundle_is_evaluated_as_its_run_is(
    bundle: Path, small_run: Path, tiny_dataset: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", "--bundle", str(bundle)]) == 0
    metrics = json.loads(next(bundle.glob("evaluations/*/metrics.json")).read_text())
    own = json.loads((small_run / "metrics.json").read_text())
    assert metrics["bbox"]["AP"] == pytest.approx(own["bbox"]["AP"], abs=1e-4)
    assert metrics["analysis"].keys() == own["analysis"].keys()
    assert main(["evaluate", "--bundle", str(bundle), "--tiles", "64"]) == 2
    assert "--tiles has no effect on a bundle" in capsys.readouterr().err
    out = ["--output", f"{bundle}_found"]
    assert main(["predict", "--bundle", str(bundle), str(tiny_dataset / "images"), *out, "--device", "cpu"]) == 2
    assert "--device has no effect on a bundle" in capsys.readouterr().err


@pytest.mark.slow
def test_the_card_says_what_was_measured_and_where_it_comes_from(bundle: Path, small_run: Path) -> None:
    card = (bundle / "README.md").read_text()
    own = json.loads((small_run / "metrics.json").read_text())
    about = json.loads((bundle / "bundle.json").read_text())
    assert f"| bbox/AP | {own['bbox']['AP']:.4f} |" in card
    assert "| dark | " in card
    assert about["provenance"]["data"]["train"]["sha256"] in card
    assert about["check"]["comparison"]["images"] == own["counts"]["images"] <= compare.IMAGES
    assert about["licence"] == "Apache-2.0"


@pytest.mark.slow
def test_a_bundle_that_finds_other_things_is_not_written(
    small_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_graph = RuntimeModel.graph

    def other(self: RuntimeModel, name: str, inputs: Any, *, taps: bool = False) -> dict[str, Any]:
        outputs = run_graph(self, name, inputs, taps=taps)
        return outputs | {"scores": np.clip(outputs["scores"] + np.float32(0.01), 0, 1)}

    monkeypatch.setattr(RuntimeModel, "graph", other)
    with pytest.raises(RunError, match=r"output 'model/scores' differs by 0\.01 from that of the model"):
        export_run(small_run, tmp_path / "out")
    monkeypatch.setattr(RuntimeModel, "graph", run_graph)
    samples = RuntimeModel.observe_samples
    monkeypatch.setattr(
        RuntimeModel,
        "observe_samples",
        lambda self, *given, **named: (
            (sample, replace(found, boxes=found.boxes + np.float32(9)), seen)
            for sample, found, seen in samples(self, *given, **named)
        ),
    )
    with pytest.raises(RunError, match=r"bbox/AP of the bundle is .* in the run's metrics.json; at most 0.001 apart"):
        export_run(small_run, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
@pytest.mark.openvino
@pytest.mark.parametrize("arch", ["tiny_detector", "tiny_segmenter"])
def test_openvino_and_a_fixed_input(arch: str, small_run: Path, tiny_dataset: Path, tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    run = small_run
    if arch == "tiny_segmenter":
        config = config_of(tiny_dataset, tmp_path / "run", epochs=1, hooks=(QUIET,))
        config["model"]["arch"] = arch
        config["data"] = config["data"] | striped_data(tmp_path / "stripes", 4)
        run = tlvision.train(config).run
    result = export_run(run, tmp_path / "ov", graph_format="openvino", fixed=True)
    # A detector of one epoch is sure of nothing, which is "not measured".
    assert (result.comparison.same is None) == (arch == "tiny_detector")
    assert result.comparison.same is None or result.comparison.same >= compare.SHARE
    model = tlvision.runtime.load(tmp_path / "ov", threads=1)
    assert model.bundle.fixed == (96, 96)
    assert sorted(path.suffix for path in (tmp_path / "ov").glob("model.*")) == [".bin", ".xml"]
    files = sorted(Path(tlvision.load(run).config.data.val.images).glob("*.png"))[:3]
    for found, wanted in zip(
        model.predict(files, min_score=0.0), tlvision.load(run).predict(files, min_score=0.0), strict=True
    ):
        if wanted.semantic is not None:
            assert (found.semantic == wanted.semantic).mean() > 0.999
        else:
            assert np.allclose(found.scores[:20], wanted.scores[:20], atol=1e-3)
