"""What the hostile tests share: a small run, inputs that must stay as they are, the command line in this process."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tlvision.cli.main import main


class Done(NamedTuple):
    """What a command left: exit code, and what it printed on both streams, on one line each."""

    code: int
    text: str


@pytest.fixture
def protect(digests_of: Callable[[Path], dict[str, str]]) -> Iterator[Callable[[Path], Path]]:
    """Promise that no file below a folder changes until the end of the test, and none is added or removed."""
    before: dict[Path, dict[str, str]] = {}

    def add(folder: Path) -> Path:
        before[folder] = digests_of(folder)
        assert before[folder]
        return folder

    yield add
    for folder, found in before.items():
        assert digests_of(folder) == found, f"an input changed: {folder}"


@pytest.fixture
def tl(capsys: pytest.CaptureFixture[str]) -> Callable[..., Done]:
    """Run `tlvision …` in this process."""

    def call(*arguments: object) -> Done:
        capsys.readouterr()
        try:
            code = main([str(each) for each in arguments])
        except SystemExit as stop:  # argparse
            code = int(stop.code or 0)
        out, err = capsys.readouterr()
        assert "Traceback" not in out + err
        return Done(code, " ".join((out + err).split()))

    return call


@pytest.fixture
def run_copy(small_run: Path, tmp_path: Path) -> Path:
    """A copy of `small_run` that a test may change."""
    return Path(shutil.copytree(small_run, tmp_path / "run"))
