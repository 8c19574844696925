"""Architectures of transformers by name, by config and by folder, and the sizes that upstream publishes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tlvision.types import InputError
from tlvision_transformers.plugin import plugin
from tlvision_transformers.zoo import ARCHITECTURES, DETECTOR_TYPES, find_architecture

MILLIONS = {
    "rtdetr_v2_r18": 20,
    "rtdetr_v2_r34": 31,
    "rtdetr_v2_r50": 43,
    "rtdetr_v2_r101": 76,
    "rtdetr_r18": 20,
    "rtdetr_r50": 43,
    "dfine_n": 4,
    "dfine_s": 10,
    "dfine_m": 19,
    "dfine_l": 31,
    "dfine_x": 62,
    "detr_r50": 41,
    "detr_r101": 60,
    "conditional_detr_r50": 44,
    "dab_detr_r50": 44,
    "deformable_detr_r50": 40,
    "yolos_tiny": 6.5,
    "yolos_small": 30.7,
    "yolos_base": 127,
    "rf_detr_base": 32,
    "lw_detr_tiny": 12.1,
    "lw_detr_small": 14.6,
    "lw_detr_medium": 28.2,
    "lw_detr_large": 46.8,
    "lw_detr_xlarge": 118,
    "segformer_b0": 3.8,
    "segformer_b1": 13.7,
    "segformer_b2": 27.5,
    "segformer_b3": 47.3,
    "segformer_b4": 64.1,
    "segformer_b5": 84.7,
    "upernet_convnext_tiny": 60,
    "upernet_swin_tiny": 60,
    "dpt_large": 343,
    "mask2former_swin_tiny": 47,
    "mask2former_swin_small": 69,
    "eomt_large": 316,
    "eomt_large_instance": 316,
    "maskformer_swin_tiny": 42,
    "maskformer_swin_small": 63,
}
"""Parameters as the papers and the model cards have them, for COCO's 80 or ADE20K's 150 classes."""


@pytest.mark.slow
@pytest.mark.parametrize("name", MILLIONS)
def test_a_named_model_has_as_many_parameters_as_upstreams(name: str) -> None:
    from tlvision_transformers.build import build_model

    arch = find_architecture(name)
    classes = tuple(f"class {number}" for number in range(80 if arch.task == "detect" else 150))
    with torch.device("meta"):
        model = build_model(arch, classes)
    count = sum(parameter.numel() for parameter in model.parameters()) / 1e6
    assert count == pytest.approx(MILLIONS[name], rel=0.06)


def test_names_are_for_three_tasks() -> None:
    assert len(ARCHITECTURES) >= 30
    assert set(MILLIONS) <= set(ARCHITECTURES)
    assert plugin.task_of("dfine_n") == "detect"
    assert plugin.task_of("mask2former_swin_tiny") == "semantic"
    assert plugin.task_of("mask2former_swin_tiny_instance") == "instance"
    assert plugin.task_of("eomt_large_instance") == "instance"


def test_every_name_has_published_weights() -> None:
    assert ARCHITECTURES["rtdetr_v2_r18"].published["coco"] == "PekingU/rtdetr_v2_r18vd"
    assert ARCHITECTURES["segformer_b0"].published == {
        "pretrained": "nvidia/segformer-b0-finetuned-ade-512-512",
        "imagenet": "nvidia/mit-b0",
    }
    assert all(each.published for each in ARCHITECTURES.values())


def test_a_config_is_a_name(config_of: Callable[[str], str], tmp_path: Path) -> None:
    path = config_of("rt_detr_v2")
    assert plugin.task_of(path) == "detect"
    (tmp_path / "config.json").write_text(Path(path).read_text(encoding="utf-8"), encoding="utf-8")
    assert find_architecture(str(tmp_path)).model_type == "rt_detr_v2"
    assert plugin.task_of(config_of("mask2former")) == "semantic"
    assert plugin.task_of(config_of("mask2former#instance")) == "instance"


@pytest.mark.parametrize(
    ("arch", "message"),
    [
        ("rtdetr_v2_r19", "Did you mean 'rtdetr_v2_r18'"),
        ("absent/config.json", "cannot be read"),
    ],
)
def test_what_is_not_there_is_an_error(arch: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        find_architecture(arch)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[", "is no JSON"),
        ("[]", "model_type None. Supported are rt_detr_v2"),
        (json.dumps({"model_type": "bert"}), "model_type 'bert'. Supported are rt_detr_v2"),
    ],
)
def test_a_config_of_another_kind_is_an_error(content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match=message):
        find_architecture(str(tmp_path))


def test_a_model_that_finds_no_objects_with_masks_is_an_error(config_of: Callable[[str], str]) -> None:
    with pytest.raises(InputError, match="which rt_detr_v2 does not have here"):
        find_architecture(config_of("rt_detr_v2") + "#instance")


def test_a_config_that_upstream_cannot_build_is_an_error(build: Any, tmp_path: Path) -> None:
    broken = {"model_type": "rt_detr_v2", "backbone_config": {"model_type": "none such"}}
    (tmp_path / "config.json").write_text(json.dumps(broken), encoding="utf-8")
    with pytest.raises(InputError, match="transformers cannot build"):
        build(str(tmp_path))


def test_detectors_without_an_adapter_are_not_listed() -> None:
    assert "rt_detr" in DETECTOR_TYPES
    assert {each.model_type for each in ARCHITECTURES.values() if each.task == "detect"} <= set(DETECTOR_TYPES)
