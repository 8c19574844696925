from __future__ import annotations

import os
from types import SimpleNamespace
from typing import Any, Literal

import pytest
import torch

from tlvision.training.fabric import choose_precision, make_fabric, place
from tlvision.training.settings import TrainSettings
from tlvision.training.workers import choose_workers
from tlvision.types import InputError


def machine(monkeypatch: pytest.MonkeyPatch, *, gpu: bool, bf16: bool) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: bf16)


@pytest.mark.parametrize(
    ("gpu", "bf16", "settings", "expected"),
    [
        (False, False, {}, "fp32"),
        (True, True, {}, "bf16"),
        (True, False, {}, "fp32"),
        (True, True, {"device": "cpu"}, "fp32"),
        (True, True, {"precision": "fp32"}, "fp32"),
        (False, False, {"precision": "bf16"}, "bf16"),
    ],
)
def test_auto_precision_is_bf16_where_the_gpu_has_it(
    monkeypatch: pytest.MonkeyPatch, gpu: bool, bf16: bool, settings: dict[str, Any], expected: str
) -> None:
    machine(monkeypatch, gpu=gpu, bf16=bf16)
    assert choose_precision(TrainSettings(epochs=1, **settings)) == expected


def test_what_the_machine_does_not_have_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, gpu=True, bf16=False)
    with pytest.raises(InputError, match="this GPU has no bf16"):
        choose_precision(TrainSettings(epochs=1, precision="bf16"))
    machine(monkeypatch, gpu=False, bf16=False)
    with pytest.raises(InputError, match="no usable GPU"):
        choose_precision(TrainSettings(epochs=1, device="cuda"))


def test_workers_are_none_on_a_cpu_and_share_the_cores_on_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(16)), raising=False)
    fabric: Any = SimpleNamespace(device=torch.device("cpu"))
    assert choose_workers("auto", fabric) == 0
    assert choose_workers(3, fabric) == 3
    fabric.device = torch.device("cuda")
    assert choose_workers("auto", fabric) == 8
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert choose_workers("auto", fabric) == 3


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_layout_changes_and_the_values_do_not(precision: Literal["fp32", "bf16"]) -> None:
    module = torch.nn.Conv2d(3, 4, 3)
    before = module.weight.detach().clone()
    place(make_fabric(TrainSettings(epochs=1, device="cpu", precision=precision)), module)
    assert module.weight.is_contiguous(memory_format=torch.channels_last) is (precision == "fp32")
    assert torch.equal(module.weight, before)
