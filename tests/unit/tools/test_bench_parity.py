from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest


@pytest.mark.parametrize("side", ["ours", "upstream"])
def test_the_command_of_each_side_starts(
    side: str, repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("segmentation_models_pytorch")
    monkeypatch.syspath_prepend(str(repository / "tools"))
    monkeypatch.setattr(sys, "argv", ["parity", "--plugin", "smp", "--data", "D", "--weights", "none", "--arch", "A"])
    from benchmarks import parity

    commands: list[list[str]] = []

    def run_side(command: list[str], log: Path) -> dict[str, Any]:
        commands.append(command)
        raise SystemExit

    monkeypatch.setattr(parity, "run_side", run_side)
    with pytest.raises(SystemExit):
        parity.measure(parity.arguments(), side, 0)
    done = subprocess.run([*commands[0], "--help"], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    assert "--weights" in done.stdout
