"""Everything that tlvision promises its users about every plugin, on each kind of model of transformers."""

from __future__ import annotations

from pathlib import Path

import pytest

from tlvision.conformance import PluginCheck, plugin_checks
from zoo import contract

CONFIGS = Path(__file__).parent / "configs"
KINDS = (
    "rt_detr_v2",
    "d_fine",
    "segformer",
    "mask2former",
    "mask2former#instance",
    "detr",
    "conditional_detr",
    "deformable_detr",
    "deformable_detr_two_stage",
    "rt_detr",
    "deimv2",
    "yolos",
    "rf_detr",
    "upernet",
    "upernet_swin",
    "dpt",
    "maskformer",
    "dab_detr",
    "lw_detr",
    "eomt",
    "eomt#instance",
    "eomt_dinov3",
)
"""RT-DETRv2 first: facts about the plugin and what trains a model are checked on the first of each task."""
_SLOW = "from random weights it needs more than 400 steps"
_DETRS = ("detr", "conditional_detr", "dab_detr")
EXPECTED = {kind: {"overfits_one_image": _SLOW} for kind in (*_DETRS, "dpt", "maskformer")}
EXPECTED["deformable_detr_two_stage"] = {
    "head_by_class_name": "upstream reads row 0 of the encoder's own head alone, so that its rows go by position"
}


def arch_of(kind: str) -> str:
    name, instance, _ = kind.partition("#")
    return str(CONFIGS / f"{name}.json") + ("#instance" if instance else "")


CHECKS = {
    kind: plugin_checks("transformers", arch=arch_of(kind), expected_failures=EXPECTED.get(kind)) for kind in KINDS
}


def test_every_config_is_checked() -> None:
    assert {path.stem for path in CONFIGS.glob("*.json")} == {kind.partition("#")[0] for kind in KINDS}


@pytest.mark.parametrize("check", contract(CHECKS))
def test_contract(check: PluginCheck) -> None:
    check()
