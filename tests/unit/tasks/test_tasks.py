"""Tasks are found by name, and each decides for itself what is read, written, measured and better."""

from __future__ import annotations

import json
import math
from importlib.metadata import EntryPoint
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tlvision.evaluation.summary import format_table, headlines
from tlvision.hooks import Context
from tlvision.hooks.observers.checkpoint import Checkpoint
from tlvision.hooks.observers.early_stop import EarlyStop
from tlvision.tasks import LabelOptions, Metric, Source, get_task, metric_names, registry, task_names
from tlvision.tasks.registry import built_in_tasks
from tlvision.types import ClassMap, InputError, Prediction, RunError, Sample, empty_target

BOX = np.array([[1, 2, 11, 12]], np.float32)


def sample(image_id: int) -> Sample:
    return Sample(
        image_id=image_id, path=Path(f"{image_id}.png"), width=20, height=20, target=empty_target(), segments=()
    )


def found(score: float, label: int = 0, masks: Any = None) -> Prediction:
    return Prediction(boxes=BOX, scores=np.array([score], np.float32), labels=np.array([label]), masks=masks)


def entry_points_of(monkeypatch: pytest.MonkeyPatch, *points: EntryPoint) -> None:
    registry._third_party.cache_clear()
    registry.get_task.cache_clear()
    monkeypatch.setattr(registry, "entry_points", lambda group: points if group == registry.GROUP else ())


@pytest.fixture(autouse=True)
def _forget_tasks() -> Any:
    yield
    registry._third_party.cache_clear()
    registry.get_task.cache_clear()


def test_the_three_tasks_of_the_core() -> None:
    assert task_names() == ("detect", "instance", "semantic")
    by_name = {name: get_task(name) for name in task_names()}
    assert {name: metric_names(task)[0] for name, task in by_name.items()} == {
        "detect": "bbox/AP",
        "instance": "segm/AP",
        "semantic": "semantic/mean_class_iou",
    }
    assert {name: (task.max_objects, set(task.labels)) for name, task in by_name.items()} == {
        "detect": (300, {"boxes"}),
        "instance": (100, {"boxes", "masks"}),
        "semantic": (None, {"label_map"}),
    }
    assert metric_names(get_task("detect"), 500)[6:9] == ["bbox/AR1", "bbox/AR10", "bbox/AR500"]
    with pytest.raises(InputError, match=r"unknown task 'detekt'.*detect"):
        get_task("detekt")


