"""Everything that tlvision promises its users about every plugin, on each detector."""

from __future__ import annotations

import pytest

from tlvision.conformance import PluginCheck, plugin_checks

DETECTORS = (
    "fasterrcnn_mobilenet_v2_fpn",
    "maskrcnn_resnet18_fpn",
    "retinanet_resnet18_fpn",
    "fcos_resnet18_fpn",
    "ssdlite320_mobilenet_v3_large",
)
CHECKS = [check for arch in DETECTORS for check in plugin_checks("torchvision", arch=arch)]
assert CHECKS


@pytest.mark.slow
@pytest.mark.parametrize("check", CHECKS, ids=str)
def test_contract(check: PluginCheck) -> None:
    check()
