from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from frozen_bits import copied, moved, table
from tlvision.bridges.ultralytics import attach
from tlvision.types import InputError, RunError

pytest.importorskip("tlvision_yolo.upstream", reason="ultralytics is an extra")  # leaves the process as it is
pytestmark = pytest.mark.filterwarnings("ignore")  # ultralytics'

STEM_AND_BACKBONE = (
    "model.0.",
    "model.1.",
    "model.2.",
    "model.3.",
    "model.4.",
    "model.5.",
    "model.6.",
    "model.7.",
    "model.8.",
    "model.9.",
)
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
    from tlvision_yolo import upstream  # imports ultralytics and leaves the process as it is

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


def train(model: Any, data: Path, out: Path, **changes: Any) -> None:
    settings = {
        "epochs": 2,
        "imgsz": 64,
        "batch": 4,
        "device": "cpu",
        "workers": 0,
        "plots": False,
        "verbose": False,
        "project": str(out),
        "name": "run",
        "nbs": 4,
        "optimizer": "SGD",
        "lr0": 0.01,
        "warmup_epochs": 0,
    }
    model.train(data=str(data), **settings | changes)


@pytest.mark.slow
def test_frozen_parts_of_model_and_average_are_bit_equal_and_proved(model: Any, data: Path, tmp_path: Path) -> None:
    attached = attach(model, [FREEZE])
    seen = Seen(model)
    train(model, data, tmp_path)
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
    seen = Seen(model)
    train(model, data, tmp_path)
    found = moved(seen.before, seen.trainer.model, STEM_AND_BACKBONE)
    assert len(found) == 81
    assert all("running_" in name or "num_batches" in name for name in found)
    assert moved(seen.averaged, seen.trainer.ema.ema, STEM_AND_BACKBONE)


@pytest.mark.slow
def test_parts_are_freed_at_their_epochs_and_rates_follow_depth(model: Any, data: Path, tmp_path: Path) -> None:
    hooks = [{"gradual_unfreeze": {"by": "role", "at": [0.25, 0.5, 0.75]}}, {"layerwise_lr": {"decay": 0.5}}]
    attached = attach(model, hooks)
    moves: list[set[str]] = []
    rates: list[dict[str, tuple[float, float]]] = []

    def note(trainer: Any) -> None:
        moves.append({name.split(".")[1] for name in moved(seen.before, trainer.model)})
        rates.append(table(trainer.optimizer, trainer.model))

    model.add_callback("on_train_batch_end", note)
    seen = Seen(model)
    train(model, data, tmp_path, epochs=2, warmup_epochs=1, warmup_bias_lr=0.1)
    assert moves[0] == {"22"}
    assert moves[1] == {"12", "15", "16", "18", "19", "21", "22"}
    assert moves[2] == moves[1] | {str(at) for at in (1, 2, 3, 4, 5, 6, 7, 8, 9)}
    assert moves[3] == moves[2] | {"0"}
    assert [phase.first for phase in attached.report.phases] == [0, 1, 2, 3]
    head, stem = "model.22.cv2.0.0.conv.weight", "model.0.conv.weight"
    assert all(each[stem][0] <= 0.5**8 * 0.01 + 1e-9 for each in rates)
    assert rates[2][stem][0] == pytest.approx(rates[2][head][0] * 0.5**9)
    # An absolute rate of 0.1 in the warm-up would be 6,400 times that of the stem's weights.
    assert rates[0]["model.0.bn.bias"][0] <= 0.5**8 * 0.01
    assert rates[0]["model.22.cv2.0.0.bn.bias"][0] == pytest.approx(0.1)


@pytest.mark.slow
def test_losses_and_average_of_hooks(model: Any, data: Path, tmp_path: Path) -> None:
    """Upstream multiplies its loss by the number of images, so that of a hook has the same factor."""
    hooks = [{"l2_sp": {"alpha": 2.0}}, {"ema": {"decay": 0.5, "warmup": 0}}]
    attached = attach(model, hooks)
    extra: list[float] = []
    pulls: list[float] = []
    averages: list[dict[str, Tensor]] = []

    def note(trainer: Any) -> None:
        upstreams = sum(float(value) for value in trainer.loss_items.values())
        extra.append(float(trainer.loss.detach()) / 4 - upstreams)  # of four images
        weights = {name: each.detach() for name, each in trainer.model.named_parameters() if each.ndim > 1}
        pulls.append(sum(float((each - seen.before[name]).square().sum()) for name, each in weights.items()))

    seen = Seen(model)
    model.add_callback("on_train_batch_end", note)
    model.add_callback("on_train_epoch_end", lambda trainer: averages.append(copied(trainer.ema.ema)))
    train(model, data, tmp_path)
    assert extra[0] == pytest.approx(0.0, abs=1e-3)
    assert min(extra[1:]) > 1e-2
    assert extra[1:] == pytest.approx(pulls[:-1], rel=1e-2, abs=1e-3)  # alpha / 2 is 1; measured after each step
    assert attached.report is not None
    trained = copied(seen.trainer.model)
    assert all(
        not torch.equal(each["model.22.cv2.0.0.conv.weight"], trained["model.22.cv2.0.0.conv.weight"])
        for each in averages
    )
    assert averages[1]["model.22.cv2.0.0.conv.weight"].shape == trained["model.22.cv2.0.0.conv.weight"].shape