def test_a_task_of_another_package(monkeypatch: pytest.MonkeyPatch) -> None:
    entry_points_of(monkeypatch, EntryPoint("boxes2", "tlvision.tasks.objects:DETECT", registry.GROUP))
    assert "boxes2" in task_names()
    with pytest.raises(InputError, match=r"'boxes2' \(tlvision.tasks.objects:DETECT\): its name is 'detect'"):
        get_task("boxes2")


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (("nowhere:TASK",), "entry point 'nowhere:TASK' cannot be imported .ModuleNotFoundError"),
        (("one:TASK", "two:TASK"), "several packages provide it .one:TASK, two:TASK.; uninstall all but one"),
    ],
)
def test_a_task_that_cannot_be_used_is_named(
    values: tuple[str, ...], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry_points_of(monkeypatch, *(EntryPoint("mine", value, registry.GROUP) for value in values))
    with pytest.raises(InputError, match=f"task 'mine': .*{words}"):
        get_task("mine")


def test_boxes_alone_are_measured_where_a_json_has_no_masks(tiny_dataset: Path, tmp_path: Path) -> None:
    content = json.loads((tiny_dataset / "val.json").read_text())
    for row in content["annotations"]:
        row.pop("segmentation", None)
    (tmp_path / "val.json").write_text(json.dumps(content))
    without = Source(name="val", images="unused", json=str(tmp_path / "val.json"))
    assert get_task("instance").measured_as(without) is get_task("detect")
    assert get_task("semantic").measured_as(without) is get_task("semantic")
    for row in content["annotations"]:
        row["segmentation"] = [[1, 1, 9, 1, 9, 9]]
    (tmp_path / "val.json").write_text(json.dumps(content))
    assert get_task("instance").measured_as(without) is get_task("instance")


def test_rows_of_images_without_labels_have_names(tmp_path: Path) -> None:
    results = get_task("detect").named_results(tmp_path, ClassMap(("a", "b"), (3, 90)), {7: "x/y.png", 2: "z.png"}, {})
    results.add(sample(7), found(0.5, label=1))
    results.add(sample(2), found(0.25))
    results.write()
    rows = json.loads((tmp_path / "predictions.json").read_text())
    assert [(row["image_id"], row["category_id"], row["category"], row["file_name"]) for row in rows] == [
        (2, 3, "a", "z.png"),
        (7, 90, "b", "x/y.png"),
    ]


def test_a_prediction_without_what_the_task_is_about_is_an_error(tmp_path: Path) -> None:
    classes = ClassMap(("a",), (1,))
    with pytest.raises(RunError, match="returned no masks"):
        get_task("instance").named_results(tmp_path, classes, {1: "1.png"}, {}).add(sample(1), found(0.5))
    with pytest.raises(RunError, match="returned no label map"):
        get_task("semantic").named_results(tmp_path, classes, {}, {1: "1"}).add(sample(1), found(0.5))


def test_label_maps_of_an_earlier_evaluation_are_gone(tmp_path: Path) -> None:
    results = get_task("semantic").named_results(tmp_path, ClassMap(("a", "b"), (0, 1)), {}, {1: "deep/1"})
    (tmp_path / "label_maps").mkdir()
    (tmp_path / "label_maps" / "old.png").touch()
    results.prepare()
    results.add(sample(1), Prediction.empty(np.ones((20, 20), np.int64)))
    assert [path.name for path in (tmp_path / "label_maps").rglob("*.png")] == ["1.png"]


def test_pixels_without_an_object_are_a_class_of_their_own_or_unknown(tiny_dataset: Path, tmp_path: Path) -> None:
    """The index of that class goes into training targets."""
    content = json.loads((tiny_dataset / "train.json").read_text())
    for row in content["annotations"]:
        x, y, width, height = row["bbox"]
        row["segmentation"] = [[x, y, x + width, y, x + width, y + height]]
    (tmp_path / "train.json").write_text(json.dumps(content))
    task = get_task("semantic")
    source = Source(name="train", images=str(tiny_dataset / "images"), json=str(tmp_path / "train.json"))
    for unlabelled in ("background", "ignore"):
        options = LabelOptions(unlabelled=unlabelled)  # type: ignore[arg-type]
        data = task.read(source, options, None)
        parts = task.targets(data, options)
        assert parts.label_map
        assert ("background" in data.classes.names) == (parts.background is not None) == (unlabelled == "background")
        assert parts.background is None or data.classes.names[parts.background] == "background"


def test_labels_of_another_kind_are_refused() -> None:
    maps = Source(name="val", images="i", masks="m")
    both = Source(name="val", images="i", json="j", masks="m")
    with pytest.raises(InputError, match=r"data.val.masks: label maps are for semantic models"):
        get_task("detect").read(maps, LabelOptions(), None)
    with pytest.raises(InputError, match=r"data.val: the task 'detect' takes a json without masks"):
        get_task("detect").read(both, LabelOptions(), None)
    with pytest.raises(InputError, match=r"data.classes: names with values are for label maps"):
        get_task("detect").read(Source(name="val", images="i", json="j"), LabelOptions(classes={"a": 1}), None)
    with pytest.raises(InputError, match=r"data.classes: a panoptic json has its own classes"):
        get_task("semantic").read(both, LabelOptions(classes=("a",)), None)
    with pytest.raises(InputError, match=r"data.classes: label maps hold numbers only"):
        get_task("semantic").read(maps, LabelOptions(), None)


def test_overall_numbers_of_any_task_are_shown() -> None:
    metrics = {"task": "points", "points": {"distance": 0.5}, "per_class": {}, "selection": {"by": "x"}, "source": {}}
    assert headlines(metrics) == {"points": {"distance": 0.5}}
    assert "distance  0.5000" in format_table(metrics)
    with pytest.raises(KeyError, match="expected overall numbers"):
        format_table({"per_class": {}, "protocol": {}})


def context_of(higher_is_better: bool) -> Any:
    context: Any = SimpleNamespace(select="m", higher_is_better=higher_is_better, best=None, saved=[], stopped=[])
    context.gain = lambda value, over: Context.gain(context, value, over)
    context.save, context.stop = context.saved.append, context.stopped.append
    return context


@pytest.mark.parametrize(("higher", "best"), [(True, [0.5, 0.6]), (False, [0.5, 0.4])])
def test_a_metric_has_a_direction(higher: bool, best: list[float]) -> None:
    context, checkpoint, stop = context_of(higher), Checkpoint(), EarlyStop(patience=2, min_delta=0.05)
    kept = []
    for value in (0.5, 0.6, 0.4, 0.5):
        context.metrics = {"m": value}
        before = len(context.saved)
        checkpoint.after_evaluation(context)
        stop.after_evaluation(context)
        kept += [value] if len(context.saved) > before else []
    assert kept == best
    assert context.best == best[-1]
    assert bool(context.stopped) == higher, "0.6, then two worse ones; 0.4 is the last but one"


def test_a_value_outside_of_the_range_of_a_metric_is_an_error() -> None:
    for task in built_in_tasks():
        assert {metric.range for metric in task.metrics()} == {(0.0, 1.0)}
    metric = Metric("points/distance", higher_is_better=False, range=(0.0, math.inf))
    metric.check({"points/distance": 5.0, "bbox/AP": -3.0})
    metric.check({})
    with pytest.raises(RunError, match=r"'points/distance': -0.1 is outside of its range, 0 to inf"):
        metric.check({"points/distance": -0.1})
