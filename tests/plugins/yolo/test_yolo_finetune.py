"""The main job on real images, from the script in tools/, checked by pycocotools."""

from __future__ import annotations

import contextlib
import io
import json
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.shared
@pytest.mark.slow
def test_two_epochs_on_blood_cells_from_coco_weights(shared: Path, repository: Path, tmp_path: Path) -> None:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    data = shared / "data" / "bccd"
    subprocess.run(
        [
            *(sys.executable, "tools/train.py", "configs/detect/yolo_finetune.yaml", "--set"),
            f"data.train.json={data / 'train.json'}",
            f"data.train.images={data / 'images'}",
            f"data.val.json={data / 'val.json'}",
            f"data.val.images={data / 'images'}",
            f"model.weights={shared / 'weights' / 'yolov8n-coco-from-int8.pt'}",
            *("data.image_size=320", "train.epochs=2", f"run.out={tmp_path / 'run'}"),
        ],
        cwd=repository,
        check=True,
        capture_output=True,
    )
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(data / "val.json"))
        evaluation = COCOeval(truth, truth.loadRes(str(tmp_path / "run" / "predictions.json")), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    assert metrics["bbox"]["AP"] == pytest.approx(evaluation.stats[0], abs=1e-9)
    assert metrics["bbox"]["AP"] > 0.4