@pytest.mark.slow
def test_feature_distance_is_zero_at_the_start(model: Any, data: Path, tmp_path: Path) -> None:
    attach(model, [{"feature_distance": {"taps": ["p3"]}}])
    extra: list[float] = []

    def note(trainer: Any) -> None:
        upstreams = sum(float(value) for value in trainer.loss_items.values())
        extra.append(float(trainer.loss.detach()) / 4 - upstreams)

    model.add_callback("on_train_batch_end", note)
    train(model, data, tmp_path, epochs=1)
    assert extra[0] == pytest.approx(0.0, abs=1e-5)
    assert extra[1] > 1e-3


@pytest.mark.slow
def test_what_the_bridge_cannot_train_is_refused(model: Any, data: Path, tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"'mean_teacher' needs unlabelled images.*ultralytics' trainer.*tlvision train"
    ):
        attach(model, ["mean_teacher"])
    with pytest.raises(InputError, match="has no trainer"):
        attach(object(), [])
    attach(model, [FREEZE])
    with pytest.raises(InputError, match="compile"):
        train(model, data, tmp_path, compile=True)
    from ultralytics.models.yolo.detect import DetectionTrainer

    with pytest.raises(InputError, match=r"Give it to attach instead"):
        train(model, data, tmp_path, trainer=DetectionTrainer)


@pytest.mark.slow
def test_a_callback_that_moves_something_frozen_fails_the_training(model: Any, data: Path, tmp_path: Path) -> None:
    attach(model, [FREEZE])

    def spoil(trainer: Any) -> None:
        trainer.ema.ema.model[0].bn.running_var += 1e-6

    model.add_callback("on_train_epoch_end", spoil)
    with pytest.raises(RunError, match=r"'model.0.bn.running_var' .*differs in the averaged copy"):
        train(model, data, tmp_path)


@pytest.mark.slow
def test_a_killed_training_is_resumed(model: Any, data: Path, tmp_path: Path) -> None:
    from ultralytics import YOLO

    hooks = [{"gradual_unfreeze": {"every": 1, "by": "role", "down_to": "neck"}}]
    attach(model, hooks)

    def stop(trainer: Any) -> None:
        raise KeyboardInterrupt

    model.add_callback("on_model_save", stop)
    with pytest.raises(KeyboardInterrupt):
        train(model, data, tmp_path, epochs=3)
    last = tmp_path / "run" / "weights" / "last.pt"
    copied_last = shutil.copy(last, tmp_path / "killed.pt")  # upstream strips the file at the end of a run
    again = YOLO(last)
    attached = attach(again, hooks)
    seen = Seen(again)
    again.train(resume=True)
    assert [(phase.first, phase.steps) for phase in attached.report.phases] == [(2, 4)]
    assert moved(seen.before, seen.trainer.model, STEM_AND_BACKBONE) == set()
    stateful = YOLO(copied_last)
    attach(stateful, [*hooks, "l2_sp"])
    with pytest.raises(
        InputError, match="'l2_sp' has a state that the checkpoint of ultralytics' trainer does not hold"
    ):
        stateful.train(resume=True)


@pytest.mark.slow
def test_features_of_another_model_are_learnt_of_images_as_upstream_gives_them(
    model: Any, data: Path, tmp_path: Path, small_run: Path
) -> None:
    attach(model, [{"distill": {"run": str(small_run), "scores": 0, "least": 0}}])
    layers, images = [], []

    def note(trainer: Any) -> None:
        layers.append([each.detach().clone() for each in trainer.optimizer.param_groups[-1]["params"]])
        images.append(trainer.train_loader.dataset[0]["img"])

    model.add_callback("on_train_batch_end", note)
    train(model, data, tmp_path, epochs=1)
    first, last = layers[0], layers[-1]
    assert [tuple(each.shape[2:]) for each in first if each.ndim > 1] == [(1, 1), (1, 1)]
    assert not torch.equal(first[0], last[0])
    red, _, blue = images[0].float()
    assert (red - blue).max() > 60 > (blue - red).max(), "RGB, as bridges.ultralytics.IMAGES says: squares are red"
    assert images[0].max() > 1, "which its trainer divides by 255"
