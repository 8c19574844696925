"""The code of docs/writing-a-hook.md runs, block after block, and does what the text says."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

from tlvision.hooks import registry


@pytest.mark.slow
def test_every_block_of_writing_a_hook_runs(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (repository / "docs" / "writing-a-hook.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(blocks) >= 6
    monkeypatch.setattr(registry, "BUILT_IN", dict(registry.BUILT_IN))
    module = ModuleType("writing_a_hook")
    monkeypatch.setitem(sys.modules, "writing_a_hook", module)
    for block in blocks:
        exec(compile(block, "docs/writing-a-hook.md", "exec"), vars(module))
    assert "values" in vars(module)["saved"]
