"""Everything that tlvision promises its users about every plugin, on each kind of head."""

from __future__ import annotations

import pytest

from tlvision.conformance import PluginCheck, plugin_checks
from zoo import contract

ONE_HEAD, TWO_HEADS, MASKS, MASKS_OF_TWO_HEADS = "yolov8n", "yolo26n", "yolov8n-seg", "yolo26n-seg"
ARCHITECTURES = (ONE_HEAD, TWO_HEADS, MASKS, MASKS_OF_TWO_HEADS)
CHECKS = {arch: plugin_checks("yolo", arch=arch) for arch in ARCHITECTURES}


@pytest.mark.parametrize("check", contract(CHECKS))
def test_contract(check: PluginCheck) -> None:
    check()
