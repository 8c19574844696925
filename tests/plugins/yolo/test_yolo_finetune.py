"""The main job on real images, from the script in tools/, checked by pycocotools."""

from __future__ import annotations

import contextlib
import io
import json
import subprocess
import sys
from pathlib import Path

import pytest


def train(repository: Path, config: str, **values: object) -> None:
    settings = [f"{name.replace('__', '.')}={value}" for name, value in values.items()]
    command = [sys.executable, "tools/train.py", config, "--set", *settings]
    subprocess.run(command, cwd=repository, check=True)


def pycocotools_ap(truth: Path, predictions: Path, kind: str) -> float:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        known = COCO(str(truth))
        evaluation = COCOeval(known, known.loadRes(str(predictions)), kind)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return float(evaluation.stats[0])


@pytest.mark.shared
@pytest.mark.slow
def test_two_epochs_on_blood_cells_from_coco_weights(shared: Path, repository: Path, tmp_path: Path) -> None:
    data, out = shared / "data" / "bccd", tmp_path / "run"
    train(
        repository,
        "configs/detect/yolo_finetune.yaml",
        data__train__json=data / "train.json",
        data__train__images=data / "images",
        data__val__json=data / "val.json",
        data__val__images=data / "images",
        model__weights=shared / "weights" / "yolov8n-coco-from-int8.pt",
        data__image_size=320,
        train__epochs=2,
        run__out=out,
    )
    metrics = json.loads((out / "metrics.json").read_text())
    expected = pycocotools_ap(data / "val.json", out / "predictions.json", "bbox")
    assert metrics["bbox"]["AP"] == pytest.approx(expected, abs=1e-9)
    assert metrics["bbox"]["AP"] > 0.4


@pytest.mark.shared
@pytest.mark.slow
def test_a_few_steps_of_a_segmenter_from_a_detectors_weights(shared: Path, repository: Path, tmp_path: Path) -> None:
    data, out = shared / "data" / "coco128", tmp_path / "run"
    train(
        repository,
        "configs/instance/yolo_seg.yaml",
        data__train__json=data / "train_seg.json",
        data__train__images=data / "images",
        data__val__json=data / "val_seg.json",
        data__val__images=data / "images",
        model__weights=shared / "weights" / "yolov8n-coco-from-int8.pt",
        data__image_size=160,
        train__epochs=2,
        run__out=out,
    )
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics["task"] == "instance"
    for kind in ("bbox", "segm"):
        expected = pycocotools_ap(data / "val_seg.json", out / "predictions.json", kind)
        assert metrics[kind]["AP"] == pytest.approx(expected, abs=1e-9)
    assert metrics["bbox"]["AP"] > 0.05, "the boxes begin with what the detector knows; its masks are fresh"
    assert metrics["segm"]["AP"] > 0
