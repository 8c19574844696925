"""Weights into a model: the head's rows by class name, everything else by key, and a report on every key."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from fast import first_fast
from tlvision.plugin import WeightReport
from tlvision.plugin.weights.files import read_tensors
from tlvision.types import InputError

COCO_LIKE = (*(f"class {index}" for index in range(78)), "person", " Zebra ")
HEADS = {"yolov8n": ("model.22", ("cv3",)), "yolov10n": ("model.23", ("cv3", "one2one_cv3"))}


def save_checkpoint(adapter: Any, names: Any, path: Path, half: bool = False) -> Path:
    """Write as upstream's trainer does: the whole module, pickled."""
    adapter.module.names = names
    torch.save({"epoch": -1, "model": None, "ema": adapter.module.half() if half else adapter.module}, path)
    return path


def save_tensors(state: dict[str, Tensor], names: tuple[str, ...] | None, path: Path) -> Path:
    """Write as our own trainer does."""
    metadata = None if names is None else {"classes": json.dumps(names)}
    save_file({key: tensor.contiguous() for key, tensor in state.items()}, path, metadata)
    return path


def assert_covers(report: WeightReport, state: dict[str, Tensor]) -> None:
    keys = [*report.loaded, *report.missing, *(entry.split(":")[0] for entry in report.mismatched + report.remapped)]
    assert sorted(keys) == sorted(state)


def randomise(adapter: Any) -> Any:
    for tensor in adapter.module.state_dict().values():
        if tensor.is_floating_point():
            tensor.copy_(torch.rand_like(tensor))
    return adapter


@pytest.mark.parametrize(
    ("arch", "half"), first_fast([("yolov8n", False), ("yolov8n", True), ("yolov10n", True), ("yolo26n", True)], 2)
)
def test_a_checkpoint_for_the_same_classes_is_loaded_whole(build: Any, tmp_path: Path, arch: str, half: bool) -> None:
    source = randomise(build(arch, COCO_LIKE)[0])
    path = save_checkpoint(source, dict(enumerate(COCO_LIKE)), tmp_path / "best.pt", half)
    adapter, report = build(arch, COCO_LIKE, path)
    state, expected = adapter.module.state_dict(), source.module.state_dict()
    assert report == WeightReport(source=str(path), loaded=tuple(state))
    assert all(state[key].dtype == (torch.float32 if value.is_floating_point() else value.dtype)
               for key, value in expected.items())  # fmt: skip
    assert all(torch.equal(state[key], value.to(state[key].dtype)) for key, value in expected.items())


@pytest.mark.parametrize("arch", HEADS)
def test_rows_of_classes_that_share_a_name_are_kept(build: Any, tmp_path: Path, arch: str) -> None:
    head, branches = HEADS[arch]
    source = randomise(build(arch, COCO_LIKE)[0])
    path = save_checkpoint(source, dict(enumerate(COCO_LIKE)), tmp_path / "best.pt")
    adapter, report = build(arch, ("car", "Person", "zebra"), path)
    state, there = adapter.module.state_dict(), source.module.state_dict()
    assert_covers(report, state)
    assert not report.missing
    assert not report.mismatched
    assert len(report.remapped) == 6 * len(branches)
    fresh_scale = 1 / math.sqrt(80)  # Conv2d's uniform initialisation over 80 inputs
    for branch in branches:
        for level, stride in enumerate((8, 16, 32)):
            weight, bias = (f"{head}.{branch}.{level}.2.{kind}" for kind in ("weight", "bias"))
            assert state[weight].shape == (3, 80, 1, 1), "the hidden width is the source's, so that it transfers"
            for row, origin in ((1, 78), (2, 79)):
                assert state[weight][row].equal(there[weight][origin])
                assert state[bias][row].equal(there[bias][origin])
            assert state[weight][0].abs().max() <= fresh_scale
            assert state[weight][0].std() > 0
            assert state[bias][0].item() == pytest.approx(math.log(5 / 3 / (640 / stride) ** 2))
            assert f"{weight}: rows Person, zebra of 80; fresh car" in report.remapped
            hidden = [key for key in state if key.startswith((f"{weight[:-8]}0.", f"{weight[:-8]}1."))]
            assert hidden
            assert all(state[key].equal(there[key]) for key in hidden)


def test_no_shared_name_leaves_the_rows_fresh_and_says_so(build: Any, tmp_path: Path) -> None:
    path = save_checkpoint(randomise(build("yolov8n", ("a", "b"))[0]), ["a", "b"], tmp_path / "best.pt")
    adapter, report = build("yolov8n", ("c", "d"), path)
    assert_covers(report, adapter.module.state_dict())
    assert {entry.split(":")[0] for entry in report.mismatched} == {
        f"model.22.cv3.{level}.2.{kind}" for level in range(3) for kind in ("weight", "bias")
    }
    assert adapter.module.model[-1].cv3[0][-1].bias.max() < 0


