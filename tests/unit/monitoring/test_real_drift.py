"""Drift on real images: bundles of trained models, their validation images, and another domain."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tlvision
import tlvision.runtime
from tiny import QUIET
from tlvision.data.unlabelled import samples_of
from tlvision.export.export import export_run
from tlvision.formats.coco import read_images
from tlvision.monitoring.columns import Columns, as_columns
from tlvision.monitoring.drift import measure_drift
from tlvision.monitoring.monitor import MonitorSettings, monitor
from tlvision.monitoring.read import read_reference
from tlvision.monitoring.record import Record
from tlvision.monitoring.records import RecordLog
from tlvision.types import ImageFile

pytestmark = [pytest.mark.slow, pytest.mark.shared]


def kitti(shared: Path) -> tuple[dict[str, Any], tuple[ImageFile, ...]]:
    own, other = shared / "data/driving_kitti", shared / "data/driving_carla"
    parts = {
        part: {"json": str(own / f"{part}_vehicle.json"), "images": str(own / "images")} for part in ("train", "val")
    }
    model = {"plugin": "yolo", "arch": "yolov8n", "weights": str(shared / "weights/yolov8n-coco-from-int8.pt")}
    config = {"model": model, "data": {**parts, "image_size": 320, "batch": {"labelled": 8}}}
    return config, read_images(other / "images", other / "val.json").images


def camvid(shared: Path) -> tuple[dict[str, Any], tuple[ImageFile, ...]]:
    own = shared / "data/camvid_day"
    parts: dict[str, Any] = {
        part: {"images": str(own / "images" / part), "masks": str(own / "masks" / part)} for part in ("train", "val")
    }
    weights = str(shared / "weights/mobilenet_v2-imagenet-from-int8.pth")
    model = {"plugin": "smp", "arch": "unet/mobilenet_v2", "weights": weights}
    data = {**parts, "classes": str(own / "classes.txt"), "image_size": 224, "batch": {"labelled": 8}}
    return {"model": model, "data": data}, read_images(shared / "data/camvid_dusk/images/val").images


def of(records: list[Record], rows: Any, classes: int) -> Columns:
    return as_columns([records[row] for row in rows], classes)


@pytest.mark.parametrize("pair", [kitti, camvid])
def test_held_out_images_are_no_alarm_and_another_domain_is(pair: Any, shared: Path, tmp_path: Path) -> None:
    config, other = pair(shared)
    config |= {"train": {"epochs": 1, "lr": 1e-3, "device": "cpu"}, "hooks": [QUIET]}
    config["run"] = {"out": str(tmp_path / "run"), "report": False}
    bundle = export_run(tlvision.train(config).run, tmp_path / "bundle").folder
    model = tlvision.runtime.load(bundle)
    records = read_reference(bundle)
    assert len(records) >= 40
    classes = len(model.classes)
    alarms = 0
    for seed in range(100):
        order = np.random.default_rng(seed).permutation(len(records))
        middle = len(records) // 2
        sides = of(records, order[:middle], classes), of(records, order[middle:], classes)
        alarms += any(test.alarm for test in measure_drift(*sides, alpha=0.01, seed=seed))
    assert alarms <= 5
    with RecordLog(tmp_path / "log.jsonl", model) as log:
        for sample, found, seen in model.observe_samples(samples_of(other)):
            log.add(sample.path.name, found, seen, (sample.width, sample.height))
    result = monitor(bundle, [tmp_path / "log.jsonl"], MonitorSettings())
    assert result.verdict == "alarm"
    assert sum(test.alarm for test in result.tests if test.group == "features") >= 2
    few = monitor(bundle, [tmp_path / "log.jsonl"], replace(MonitorSettings(), limit=16))
    assert few.verdict == "alarm"
