"""The code of docs/writing-a-plugin.md runs, block after block, and does what the text says."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import pytest


def test_every_block_of_writing_a_plugin_runs(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (repository / "docs" / "writing-a-plugin.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(blocks) >= 8
    monkeypatch.setattr(sys, "path", [*sys.path])
    names: dict[str, Any] = {"__name__": "writing_a_plugin"}
    for block in blocks:
        exec(compile(block, "docs/writing-a-plugin.md", "exec"), names)
    assert len(names["checks"]) >= 20
