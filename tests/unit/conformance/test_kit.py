"""The kit's frame: what is run, what is not, and what each outcome means to a test and to the command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from tlvision.cli.main import main
from tlvision.conformance import PluginCheck, plugin_checks
from tlvision.conformance.case import Case
from tlvision.conformance.check import Check, check
from tlvision.conformance.checks import ALL_CHECKS
from tlvision.types import InputError
from tlvision_toy.plugin import ToyPlugin

RUNS: list[str] = []


@check()
def sound(case: Case) -> None:
    """It holds."""
    RUNS.append(case.arch)


@check()
def broken(case: Case) -> None:
    """It does not hold."""
    raise AssertionError("the roof leaks")


@check()
def crashing(case: Case) -> None:
    """It cannot even be checked."""
    raise ValueError("no roof")


@check(requires=("broken",))
def second(case: Case) -> None:
    """It builds on the broken one."""


@check(requires=("second",))
def third(case: Case) -> None:
    """It builds on what builds on the broken one."""


@check(requires=("sound",))
def other(case: Case) -> None:
    """It builds on the sound one."""


@check(labels="label_map")
def for_segmenters(case: Case) -> None:
    """It is for label maps."""


@check(needs="HasTrainingProgress")
def for_progress(case: Case) -> None:
    """It is about a capability."""


@check(requires=("for_progress",))
def beside_progress(case: Case) -> None:
    """It builds on the one about a capability."""


@check(scope="plugin")
def of_the_plugin(case: Case) -> None:
    """It holds for the plugin."""
    RUNS.append(f"{case.arch}, for the plugin")


@pytest.fixture(autouse=True)
def few_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    RUNS.clear()
    few = (third, second, broken, crashing, sound, other, for_segmenters, for_progress, beside_progress)
    monkeypatch.setattr("tlvision.conformance.checks.ALL_CHECKS", few)


def checks_of(**options: object) -> dict[str, PluginCheck]:
    checks = plugin_checks("toy", **options)  # type: ignore[arg-type]
    return {str(each): each for each in checks}


def test_a_check_knows_its_name_and_promise() -> None:
    assert isinstance(broken, Check)
    assert (broken.name, broken.promise) == ("broken", "It does not hold.")
    found = checks_of()["tiny_detector-broken"]
    assert (found.name, found.promise, found.arch) == ("broken", "It does not hold.", "tiny_detector")


def test_the_first_architecture_of_each_task_gets_what_applies_to_it() -> None:
    names = [*checks_of()]
    assert len(names) == 3 * 7 + 1
    assert "toy-instance-sound" in names
    assert "tiny_segmenter-for_segmenters" in names
    assert "tiny_detector-for_segmenters" not in names
    assert not any(name.endswith("for_progress") for name in names)
    assert [*checks_of(arch="tiny_segmenter")] == [name for name in names if name.startswith("tiny_segmenter")]


def test_failures_are_raised_with_their_cause() -> None:
    checks = checks_of()
    checks["tiny_detector-sound"]()
    with pytest.raises(AssertionError, match="tiny_detector-broken: the roof leaks") as failure:
        checks["tiny_detector-broken"]()
    assert failure.value.__cause__ is checks["tiny_detector-broken"].outcome().error
    with pytest.raises(AssertionError, match="tiny_detector-crashing: ValueError: no roof"):
        checks["tiny_detector-crashing"]()


def test_what_builds_on_a_failure_is_not_run_and_does_not_fail() -> None:
    checks = checks_of()
    for name in ("second", "third"):
        outcome = checks[f"tiny_detector-{name}"].outcome()
        assert outcome.status == "not run"
        checks[f"tiny_detector-{name}"]()
    assert "broken" in checks["tiny_detector-second"].outcome().detail
    assert checks["tiny_detector-other"].outcome().status == "pass"


def test_each_check_is_run_once_an_architecture() -> None:
    checks = checks_of()
    for each in checks.values():
        each.outcome()
        each.outcome()
    assert RUNS == ["tiny_detector", "tiny_segmenter", "toy-instance"]


def test_a_fact_about_the_plugin_is_checked_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("tlvision.conformance.checks.ALL_CHECKS", (of_the_plugin, sound))
    names = ["tiny_detector-of_the_plugin", "tiny_detector-sound", "tiny_segmenter-sound", "toy-instance-sound"]
    assert [*checks_of()] == names
    found = list(dict.fromkeys(each.bench for each in plugin_checks("toy")))
    assert [[each.name for each in bench.checks] for bench in found] == [["of_the_plugin", "sound"]] * 3
    for bench in reversed(found):
        assert bench.outcome("of_the_plugin").status == "pass"
    assert RUNS == ["tiny_detector, for the plugin"]
    assert [*checks_of(arch="toy-instance")] == ["toy-instance-of_the_plugin", "toy-instance-sound"]
    capsys.readouterr()
    assert main(["check-plugin", "toy"]) == 0
    table = capsys.readouterr().out
    assert table.count("of_the_plugin") == 3
    assert "4 passed, 0 failed" in table


def test_facts_about_a_plugin_are_asked_of_every_plugin() -> None:
    found = [each for each in ALL_CHECKS if each.scope == "plugin"]
    assert {each.name for each in found} == {
        "plugin_describes_itself",
        "import_is_light",
        "building_leaves_the_process_alone",
        "errors_are_for_people",
    }
    assert all((each.labels, each.needs, each.requires) == (None, None, ()) for each in found)


def test_checks_that_use_the_overfitted_model_are_marked() -> None:
    using = {each.name for each in ALL_CHECKS if "overfitted" in each.run.__code__.co_names}
    assert len(using) > 4
    assert {each.name for each in ALL_CHECKS if each.trains} == using | {"frozen_prefix"}


def test_an_expected_failure_passes_quietly_and_its_dependants_are_not_run() -> None:
    checks = checks_of(expected_failures={"broken": "the roofer is ill"})
    outcome = checks["tiny_detector-broken"].outcome()
    assert (outcome.status, outcome.detail) == ("expected failure", "the roofer is ill")
    checks["tiny_detector-broken"]()
    assert checks["tiny_detector-second"].outcome().status == "not run"


def test_an_unexpected_pass_fails() -> None:
    checks = checks_of(expected_failures={"sound": "it rains"})
    with pytest.raises(AssertionError, match="expected to fail because it rains, but it passes: take it out"):
        checks["tiny_detector-sound"]()


def test_unknown_names_are_refused_with_the_nearest() -> None:
    with pytest.raises(InputError, match=r"no check 'brokn' applies\. Did you mean 'broken'"):
        checks_of(expected_failures={"brokn": "?"})
    with pytest.raises(InputError, match="no check 'for_segmenters' applies"):
        checks_of(arch="tiny_detector", expected_failures={"for_segmenters": "?"})
    with pytest.raises(InputError, match="no architecture 'tiny_detectr'"):
        checks_of(arch="tiny_detectr")
    with pytest.raises(InputError, match="no plugin 'toi'"):
        plugin_checks("toi")


def test_a_capability_that_the_plugin_claims_and_the_architecture_lacks_is_not_run() -> None:
    plugin = ToyPlugin(capabilities={"HasTrainingProgress": "yes"})
    found = {each.name: each.outcome() for each in plugin_checks(plugin, arch="tiny_detector")}
    assert found["for_progress"].status == "not run"
    assert "has no HasTrainingProgress" in found["for_progress"].detail
    assert found["beside_progress"].status == "pass"


def test_an_object_that_is_no_plugin_is_refused() -> None:
    with pytest.raises(InputError, match="the contract requires the attribute 'name'"):
        plugin_checks(object())  # type: ignore[arg-type]


def test_the_command_line_lists_everything_and_fails_with_1(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check-plugin", "toy", "--arch", "tiny_detector"]) == 1
    captured = capsys.readouterr()
    for expected in (
        "the roof leaks",
        "not run",
        "does not apply",
        "it is for models that predict label maps",
        "3 passed, 2 failed",
    ):
        assert expected in captured.out
    assert "'toy' fails 2 of 7 checks. Fix the first, 'broken'" in captured.err


def test_the_command_line_succeeds_where_all_pass(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("tlvision.conformance.checks.ALL_CHECKS", (sound, other))
    assert main(["check-plugin", "toy"]) == 0
    assert "6 passed, 0 failed" in capsys.readouterr().out
    assert main(["check-plugin", "toi"]) == 2


def test_every_requirement_names_a_check_that_applies_wherever_it_is_asked_for() -> None:
    by_name = {each.name: each for each in ALL_CHECKS}
    assert len(by_name) == len(ALL_CHECKS) > 10
    for each in ALL_CHECKS:
        assert each.promise.endswith(".")
        assert set(each.requires) <= set(by_name)
        assert all(by_name[name].labels in (None, each.labels) for name in each.requires)


def test_weights_that_cannot_be_read_are_the_users_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    missing = str(tmp_path / "nowhere.safetensors")
    assert main(["check-plugin", "toy", "--arch", "tiny_detector", "--weights", missing]) == 2
    assert "nowhere.safetensors" in capsys.readouterr().err
