"""Everything that tlvision promises its users about every plugin."""

from __future__ import annotations

import pytest

from tlvision.conformance import PluginCheck, plugin_checks


@pytest.mark.parametrize("check", plugin_checks("toy"), ids=str)
def test_contract(check: PluginCheck) -> None:
    check()
