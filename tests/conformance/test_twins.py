"""Each check has a broken twin of the toy plugin that exactly this check catches, or it does not count."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

from tlvision.conformance import overfit, plugin_checks
from tlvision.conformance.case import Case
from tlvision.conformance.checks import ALL_CHECKS
from tlvision.conformance.kit import PluginCheck
from tlvision.plugin import get_plugin

FOLDER = Path(__file__).with_name("twins")
TWINS = sorted(path.stem for path in FOLDER.glob("*.py"))
"""Named after the check that must catch it, with `__something` where a check has several. One that is no detector says
with ARCH what it is."""

IMPORTED_BY_ITSELF = ("import_is_light", "building_leaves_the_process_alone")
"""Checks that import the plugin in a process of its own. The twins of all others import torch, which is no fault of
theirs, and so these checks are given the toy itself."""


FEWER_STEPS, FEWER_LOOKS = 160, 4
"""How long a twin is trained in the fast suite; a sound model learns in half of it. In the slow one, as a plugin."""


def check_of(twin: str) -> str:
    return twin.partition("__")[0]


SLOW = {
    *("overfits_one_image", "masks_are_learnt", "masks_are_masks"),
    *("building_leaves_the_process_alone", "import_is_light", "scores_have_gradients"),
}
"""Checks whose twins take three to seven seconds each: in the slow suite alone, which has all twins."""
LONG = {*IMPORTED_BY_ITSELF, *(check.name for check in ALL_CHECKS if check.trains)}
"""Checks that start a process or train a model. The fast suite gives them one twin each; the slow one all."""
FAST = [
    twin for at, twin in enumerate(TWINS)
    if check_of(twin) not in SLOW and (check_of(twin) not in LONG or check_of(twin) not in map(check_of, TWINS[:at]))
]  # fmt: skip


def test_every_check_has_a_twin_and_every_twin_a_check() -> None:
    assert TWINS
    assert {check_of(twin) for twin in TWINS} == {each.name for each in ALL_CHECKS} > SLOW
    assert {check_of(twin) for twin in FAST} == {each.name for each in ALL_CHECKS} - SLOW


def checks_of(twin: str) -> list[PluginCheck]:
    module = importlib.import_module(twin)
    arch = getattr(module, "ARCH", "tiny_detector")
    origin = f"{twin}:plugin" if check_of(twin) in IMPORTED_BY_ITSELF else "tlvision_toy.plugin:plugin"
    return plugin_checks(module.plugin, arch=arch, origin=origin)


@pytest.mark.parametrize("twin", FAST)
def test_the_named_check_catches_the_twin(twin: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The check and what it builds on; whether others fail as well takes most of the time and is a slow test."""
    monkeypatch.setattr(overfit, "STEPS", FEWER_STEPS)
    monkeypatch.setattr(overfit, "MASK_LOOKS", FEWER_LOOKS)
    monkeypatch.syspath_prepend(FOLDER)
    named = check_of(twin)
    wanted = {named, *_required(named)}
    checks = [check for check in checks_of(twin) if check.name in wanted]
    assert {check.name for check in checks} == wanted
    failed = {check.name: check.outcome().detail for check in checks if check.outcome().status == "fail"}
    assert set(failed) == {named}, failed


@pytest.mark.parametrize("arch", ["tiny_detector", "tiny_segmenter", "toy-instance"])
def test_a_sound_model_learns_in_half_the_steps_that_twins_get(arch: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overfit, "STEPS", FEWER_STEPS // 2)
    monkeypatch.setattr(overfit, "MASK_LOOKS", FEWER_LOOKS // 2)
    case = Case(get_plugin("toy"), arch)
    adapter = overfit.overfitted(case)
    one = overfit.one_image(case, adapter)
    assert overfit.score(case, adapter, one) >= overfit.ENOUGH
    if arch == "toy-instance":
        found = overfit.find(case, adapter, one)
        assert min(overfit.mask_overlaps(found, one.drawing)) >= overfit.MASK_ENOUGH


@pytest.mark.slow
@pytest.mark.parametrize("twin", TWINS)
def test_exactly_the_named_check_catches_the_twin(twin: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(FOLDER)
    named = next(check for check in ALL_CHECKS if check.name == check_of(twin))
    checks = checks_of(twin)
    outcomes = {check.name: check.outcome() for check in checks}
    failed = {name: outcome.detail for name, outcome in outcomes.items() if outcome.status == "fail"}
    assert set(failed) == {named.name}, failed
    not_run = {check.name for check in checks if outcomes[check.name].status == "not run"}
    built_on = {check.name for check in checks if named.name in _required(check.name)}
    assert built_on <= not_run
    # One that needs a capability is not run either where the adapter lacks it.
    able = {check.name for check in checks if check.check.needs is None}
    assert not_run & able == built_on & able


def _required(name: str) -> set[str]:
    """Return everything that the check `name` builds on, directly or not."""
    direct = next(set(check.requires) for check in ALL_CHECKS if check.name == name)
    return direct.union(*(_required(other) for other in direct))
