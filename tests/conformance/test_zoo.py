"""Check what of the contract on many architectures the slow suite runs, and what it leaves to the night."""

from __future__ import annotations

import pytest

from tlvision.conformance import plugin_checks
from zoo import contract


def test_repetitions_of_what_is_expensive_or_about_the_plugin_are_nightly() -> None:
    checks = plugin_checks("toy", arch="tiny_detector")
    of_the_plugin = {each.name for each in checks if each.check.scope == "plugin"}
    expensive = {each.name for each in checks if each.check.trains}
    assert of_the_plugin
    assert expensive
    segmenter = plugin_checks("toy", arch="tiny_segmenter")
    parameters = contract({"first": checks, "again": checks, "other task": segmenter})
    assert [each.id for each in parameters[:2]] == [f"first-{check.name}" for check in checks[:2]]
    assert len(parameters) == 2 * len(checks) + len(segmenter)
    assert all(pytest.mark.slow.mark in [mark.mark for mark in each.marks] for each in parameters)
    nightly = {each.id for each in parameters if pytest.mark.nightly.mark in [mark.mark for mark in each.marks]}
    assert nightly == {
        *(f"again-{name}" for name in of_the_plugin | expensive),
        *(f"other task-{name}" for name in of_the_plugin),
    }


def test_no_architecture_without_checks_passes_unseen() -> None:
    with pytest.raises(AssertionError):
        contract({})
