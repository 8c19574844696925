"""What is global in a process, and who is caught changing it."""

from __future__ import annotations

import logging
import os
import signal
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from tlvision.conformance.fresh import changed_by_building, imported_modules, process_state


def _torch_precision() -> None:
    torch.set_printoptions(precision=7)


CHANGES: dict[str, Callable[[pytest.MonkeyPatch, Path], object]] = {
    "names of environment variables": lambda patch, path: patch.setenv("KIT_TEST", "1"),
    "working folder": lambda patch, path: patch.chdir(path),
    "sys.path": lambda patch, path: patch.syspath_prepend(path),
    "warning filters": lambda patch, path: warnings.simplefilter("ignore"),
    "handlers of the root logger": lambda patch, path: patch.setattr(logging.root, "handlers", [logging.NullHandler()]),
    "level of the root logger": lambda patch, path: patch.setattr(logging.root, "level", 7),
    "recursion limit": lambda patch, path: sys.setrecursionlimit(4321),
    "umask": lambda patch, path: os.umask(0o077),
    "signal handlers": lambda patch, path: signal.signal(signal.SIGUSR1, lambda number, frame: None),
    "numpy's print options": lambda patch, path: np.set_printoptions(precision=3),
    "numpy's error state": lambda patch, path: np.seterr(all="raise"),
    "OpenCV's threads": lambda patch, path: cv2.setNumThreads(7),
    "PIL.Image.open": lambda patch, path: patch.setattr(Image, "open", lambda path: None),
    "torch's default dtype": lambda patch, path: torch.set_default_dtype(torch.float64),
    "torch's gradient mode": lambda patch, path: torch.set_grad_enabled(False),
    "torch's threads": lambda patch, path: torch.set_num_threads(3),
    "torch's deterministic mode": lambda patch, path: torch.use_deterministic_algorithms(True),
    "torch's print options": lambda patch, path: _torch_precision(),
    "cudnn's flags": lambda patch, path: patch.setattr(torch.backends.cudnn, "benchmark", True),
    "torch.save and torch.load": lambda patch, path: patch.setattr(torch, "load", lambda path: None),
}


@pytest.fixture
def restored() -> object:
    """Puts back what has no context manager of its own."""
    recursion, mask, handler = sys.getrecursionlimit(), os.umask(0), signal.getsignal(signal.SIGUSR1)
    os.umask(mask)
    options, errors, threads = np.get_printoptions(), np.geterr(), (cv2.getNumThreads(), torch.get_num_threads())
    torch_options = vars(torch._tensor_str.PRINT_OPTS).copy()
    yield
    sys.setrecursionlimit(recursion)
    os.umask(mask)
    signal.signal(signal.SIGUSR1, handler)
    np.set_printoptions(**options)
    np.seterr(**errors)
    cv2.setNumThreads(threads[0])
    torch.set_num_threads(threads[1])
    torch.set_default_dtype(torch.float32)
    torch.set_grad_enabled(True)
    torch.use_deterministic_algorithms(False)
    vars(torch._tensor_str.PRINT_OPTS).update(torch_options)


@pytest.mark.usefixtures("restored")
@pytest.mark.parametrize("name", CHANGES)
def test_a_change_shows_under_its_name(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    before = process_state()
    assert process_state() == before
    CHANGES[name](monkeypatch, tmp_path)
    after = process_state()
    changed = {key for key in before if before[key] != after[key]}
    # The working folder is an environment variable too in some shells, and so may show twice.
    assert name in changed
    assert changed <= {name, "environment variable PWD", "environment variable OLDPWD"}


def test_a_plugin_of_a_file_of_ones_own_is_found_by_the_path_of_this_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "heavy.py").touch()
    (tmp_path / "own_plugin.py").write_text("import heavy\nfrom tlvision_toy.plugin import plugin\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert imported_modules("own_plugin:plugin", ("heavy", "torch")) == ["heavy"]


@pytest.mark.slow  # a twin of the check building_leaves_the_process_alone is in the fast suite
def test_what_a_plugin_of_ones_own_changes_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_plugin.py").write_text(
        "import warnings\nfrom tlvision_toy.plugin import plugin\nwarnings.simplefilter('ignore')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    (change,) = changed_by_building("own_plugin:plugin", "tiny_detector", ("a", "b"), 64)
    assert change.startswith("warning filters: ")


def test_a_plugin_that_cannot_be_imported_says_so() -> None:
    with pytest.raises(RuntimeError, match="No module named 'no_such_plugin'"):
        imported_modules("no_such_plugin:plugin", ("torch",))
