"""What upstream's `freeze` freezes, that ours is the same set, and that a frozen backbone keeps less in memory."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from subsets import first_images
from tlvision.formats.coco import read_coco
from tlvision.hooks import Duration, initial_plan
from tlvision.hooks.setup.freeze import Freeze
from tlvision.plugin import map_groups
from tlvision.training.modes import set_modes
from tlvision.types import Target

UPSTREAM_FREEZE = """
import json, sys
import torch
from ultralytics import YOLO
before, found = {}, {}
def names_that_differ(state):
    return [name for name in before if not torch.equal(state[name], before[name])]
def start(trainer):
    before.update({name: value.clone() for name, value in trainer.model.state_dict().items()})
    found["trained"] = [name for name, value in trainer.model.named_parameters() if value.requires_grad]
    held = [value for group in trainer.optimizer.param_groups for value in group["params"]]
    found["frozen_in_optimizer"] = sum(not value.requires_grad for value in held)
def step(trainer):
    found["eval"] = [name for name, module in trainer.model.named_modules() if not module.training]
def end(trainer):
    found["moved"] = names_that_differ(trainer.model.state_dict())
    found["moved_in_average"] = names_that_differ(trainer.ema.ema.state_dict())
model = YOLO(sys.argv[1])
for moment, what in (("on_train_start", start), ("on_train_batch_end", step), ("on_train_end", end)):
    model.add_callback(moment, what)
model.train(data=sys.argv[2], project=sys.argv[3], epochs=3, imgsz=96, batch=4, nbs=4, device="cpu", workers=0,
            name="train", plots=False, val=False, freeze=10, optimizer="AdamW", lr0=1e-3)
print(json.dumps(found))
"""


@pytest.mark.parametrize(("arch", "layers"), [("yolov8n", 10), ("yolo11n", 11)])
def test_how_many_of_upstreams_layers_our_backbone_is(tools: Callable[[str], Any], arch: str, layers: int) -> None:
    assert tools("benchmarks.freezing").frozen_layers(arch) == layers


def kept_for_backward(adapter: Any, targets: list[Target]) -> int:
    """Return the bytes of all storages that autograd keeps, the model's own left out."""
    own = {tensor.untyped_storage().data_ptr() for tensor in adapter.module.state_dict().values()}
    kept: dict[int, torch.Tensor] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.untyped_storage().data_ptr() not in own:
            kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        adapter.loss(torch.zeros(len(targets), 3, 160, 160), targets)
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())


def test_a_frozen_backbone_keeps_less_for_the_backward_pass(build: Any, make_target: Callable[..., Target]) -> None:
    adapter, _ = build()
    full = initial_plan(
        adapter.module, map_groups(adapter.module, adapter.groups), Duration(epochs=1, steps_per_epoch=1)
    )
    targets = [make_target([[20, 20, 90, 80, 1]]), make_target()]
    sizes = []
    for plan in (full, Freeze(roles=["stem", "backbone"]).setup(full)):
        set_modes(adapter.module, plan, 0)
        sizes.append(kept_for_backward(adapter, targets))
    assert sizes[1] < 0.5 * sizes[0]


@pytest.fixture
def sixteen(shared: Path, tmp_path: Path) -> Path:
    return first_images(shared / "data" / "bccd" / "train.json", 16, tmp_path / "sixteen.json")


@pytest.mark.shared
@pytest.mark.slow
def test_what_upstreams_freeze_does(shared: Path, sixteen: Path, tmp_path: Path, tools: Callable[[str], Any]) -> None:
    """The peer that we are compared with is really frozen, its running statistics too."""
    data = read_coco(sixteen, shared / "data" / "bccd" / "images")
    description = tools("benchmarks.parity.yolo").write_dataset(data, data, tmp_path / "data")
    weights = shared / "weights" / "yolov8n-coco-from-int8.pt"
    command = [sys.executable, "-c", UPSTREAM_FREEZE, weights, description, tmp_path]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    found = json.loads(done.stdout.splitlines()[-1])
    frozen = tuple(f"model.{layer}." for layer in range(10))
    for kind in ("trained", "moved", "moved_in_average"):
        assert len(found[kind]) > 100
        assert not [name for name in found[kind] if name.startswith(frozen)], kind
    assert any("running_mean" in name for name in found["moved"])
    assert "model.0.bn" in found["eval"]
    assert not [name for name in found["eval"] if not name.startswith(frozen)]
    # Not what we do: all that is frozen is in upstream's optimizer, and saved from it only by having no gradient.
    assert found["frozen_in_optimizer"] > 50


@pytest.mark.shared
@pytest.mark.slow
def test_the_freezing_benchmark_compares_like_with_like(
    shared: Path, sixteen: Path, tmp_path: Path, repository: Path
) -> None:
    (tmp_path / "train.json").write_bytes(sixteen.read_bytes())
    (tmp_path / "images").symlink_to(shared / "data" / "bccd" / "images")
    options = ["--data", tmp_path, "--weights", shared / "weights" / "yolov8n-coco-from-int8.pt", "--out", tmp_path]
    options += ["--image-size", "96", "--batch", "4", "--steps", "2", "--warmup", "2", "--repeats", "1"]
    command = [sys.executable, repository / "tools" / "bench.py", "freezing", *options]
    done = subprocess.run(
        [str(part) for part in command], check=True, stdout=subprocess.PIPE, text=True, cwd=repository
    )
    assert "frozen: upstream's layers 0 to 9" in done.stdout
    ours, ours_frozen, theirs, theirs_frozen = (
        runs[0] for runs in json.loads((tmp_path / "freezing.json").read_text(encoding="utf-8")).values()
    )
    assert ours["trained"] == theirs["trained"] > ours_frozen["trained"] == theirs_frozen["trained"]
    for row in (ours, ours_frozen, theirs, theirs_frozen):
        assert row["threads"] == 1
        assert row["step_seconds"] > 0
        assert 0 < row["added_memory_bytes"] < row["peak_memory_bytes"]
