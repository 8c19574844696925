"""The code of docs/writing-a-plugin.md runs, block after block, and does what the text says."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import pytest

from fast import first_fast
from tlvision.conformance import fresh


@pytest.mark.parametrize("processes", first_fast([False, True]))
def test_every_block_of_writing_a_plugin_runs(
    processes: bool, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The checks that start processes take most of the time; without them, what they find is left out."""
    if not processes:
        monkeypatch.setattr(fresh, "_ask", lambda *_: ())
    text = (repository / "docs" / "writing-a-plugin.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(blocks) >= 8
    monkeypatch.setattr(sys, "path", [*sys.path])
    for module in [name for name in sys.modules if name.startswith("tlvision_acme")]:
        monkeypatch.delitem(sys.modules, module)  # of the other of these two tests, whose package is gone
    names: dict[str, Any] = {"__name__": "writing_a_plugin"}
    for block in blocks:
        exec(compile(block, "docs/writing-a-plugin.md", "exec"), names)
    assert len(names["checks"]) >= 20
