"""Everything that tlvision promises its users about every plugin, on each detector."""

from __future__ import annotations

import pytest

from tlvision.conformance import PluginCheck, plugin_checks
from zoo import contract

DETECTORS = (
    "fasterrcnn_mobilenet_v2_fpn",
    "maskrcnn_resnet18_fpn",
    "retinanet_resnet18_fpn",
    "fcos_resnet18_fpn",
    "ssdlite320_mobilenet_v3_large",
)
CHECKS = {arch: plugin_checks("torchvision", arch=arch) for arch in DETECTORS}


@pytest.mark.parametrize("check", contract(CHECKS))
def test_contract(check: PluginCheck) -> None:
    check()
