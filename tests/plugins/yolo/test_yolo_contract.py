"""Everything that tlvision promises its users about every plugin, on each kind of head."""

from __future__ import annotations

import pytest

from tlvision.conformance import PluginCheck, plugin_checks

ONE_HEAD, TWO_HEADS = "yolov8n", "yolo26n"
CHECKS = [check for arch in (ONE_HEAD, TWO_HEADS) for check in plugin_checks("yolo", arch=arch)]


@pytest.mark.slow
@pytest.mark.parametrize("check", CHECKS, ids=str)
def test_contract(check: PluginCheck) -> None:
    check()
