"""A whole run with instance masks: what it leaves behind, how it resumes, and what is refused before it starts."""

from __future__ import annotations

import contextlib
import io
import json
import runpy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from safetensors.torch import load_file

import tlvision
from interrupt import interrupted
from launch import torchrun
from tiny import QUIET
from tlvision.cli.main import main
from tlvision.engine import train as runs
from tlvision.engine.evaluate import evaluate_run
from tlvision.engine.predict import predict_images
from tlvision.plugin import BuildSpec, get_plugin, registry
from tlvision.plugin.weights.files import read_tensors
from tlvision.synthetic.inspection import domain_classes, render_inspection
from tlvision.training.checkpoint import save_weights
from tlvision.types import ClassMap, InputError, RunError

pycocotools = pytest.importorskip("pycocotools")
DISCS = Path(__file__).with_name("discs.py")


@pytest.fixture(scope="module")
def plates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The rendered plates, whose objects have polygons."""
    folder = tmp_path_factory.mktemp("plates")
    render_inspection(folder, domain="source", train=12, val=8, seed=0)
    return folder


@pytest.fixture(scope="module", autouse=True)
def _discs() -> Iterator[None]:
    """Make the plugin of discs.py known."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registry, "_entry_points", runpy.run_path(str(DISCS))["entry_points"])
        yield


@pytest.fixture
def config(plates: Path, tmp_path: Path, repository: Path) -> dict[str, Any]:
    """A run of a few seconds with the plugin of discs.py, on weights that know the plates."""
    return config_of(plates, repository, tmp_path / "run")


