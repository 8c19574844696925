"""Everything that tlvision promises its users about every plugin, on one model of each decoder."""

from __future__ import annotations

import pytest

from tlvision.conformance import PluginCheck, plugin_checks
from zoo import contract

SEGMENTERS = {
    "unet/mobilenet_v2": 96,
    "unetplusplus/resnet18": 96,
    "deeplabv3/resnet18": 96,
    "deeplabv3plus/mobilenet_v2": 96,
    "fpn/mobilenet_v2": 96,
    "pspnet/mobilenet_v2": 96,
    "pan/mobilenet_v2": 256,
    "linknet/mobilenet_v2": 96,
    "manet/mobilenet_v2": 96,
    "upernet/tu-convnext_atto": 96,
    "segformer/mit_b0": 96,
    "dpt/tu-vit_tiny_patch16_224": 96,
}
"""The long side of the input; two of what it must be a multiple of, at least."""
CHECKS = {arch: plugin_checks("smp", arch=arch, image_size=size) for arch, size in SEGMENTERS.items()}


@pytest.mark.parametrize("check", contract(CHECKS))
def test_contract(check: PluginCheck) -> None:
    check()
