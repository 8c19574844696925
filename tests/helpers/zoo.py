"""Parametrise the contract over many architectures of one plugin, with the expensive repetitions left to the night."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import pytest

from tlvision.conformance import PluginCheck


def contract(checks: Mapping[str, Iterable[PluginCheck]]) -> list[Any]:
    """Return the parameters of a slow test, one for each check.

    checks: by the name of the architecture, as test ids have it; the first of each task is the one that gets all.

    Every architecture gets the cheap checks. Facts about the plugin are checked on the first architecture, and what
    needs a trained model on the first of each task; on the others both are marked "nightly" as well.
    """
    seen: set[tuple[str, str]] = set()
    found = []
    for name, own in checks.items():
        for each in own:
            task = "" if each.check.scope == "plugin" else each.bench.plugin.task_of(each.arch)
            repeated = (each.name, task) in seen and (each.check.trains or each.check.scope == "plugin")
            seen.add((each.name, task))
            marks = [pytest.mark.slow, *([pytest.mark.nightly] if repeated else [])]
            found.append(pytest.param(each, id=f"{name}-{each.name}", marks=marks))
    assert found
    return found