@pytest.fixture(scope="module")
def result(plates: Path, repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What that run returned, for tests that only read it."""
    return tlvision.train(config_of(plates, repository, tmp_path_factory.mktemp("discs") / "run"))


def config_of(plates: Path, repository: Path, out: Path) -> dict[str, Any]:
    weights = repository / "tlvision" / "presets" / "weights" / "inspection_source.safetensors"
    return {
        "model": {"plugin": "discs", "arch": "disc_segmenter", "weights": str(weights)},
        "data": {
            "train": {"json": str(plates / "train.json"), "images": str(plates / "images")},
            "val": {"json": str(plates / "val.json"), "images": str(plates / "images")},
            "image_size": 256,
            "batch": {"labelled": 4},
            "augment": {"mosaic": 0.5, "rotate": 10, "flip_vertical": 0.5},
        },
        "train": {"epochs": 2, "lr": 1e-4, "device": "cpu"},
        "hooks": ["ema", QUIET],
        "evaluate": {"batch": 4},
        "run": {"out": str(out)},
    }


def scored_by_pycocotools(ground_truth: Path, predictions: Path, kind: str) -> list[float]:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(ground_truth))
        evaluation = COCOeval(truth, truth.loadRes(str(predictions)), kind)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return [float(value) for value in evaluation.stats]


def headline(metrics: dict[str, Any]) -> dict[str, Any]:
    """Return metrics without their analysis, which has other thresholds if it does not choose them itself."""
    return {key: value for key, value in metrics.items() if key != "analysis"}


def assert_published(metrics: dict[str, Any], ground_truth: Path, predictions: Path) -> None:
    for kind in ("bbox", "segm"):
        ours = [-1.0 if value is None else value for value in metrics[kind].values()]
        assert ours == pytest.approx(scored_by_pycocotools(ground_truth, predictions, kind), abs=1e-9)
        assert metrics[kind]["AP"] > 0.05, "nothing was found, so the comparison says nothing"
    assert metrics["segm"] != metrics["bbox"]


def test_a_run_with_masks_leaves_what_a_run_with_boxes_does_and_masks(result: Any, plates: Path) -> None:
    run, metrics = result.run, result.metrics
    assert metrics == json.loads((run / "metrics.json").read_text())
    assert metrics["task"] == "instance"
    assert_published(metrics, plates / "val.json", run / "predictions.json")
    assert {"bbox/AP", "segm/AP", "ground_truths"} <= metrics["per_class"]["screw"].keys()
    rows = json.loads((run / "predictions.json").read_text())
    assert [row["image_id"] for row in rows] == sorted(row["image_id"] for row in rows)
    assert all(row["segmentation"]["size"] == [192, 256] for row in rows)
    assert (run / "pictures" / "sheet.jpg").is_file()
    report = (run / "report.html").read_text()
    for expected in ("bbox AP", "segm AP", "segm/AP", "Metrics (segm)", "Metrics (bbox)"):
        assert expected in report
    # "auto" stays in the file, so that a resumed run resolves it in the same way; what it stands for selects.
    assert yaml.safe_load((run / "config.yaml").read_text())["evaluate"]["select"] == "auto"
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    values = [line["metrics"]["segm/AP"] for line in lines if line["kind"] == "evaluation"]
    assert len(values) == 2
    best = json.loads((run / "checkpoints" / "best" / "state.json").read_text())["best"]
    assert best == max(values) == metrics["segm"]["AP"]


@pytest.mark.slow
def test_a_finished_run_predicts_and_is_evaluated_with_masks(
    result: Any, plates: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    again, folder = evaluate_run(result.run)
    assert headline(again) == headline(result.metrics)
    assert json.loads((folder / "metrics.json").read_text()) == again

    images = sorted((plates / "images").glob("val_*.jpg"))
    model = tlvision.load(result.run).model
    assert model.task.name == "instance"
    found = model.predict(images[0], min_score=0)
    assert found.masks is not None
    assert found.masks.shape == (len(found), 192, 256)

    predict_images(result.run, images, tmp_path / "out", min_score=0)
    rows = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert rows
    first = [row for row in rows if row["image_id"] == 1]
    assert len(first) == len(found)
    assert {"image_id", "segmentation", "bbox", "score", "category_id", "category", "file_name"} == first[0].keys()
    assert len(list((tmp_path / "out").glob("*.jpg"))) == len(images) == 8
    # The images in the order of their ids in val.json, so the same file is scored to the same numbers.
    assert main(["evaluate", "--gt", str(plates / "val.json"), "--predictions", str(folder / "predictions.json")]) == 0
    assert f"{result.metrics['segm']['AP']:.4f}" in capsys.readouterr().out
    assert_published(result.metrics, plates / "val.json", tmp_path / "out" / "predictions.json")


def test_a_json_without_masks_is_evaluated_by_boxes_and_that_is_said(
    result: Any, plates: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = json.loads((plates / "val.json").read_text())
    for row in content["annotations"]:
        del row["segmentation"]
    boxes_only = tmp_path / "boxes.json"
    boxes_only.write_text(json.dumps(content))
    capsys.readouterr()
    metrics, folder = evaluate_run(result.run, boxes_only, plates / "images")
    assert "boxes.json has no masks: only boxes are evaluated" in capsys.readouterr().out
    assert metrics["task"] == "detect"
    assert "segm" not in metrics
    assert metrics["bbox"]["AP"] == pytest.approx(result.metrics["bbox"]["AP"], abs=1e-12)
    assert main(["evaluate", "--gt", str(boxes_only), "--predictions", str(folder / "predictions.json")]) == 0
    output = capsys.readouterr().out
    assert "only boxes are compared" in output
    assert "segm" not in output
    content["annotations"][0]["segmentation"] = [[1, 1, 5, 1, 5, 5]]
    boxes_only.write_text(json.dumps(content))
    with pytest.raises(InputError, match=r"boxes\.json: \d+ of \d+ annotations have no 'segmentation'"):
        evaluate_run(result.run, boxes_only, plates / "images")


@pytest.mark.slow
def test_classes_that_the_run_does_not_use_do_not_count_afterwards_either(config: dict[str, Any]) -> None:
    config["data"]["classes"] = ["screw", "rust"]
    config["train"]["epochs"] = 1
    result = tlvision.train(config)
    assert list(result.metrics["per_class"]) == ["screw", "rust"]
    assert headline(evaluate_run(result.run)[0]) == headline(result.metrics)


@pytest.mark.slow
@pytest.mark.parametrize("step", [2, 3])
def test_an_interrupted_run_resumes_to_the_same_bits_and_metrics(
    config: dict[str, Any], result: Any, step: int, tmp_path: Path
) -> None:
    straight = result.run
    with interrupted(step):
        tlvision.train(config)
    resumed = tlvision.train({}, resume=tmp_path / "run").run
    for name in ("metrics.json", "predictions.json"):
        assert (straight / name).read_text() == (resumed / name).read_text()
    one, other = (load_file(str(run / "checkpoints/last/model.safetensors")) for run in (straight, resumed))
    assert one.keys() == other.keys()
    assert all((one[name] == other[name]).all() for name in one)


def toy_weights(path: Path, classes: ClassMap, detector: str) -> str:
    """Write weights for the toy instance segmenter: the detector's, and a mask that fills every box."""
    adapter, _ = get_plugin("toy").build(BuildSpec(arch="toy-instance", weights="none", classes=classes))
    state = adapter.module.state_dict()
    known = read_tensors(detector).tensors
    assert len(known.keys() & state.keys()) > 90
    filled = {"mask.weight": state["mask.weight"] * 0, "mask.bias": state["mask.bias"] * 0 + 1}
    save_weights(path, {**state, **known, **filled}, classes)
    return str(path)


@pytest.mark.slow
def test_the_toy_instance_segmenter_trains_is_published_and_resumes(
    config: dict[str, Any], plates: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = toy_weights(tmp_path / "toy.safetensors", domain_classes("source"), config["model"]["weights"])
    config["model"] = {"plugin": "toy", "arch": "toy-instance", "weights": weights}
    config["train"]["epochs"] = 1
    result = tlvision.train(config)
    assert_published(result.metrics, plates / "val.json", result.run / "predictions.json")
    lines = [json.loads(line) for line in (result.run / "log.jsonl").read_text().splitlines()]
    assert "loss_mask" in lines[0]["losses"]
    assert len(list((result.run / "pictures").glob("val_*.jpg"))) == 8
    images = str(plates / "images" / "val_0000.jpg")
    assert main(["predict", "--run", str(result.run), images, "--output", str(tmp_path / "out")]) == 0
    assert all("segmentation" in row for row in json.loads((tmp_path / "out" / "predictions.json").read_text()))
    longer = tlvision.train({}, ["train.epochs=2"], resume=result.run)
    assert {"bbox", "segm"} <= longer.metrics.keys()
    assert json.loads((longer.run / "checkpoints" / "last" / "state.json").read_text())["step"] == 6


@pytest.mark.slow
def test_two_processes_share_the_images_and_leave_one_file(
    config: dict[str, Any], plates: Path, tmp_path: Path
) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(config))
    torchrun(DISCS, str(path))
    run = tmp_path / "run"
    rows = json.loads((run / "predictions.json").read_text())
    ids = [row["image_id"] for row in rows]
    assert ids == sorted(ids)
    assert len(set(ids)) > 4, "both processes predicted"
    assert_published(json.loads((run / "metrics.json").read_text()), plates / "val.json", run / "predictions.json")


@pytest.mark.slow
@pytest.mark.parametrize("select", ["segm/AP75", "bbox/AP50"])
def test_either_kind_of_metric_may_select(config: dict[str, Any], select: str) -> None:
    config["evaluate"]["select"] = select
    config["train"]["epochs"] = 1
    result = tlvision.train(config)
    kind, name = select.split("/")
    state = json.loads((result.run / "checkpoints" / "best" / "state.json").read_text())
    assert state["best"] == result.metrics[kind][name]


def no_build(monkeypatch: pytest.MonkeyPatch, config: dict[str, Any]) -> None:
    """Let the test fail where the model is built, or an image is read."""

    def refuse(*arguments: Any, **options: Any) -> Any:
        raise AssertionError("the model was built, or an image read, before what is cheap was checked")

    monkeypatch.setattr(type(registry.get_plugin(config["model"]["plugin"])), "build", refuse)
    monkeypatch.setattr("tlvision.data.loader.read_image", refuse)


@pytest.mark.parametrize("split", ["train", "val"])
@pytest.mark.parametrize("what", ["gone", "empty", "crowd"])
def test_objects_without_masks_are_an_error_before_the_model_is_built(
    config: dict[str, Any], plates: Path, monkeypatch: pytest.MonkeyPatch, split: str, what: str
) -> None:
    content = json.loads((plates / f"{split}.json").read_text())
    chosen = content["annotations"][2:4]
    for row in chosen:
        row["segmentation"] = []
        if what != "empty":
            del row["segmentation"]
        if what == "crowd":
            row["iscrowd"] = 1
    path = Path(config["run"]["out"]).with_name("edited.json")
    path.write_text(json.dumps(content))
    config["data"][split]["json"] = str(path)
    no_build(monkeypatch, config)
    name = next(image["file_name"] for image in content["images"] if image["id"] == chosen[0]["image_id"])
    count = len(content["annotations"])
    expected = rf"edited\.json: 2 of {count} annotations have no 'segmentation'.*annotation {chosen[0]['id']} in {name}"
    with pytest.raises(InputError, match=expected):
        tlvision.train(config)


def test_masks_need_the_size_of_their_image_in_the_json(
    config: dict[str, Any], plates: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = json.loads((plates / "val.json").read_text())
    del content["images"][0]["width"]
    content["annotations"][0]["image_id"] = content["images"][0]["id"]
    path = tmp_path / "edited.json"
    path.write_text(json.dumps(content))
    config["data"]["val"]["json"] = str(path)
    no_build(monkeypatch, config)
    with pytest.raises(InputError, match=r"edited\.json: 1 images have no 'width' and 'height'.*val_0000\.jpg"):
        tlvision.train(config)


WRONG_SELECT = [
    (("discs", "disc_segmenter"), "segm/ap", "'instance' has no metric 'segm/ap'. Did you mean 'segm/AP'?"),
    (("toy", "tiny_detector"), "segm/AP", "'detect' has no metric 'segm/AP'. Known: auto, bbox/AP, "),
]


@pytest.mark.parametrize(("model", "select", "expected"), WRONG_SELECT, ids=[row[1] for row in WRONG_SELECT])
def test_a_wrong_select_is_said_before_any_file_is_read(
    config: dict[str, Any], monkeypatch: pytest.MonkeyPatch, model: tuple[str, str], select: str, expected: str
) -> None:
    config["model"] |= {"plugin": model[0], "arch": model[1]}
    config["data"]["train"]["json"] = "absent.json"
    config["evaluate"]["select"] = select
    no_build(monkeypatch, config)
    with pytest.raises(InputError) as error:
        tlvision.train(config)
    assert expected in str(error.value)


def test_masks_of_the_batch_whose_loss_is_not_finite_are_kept(
    config: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    build = runs.build_run

    def poisoned(config: Any, **options: Any) -> Any:
        parts = build(config, **options)
        honest = parts.adapter.loss
        parts.adapter.loss = lambda images, targets: {
            name: value * float("nan") for name, value in honest(images, targets).items()
        }
        return parts

    monkeypatch.setattr(runs, "build_run", poisoned)
    with pytest.raises(RunError, match="not finite"):
        tlvision.train(config)
    saved = load_file(str(Path(config["run"]["out"]) / "offending_batch.safetensors"))
    assert saved["masks"].shape == (len(saved["boxes"]), 256, 256)


@pytest.mark.slow
def test_show_and_verify_work_with_masks(
    config: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(config))
    assert main(["show", str(path)]) == 0
    assert "activations" in capsys.readouterr().out
    assert main(["verify", str(path)]) == 0


@pytest.mark.slow
def test_the_plain_script_trains_with_masks(config: dict[str, Any], tmp_path: Path, repository: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(config))
    script = runpy.run_path(str(repository / "tools" / "plain_train.py"), run_name="plain_train")
    script["main"](str(path), str(tmp_path / "out.safetensors"), ["train.epochs=1"])
    assert (tmp_path / "out.safetensors").is_file()
