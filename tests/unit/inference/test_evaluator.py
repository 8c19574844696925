"""The evaluator keeps run lengths, never masks; every process's rows come together, by image id."""

from __future__ import annotations

import gc
import json
import weakref
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from tlvision.formats.coco import CocoData, write_dataset
from tlvision.inference import evaluator as evaluate
from tlvision.inference.evaluator import Evaluator, resolve_select
from tlvision.tasks import get_task
from tlvision.types import ClassMap, InputError, InputSpec, Prediction, RunError, Sample, Target

CLASSES = ClassMap(("a", "b"), (3, 90))
SIZE = (48, 64)


def square(x: int) -> np.ndarray:
    mask = np.zeros(SIZE, np.uint8)
    mask[10:30, x : x + 20] = 1
    return mask


def dataset(folder: Path, ids: list[int]) -> CocoData:
    samples = []
    for image_id in ids:
        outline = np.array([[5, 10], [25, 10], [25, 30], [5, 30]], np.float32)
        target = Target(boxes=np.array([[5, 10, 25, 30]], np.float32), labels=np.array([0]), crowd=np.array([False]))
        samples.append(
            Sample(image_id=image_id, path=folder / f"{image_id}.png", width=64, height=48, target=target,
                   segments=((outline,),))
        )  # fmt: skip
    write_dataset(folder / "val.json", samples, CLASSES, "squares")
    return CocoData(folder / "val.json", folder, tuple(samples), CLASSES, {0: 3}, ())


def prediction(masks: bool = True) -> Prediction:
    """The object found exactly, one that is wrong, and one of a class that the json does not have."""
    found = np.stack([square(5), square(30), square(40)])
    return Prediction(
        boxes=np.array([[5, 10, 25, 30], [30, 10, 50, 30], [40, 10, 60, 30]], np.float32),
        scores=np.array([0.9, 0.8, 0.7], np.float32),
        labels=np.array([0, 0, 1]),
        masks=found if masks else None,
    )


def evaluator_of(data: CocoData, task: str = "instance", world: int = 1) -> Evaluator:
    fabric: Any = SimpleNamespace(
        world_size=world, is_global_zero=True, broadcast=lambda value, src: value, barrier=lambda: None
    )
    return Evaluator(
        task=get_task(task), data=data, ground_truth=data.path, out=data.images_dir, fabric=fabric, image_size=64,
        batch_size=4, workers=0,
    )  # fmt: skip


ADAPTER: Any = SimpleNamespace(module=nn.Linear(1, 1), input_spec=InputSpec())


@pytest.mark.slow
def test_the_masks_of_an_image_are_gone_when_the_next_one_comes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = dataset(tmp_path, [9, 2, 30, 4])
    masks: list[weakref.ref[np.ndarray]] = []
    most = 0

    def found(*arguments: Any, **options: Any) -> Iterator[tuple[Sample, Prediction]]:
        nonlocal most
        for sample in data.samples:
            one = prediction()
            masks.append(weakref.ref(one.masks))
            gc.collect()
            most = max(most, sum(reference() is not None for reference in masks))
            yield sample, one

    monkeypatch.setattr(evaluate, "predict_samples", found)
    evaluator = evaluator_of(data)
    metrics = evaluator.evaluate(ADAPTER)
    assert len(masks) == 4
    assert most <= 2, "the one that is made and the one before it"
    rows = json.loads((tmp_path / "predictions.json").read_text())
    assert [(row["image_id"], row["score"]) for row in rows] == [(i, s) for i in (2, 4, 9, 30) for s in (0.9, 0.8)]
    assert evaluator.left_out == 4
    assert metrics["segm/AP"] == metrics["bbox/AP"] == 1.0
    assert json.loads((tmp_path / "metrics.json").read_text())["task"] == "instance"


def test_rows_of_all_processes_come_together_by_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the other process would send is made up: its rows are those of this one, for the other images."""
    data = dataset(tmp_path, [9, 2, 30, 4])
    sent: list[Any] = []

    def gather(shares: list[Any], own: Any) -> None:
        rows, left_out = own
        sent.append(own)
        other = {9: 2, 30: 4}
        shares[:] = [own, ([{**row, "image_id": other[row["image_id"]]} for row in rows], left_out)]

    monkeypatch.setattr(torch.distributed, "all_gather_object", gather)
    monkeypatch.setattr(
        evaluate, "predict_samples", lambda *a, **o: ((s, prediction()) for s in data.samples if s.image_id in (9, 30))
    )
    evaluator = evaluator_of(data, world=2)
    assert evaluator.evaluate(ADAPTER)["segm/AP"] == 1.0
    rows = json.loads((tmp_path / "predictions.json").read_text())
    assert [row["image_id"] for row in rows] == [2, 2, 4, 4, 9, 9, 30, 30]
    assert evaluator.left_out == 4, "of both processes"
    assert len(sent) == 1
    assert "ndarray" not in repr([[type(value) for value in row.values()] for row in sent[0][0]])


def test_a_model_that_gives_no_masks_is_told_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = dataset(tmp_path, [1])
    monkeypatch.setattr(
        evaluate, "predict_samples", lambda *a, **o: ((s, prediction(masks=False)) for s in data.samples)
    )
    with pytest.raises(RunError, match=r"predict\(\) returned no masks"):
        evaluator_of(data).evaluate(ADAPTER)
    assert "segm/AP" not in evaluator_of(data, "detect").evaluate(ADAPTER)


@pytest.mark.parametrize(
    ("select", "task", "expected"),
    [
        ("auto", "detect", "bbox/AP"),
        ("auto", "instance", "segm/AP"),
        ("bbox/AP50", "detect", "bbox/AP50"),
        ("bbox/APs", "instance", "bbox/APs"),
        ("segm/AR100", "instance", "segm/AR100"),
    ],
)
def test_the_metric_that_selects(select: str, task: str, expected: str) -> None:
    assert resolve_select(select, get_task(task)).name == expected


@pytest.mark.parametrize(("select", "task"), [("segm/AP", "detect"), ("AP", "instance"), ("semantic/AP", "instance")])
def test_a_metric_that_the_task_does_not_have(select: str, task: str) -> None:
    with pytest.raises(InputError, match=rf"evaluate\.select: the task '{task}' has no metric '{select}'"):
        resolve_select(select, get_task(task))
