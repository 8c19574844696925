from __future__ import annotations

from pathlib import Path

import pytest
from torch import nn

from tlvision.bridges.models import GivenModel, find_adapter
from tlvision.plugin import BuildSpec, HasForeignModels, get_plugin
from tlvision.types import ClassMap, InputError

CONFIGS = Path(__file__).parents[2] / "plugins" / "openmmlab" / "configs"
FAMILIES = [
    ("yolo", "yolov8n", 64),
    ("yolo", "yolov8n-seg", 64),
    ("mmdet", str(CONFIGS / "mask-rcnn_tiny.py"), 128),
    ("mmseg", "segformer_mit-b0_8xb2-160k_ade20k-512x512", 128),
    ("transformers", "segformer_b0", 128),
    ("transformers", "rtdetr_v2_r18", 128),
]


@pytest.mark.slow
@pytest.mark.parametrize(("plugin", "arch", "size"), FAMILIES)
def test_groups_of_a_known_model_are_those_of_its_plugin(plugin: str, arch: str, size: int) -> None:
    classes = ClassMap.from_names(["a", "b"])
    adapter, _ = get_plugin(plugin).build(BuildSpec(arch=arch, weights="none", classes=classes, image_size=size))
    found = find_adapter(adapter.module)
    assert not isinstance(found, GivenModel)
    assert found.groups == adapter.groups
    assert [tap.name for tap in found.taps] == [tap.name for tap in adapter.taps]


def test_plugins_describe_only_their_own_models() -> None:
    names = ["yolo", "mmdet", "mmseg", "transformers"]
    for name in names:
        plugin = get_plugin(name)
        assert isinstance(plugin, HasForeignModels)
        assert plugin.describe(nn.Sequential(nn.Linear(2, 2))) is None


def test_a_model_without_children_has_no_groups() -> None:
    with pytest.raises(InputError, match=r"no child modules with parameters\. Give its layer groups"):
        find_adapter(nn.Linear(2, 2))