def test_the_same_classes_in_another_order_are_not_taken_by_position(build: Any, tmp_path: Path) -> None:
    source = randomise(build("yolov8n", ("a", "b"))[0])
    path = save_checkpoint(source, ["a", "b"], tmp_path / "best.pt")
    adapter, report = build("yolov8n", ("b", "a"), path)
    assert len(report.remapped) == 6
    key = "model.22.cv3.1.2.weight"
    assert adapter.module.state_dict()[key].equal(source.module.state_dict()[key].flip(0))


def test_a_head_whose_classes_are_not_named_is_not_guessed(build: Any, tmp_path: Path) -> None:
    source = randomise(build("yolov8n", ("a", "b"))[0])
    path = tmp_path / "state.pt"
    torch.save(source.module.state_dict(), path)
    adapter, report = build("yolov8n", ("a", "b"), path)
    assert_covers(report, adapter.module.state_dict())
    assert len(report.mismatched) == 6
    assert "does not name its classes" in report.mismatched[0]


@pytest.mark.parametrize("arch", first_fast(["yolov8n", "yolo26n"]))
def test_our_own_file_gives_the_same_model_again(build: Any, tmp_path: Path, arch: str) -> None:
    pretrained = save_checkpoint(randomise(build(arch, COCO_LIKE)[0]), list(COCO_LIKE), tmp_path / "coco.pt")
    names = ("car", "person", "zebra")
    tuned = randomise(build(arch, names, pretrained)[0])
    path = save_tensors(tuned.module.state_dict(), names, tmp_path / "model.safetensors")
    again, report = build(arch, names, path)
    state = again.module.state_dict()
    assert report.loaded == tuple(tuned.module.state_dict())
    assert all(tensor.equal(state[key]) for key, tensor in tuned.module.state_dict().items())
    assert repr(again.module) == repr(tuned.module)


@pytest.mark.parametrize("arch", first_fast(["yolov5nu", "yolo11n", "yolov8s"]))
def test_weights_of_another_architecture_are_refused(build: Any, tmp_path: Path, arch: str) -> None:
    path = save_checkpoint(build("yolov8n")[0], ["a", "b", "c"], tmp_path / "v8n.pt")
    with pytest.raises(InputError, match=rf"v8n\.pt' belongs to another.*'{arch}'.*model\..* here, \(.* there"):
        build(arch, ("a", "b", "c"), path)


def test_weights_with_other_keys_are_refused(build: Any, tmp_path: Path) -> None:
    state = build("yolov8n")[0].module.state_dict()
    path = save_tensors({f"net.{key}": tensor for key, tensor in state.items()}, None, tmp_path / "net.safetensors")
    with pytest.raises(InputError, match=r"only 0 of the \d+ tensors.*model\.0\.conv\.weight.*net\.model\.0"):
        build("yolov8n", ("a",), path)


def test_the_head_may_be_absent(build: Any, tmp_path: Path) -> None:
    state = randomise(build("yolov8n")[0]).module.state_dict()
    body = {key: tensor for key, tensor in state.items() if not key.startswith("model.22.")}
    path = save_tensors(body | {"extra": torch.zeros(1)}, None, tmp_path / "body.safetensors")
    adapter, report = build("yolov8n", ("a", "b"), path)
    assert_covers(report, adapter.module.state_dict())
    assert report.loaded == tuple(body)
    assert report.unused == ("extra",)
    assert all(key.startswith("model.22.") for key in report.missing)
    assert report.missing


@pytest.mark.shared
def test_the_real_yolov8n_is_loaded_whole_for_its_own_classes(build: Any, shared: Path) -> None:
    path = shared / "weights" / "yolov8n-coco-from-int8.pt"
    names = read_tensors(path).class_names
    assert names is not None
    assert len(names) == 80
    adapter, report = build("yolov8n", names, path)
    assert report == WeightReport(source=str(path), loaded=tuple(adapter.module.state_dict()))


@pytest.mark.shared
def test_a_real_person_stays_a_person(build: Any, shared: Path) -> None:
    path = shared / "weights" / "yolov8n-coco-from-int8.pt"
    file = read_tensors(path)
    assert file.class_names is not None
    adapter, report = build("yolov8n", ("car", "person", "no such thing"), path)
    for level in range(3):
        key = f"model.22.cv3.{level}.2.weight"
        rows = adapter.module.state_dict()[key]
        for row, name in enumerate(("car", "person")):
            assert rows[row].equal(file.tensors[key][file.class_names.index(name)].float())
    assert len(report.remapped) == 6
    assert len(report.loaded) == len(adapter.module.state_dict()) - 6


@pytest.mark.shared
def test_the_real_yolov5n_fits_but_for_its_anchor_based_head(build: Any, shared: Path) -> None:
    adapter, report = build("yolov5n", ("a", "b"), shared / "weights" / "yolov5n-coco-v6.0.state_dict.pt")
    assert len(report.loaded) == 342
    assert len(report.unused) == 350 - 342
    assert all(key.startswith("model.24.") for key in (*report.missing, *report.unused))
    assert_covers(report, adapter.module.state_dict())
