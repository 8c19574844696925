from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from frozen_bits import copied, moved, table
from tlvision.bridges.ultralytics import attach
from tlvision.types import InputError, RunError

pytest.importorskip("ultralytics")
pytestmark = pytest.mark.filterwarnings("ignore")  # ultralytics'

STEM_AND_BACKBONE = ("model.0.", "model.1.", "model.2.", "model.3.", "model.4.", "model.5.", "model.6.", "model.7.",
                     "model.8.", "model.9.")
FREEZE = {"freeze": {"roles": ["stem", "backbone"]}}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset in YOLO's layout: eight images with a bright square each."""
    import cv2

    folder = tmp_path_factory.mktemp("squares")
    rng = np.random.default_rng(0)
    for number in range(8):
        image = rng.integers(0, 40, (64, 64, 3)).astype(np.uint8)
        x, y = (int(value) for value in rng.integers(4, 36, 2))
        image[y : y + 20, x : x + 20] = (90, 90, 200)
        for kind in ("images", "labels"):
            (folder / kind).mkdir(exist_ok=True)
        cv2.imwrite(str(folder / "images" / f"{number}.png"), image)
        row = f"0 {(x + 10) / 64} {(y + 10) / 64} {20 / 64} {20 / 64}\n"
        (folder / "labels" / f"{number}.txt").write_text(row)
    (folder / "data.yaml").write_text(f"path: {folder}\ntrain: images\nval: images\nnames: [square]\n")
    return folder / "data.yaml"


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    import tlvision_yolo.upstream as upstream  # imports ultralytics and leaves the process as it is

    with upstream.quiet():
        from ultralytics import YOLO

        torch.manual_seed(0)
        yield YOLO("yolov8n.yaml")


class Seen:
    """Callbacks that keep the weights of trainer and EMA when training starts and the trainer itself."""

    def __init__(self, model: Any) -> None:
        model.add_callback("on_pretrain_routine_end", self.start)
        model.add_callback("on_train_end", self.end)

    def start(self, trainer: Any) -> None:
        self.before, self.averaged = copied(trainer.model), copied(trainer.ema.ema)

    def end(self, trainer: Any) -> None:
        self.trainer = trainer


def train(model: Any, data: Path, out: Path, **changes: Any) -> Seen:
    seen = Seen(model)
    settings = {"epochs": 2, "imgsz": 64, "batch": 4, "device": "cpu", "workers": 0, "plots": False, "verbose": False,
                "project": str(out), "name": "run", "nbs": 4, "optimizer": "SGD", "lr0": 0.01, "warmup_epochs": 0}
    model.train(data=str(data), **settings | changes)
    return seen


@pytest.mark.slow
def test_frozen_parts_of_model_and_average_are_bit_equal_and_proved(model: Any, data: Path, tmp_path: Path) -> None:
    attached = attach(model, [FREEZE])
    seen = train(model, data, tmp_path)
    assert len([n for n in seen.before if n.startswith(STEM_AND_BACKBONE)]) > 150
    assert moved(seen.before, seen.trainer.model, STEM_AND_BACKBONE) == set()
    assert moved(seen.averaged, seen.trainer.ema.ema, STEM_AND_BACKBONE) == set()
    assert len(moved(seen.before, seen.trainer.model, ("model.22.",))) > 50
    assert not [n for n in table(seen.trainer.optimizer, seen.trainer.model) if n.startswith(STEM_AND_BACKBONE)]
    (phase,) = attached.report.phases
    assert (phase.first, phase.steps) == (0, 4)
    assert phase.frozen > 150


@pytest.mark.slow
def test_frozen_in_on_train_epoch_start_the_statistics_move(model: Any, data: Path, tmp_path: Path) -> None:
    """The callback that people use: upstream calls `model.train()` after it."""

    def freeze(trainer: Any) -> None:
        for name, module in trainer.model.named_modules():
            if f"{name}.".startswith(STEM_AND_BACKBONE):
                module.requires_grad_(False).eval()

    model.add_callback("on_train_epoch_start", freeze)
    seen = train(model, data, tmp_path)
    found = moved(seen.before, seen.trainer.model, STEM_AND_BACKBONE)
    assert len(found) == 81
    assert all("running_" in name or "num_batches" in name for name in found)
    assert moved(seen.averaged, seen.trainer.ema.ema, STEM_AND_BACKBONE)
