"""Everything that tlvision promises its users about every plugin, on each kind of head."""

from __future__ import annotations

import pytest

from tlvision.conformance import PluginCheck, plugin_checks

ONE_HEAD, TWO_HEADS, MASKS, MASKS_OF_TWO_HEADS = "yolov8n", "yolo26n", "yolov8n-seg", "yolo26n-seg"
ARCHITECTURES = (ONE_HEAD, TWO_HEADS, MASKS, MASKS_OF_TWO_HEADS)
CHECKS = [check for arch in ARCHITECTURES for check in plugin_checks("yolo", arch=arch)]
assert CHECKS


@pytest.mark.slow
@pytest.mark.parametrize("check", CHECKS, ids=str)
def test_contract(check: PluginCheck) -> None:
    check()
