"""Everything that tlvision promises its users about every plugin."""

from __future__ import annotations

import pytest

from tlvision.conformance import PluginCheck, plugin_checks


@pytest.mark.parametrize("check", plugin_checks("toy"), ids=str)
def test_contract(check: PluginCheck) -> None:
    check()


OTHERS = [
    check
    for arch in ("toy-instance", "tiny_segmenter")
    for check in plugin_checks("toy", arch=arch)
    if check.check.scope == "plugin"
]
assert OTHERS


@pytest.mark.slow
@pytest.mark.nightly
@pytest.mark.parametrize("check", OTHERS, ids=str)
def test_facts_about_the_plugin_hold_for_its_other_architectures(check: PluginCheck) -> None:
    check()
