"""Each check has a broken twin of the toy plugin that exactly this check catches, or it does not count."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

import pytest

from tlvision.conformance import plugin_checks
from tlvision.conformance.checks import ALL_CHECKS

FOLDER = Path(__file__).with_name("twins")
TWINS = sorted(path.stem for path in FOLDER.glob("*.py"))
"""Named after the check that must catch it, with `__something` where a check has several."""


def check_of(twin: str) -> str:
    return twin.partition("__")[0]


def test_every_check_has_a_twin_and_every_twin_a_check() -> None:
    assert TWINS
    assert {check_of(twin) for twin in TWINS} == {check.name for check in ALL_CHECKS}


@pytest.mark.parametrize("twin", TWINS)
def test_exactly_the_named_check_catches_the_twin(twin: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # A check may import the plugin in a process of its own, or pickle something of it.
    path = os.pathsep.join(filter(None, [str(FOLDER), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setenv("PYTHONPATH", path)
    spec = importlib.util.spec_from_file_location(twin, FOLDER / f"{twin}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, twin, module)
    spec.loader.exec_module(module)

    named = next(check for check in ALL_CHECKS if check.name == check_of(twin))
    arch = "tiny_detector" if "detect" in named.tasks else "tiny_segmenter"
    checks = plugin_checks(module.plugin, arch=arch, origin=f"{twin}:plugin")
    outcomes = {check.name: check.outcome() for check in checks}
    failed = {name: outcome.detail for name, outcome in outcomes.items() if outcome.status == "fail"}
    assert set(failed) == {named.name}, failed
    needing = {check.name for check in checks if named.name in _required(check.name)}
    idle = {
        name for name, outcome in outcomes.items() if outcome.status == "not run" and "has no" not in outcome.detail
    }
    assert idle == needing


def _required(name: str) -> set[str]:
    """Return everything that the check `name` builds on, directly or not."""
    direct = next(set(check.requires) for check in ALL_CHECKS if check.name == name)
    return direct.union(*(_required(other) for other in direct))
