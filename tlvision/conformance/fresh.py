"""Build a plugin's model in a new process, and report which modules it imports and which global state it changes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tlvision.plugin import Plugin

_START = """
import json, sys
request = json.load(open(sys.argv[1], encoding="utf-8"))
sys.path[:] = request["path"] + [each for each in sys.path if each not in request["path"]]
from tlvision.conformance.fresh import answer
json.dump(answer(request), open(sys.argv[2], "w", encoding="utf-8"))
"""


def imported_modules(origin: str, watched: tuple[str, ...]) -> list[str]:
    """Return which of the `watched` modules are imported by importing a plugin and listing its architectures.

    origin: the plugin, "module:object". Runs in a fresh interpreter; RuntimeError with its last words where that fails.
    """
    return list(_ask(json.dumps({"what": "imports", "origin": origin, "watched": watched}), tuple(sys.path)))


def changed_by_building(origin: str, arch: str, names: tuple[str, ...], image_size: int) -> list[str]:
    """Return a phrase for each piece of global state that is changed by importing a plugin and building a model.

    names: of the classes. Runs in a fresh interpreter; RuntimeError with its last words where that fails.
    """
    request = {"what": "changes", "origin": origin, "arch": arch, "names": names, "image_size": image_size}
    return list(_ask(json.dumps(request), tuple(sys.path)))


@cache
def _ask(request: str, path: tuple[str, ...]) -> tuple[str, ...]:
    with tempfile.TemporaryDirectory() as name:
        asked, answered = Path(name) / "request.json", Path(name) / "answer.json"
        asked.write_text(json.dumps({**json.loads(request), "path": path}), encoding="utf-8")
        command = [sys.executable, "-c", _START, str(asked), str(answered)]
        run = subprocess.run(command, capture_output=True, text=True, check=False)
        if run.returncode:
            last = (run.stderr.strip().splitlines() or ["it says nothing"])[-1]
            raise RuntimeError(f"a fresh interpreter stopped with the code {run.returncode}: {last}")
        return tuple(json.loads(answered.read_text(encoding="utf-8")))


def answer(request: dict[str, Any]) -> list[str]:
    """Answer in the fresh interpreter."""
    if request["what"] == "imports":
        plugin = load(request["origin"])
        for arch in plugin.architectures():
            plugin.task_of(arch)
        return [name for name in request["watched"] if name in sys.modules]
    for name in ("cv2", "matplotlib", "PIL.Image", "torch", "torchvision", "tlvision.plugin.weights.files"):
        # What the core imports itself is there before, so that only the plugin's effects are seen.
        if find_spec(name.partition(".")[0]) is not None:
            import_module(name)
    before = process_state()
    _build(request)
    after = process_state()
    return [f"{name}: {before[name]} before, {after[name]} after" for name in before if before[name] != after[name]]


def load(origin: str) -> Plugin:
    """Import the object that "module:object" names."""
    module, _, name = origin.partition(":")
    plugin: Plugin = getattr(import_module(module), name)
    return plugin


def _build(request: dict[str, Any]) -> None:
    from tlvision.plugin import BuildSpec
    from tlvision.types import ClassMap

    classes = ClassMap.from_names(request["names"])
    load(request["origin"]).build(
        BuildSpec(arch=request["arch"], weights="none", classes=classes, image_size=request["image_size"])
    )


def process_state() -> dict[str, str]:
    """Return global state of this process that no plugin should change, as short texts by name.

    The states of random generators are not in it: initialising a model moves them.
    """
    return {
        **{f"environment variable {name}": value for name, value in sorted(os.environ.items())},
        "names of environment variables": " ".join(sorted(os.environ)),
        **_python_state(),
        **_array_state(),
        **_torch_state(),
    }


def _python_state() -> dict[str, str]:
    import builtins
    import gc
    import locale
    import logging
    import multiprocessing
    import signal
    import socket
    import threading
    import warnings

    mask = os.umask(0)
    os.umask(mask)
    root = logging.getLogger()
    return {
        "working folder": str(Path.cwd()),
        "sys.path": str(sys.path),
        "warning filters": str(warnings.filters),
        "warnings.showwarning": _identity(warnings.showwarning),
        "level of the root logger": str(root.level),
        "handlers of the root logger": str(root.handlers),
        "logging.disable": str(logging.root.manager.disable),
        "signal handlers": str({number: _identity(signal.getsignal(number)) for number in signal.valid_signals()}),
        "sys.excepthook": _identity(sys.excepthook),
        "threading.excepthook": _identity(threading.excepthook),
        "standard streams": " ".join(_identity(stream) for stream in (sys.stdin, sys.stdout, sys.stderr)),
        "print and open": _identity(builtins.print) + _identity(builtins.open),
        "recursion limit": str(sys.getrecursionlimit()),
        "garbage collection": str((gc.isenabled(), gc.get_threshold())),
        "locale": locale.setlocale(locale.LC_ALL),
        "socket timeout": str(socket.getdefaulttimeout()),
        "umask": oct(mask),
        "start method of processes": str(multiprocessing.get_start_method(allow_none=True)),
    }


def _array_state() -> dict[str, str]:
    import cv2
    import numpy as np
    from PIL import Image, ImageFile

    state = {
        "numpy's print options": str(np.get_printoptions()),
        "numpy's error state": str(np.geterr()),
        "OpenCV's threads": str(cv2.getNumThreads()),
        "OpenCV's functions": _identity(cv2.imread) + _identity(cv2.imwrite) + _identity(cv2.imshow),
        "PIL.Image.open": _identity(Image.open),
        "PIL's limits": str((Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES)),
    }
    matplotlib: Any = sys.modules.get("matplotlib")
    if matplotlib is not None:
        # Asked in the ordinary way, matplotlib would choose a backend on the spot.
        state["matplotlib's backend"] = str(dict.get(matplotlib.rcParams, "backend"))
    return state


def _torch_state() -> dict[str, str]:
    import torch

    cudnn = torch.backends.cudnn
    return {
        "torch's default dtype": str(torch.get_default_dtype()),
        "torch's default device": str(torch.get_default_device()),
        "torch's gradient mode": str((torch.is_grad_enabled(), torch.is_inference_mode_enabled())),
        "torch's anomaly mode": str(torch.is_anomaly_enabled()),
        "torch's threads": str((torch.get_num_threads(), torch.get_num_interop_threads())),
        "torch's deterministic mode": str(
            (torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled())
        ),
        "cudnn's flags": str((cudnn.enabled, cudnn.benchmark, cudnn.deterministic, cudnn.allow_tf32)),
        "precision of torch's matrix products": torch.get_float32_matmul_precision(),
        # torch has no getter for its print options; its own module holds them.
        "torch's print options": str(vars(torch._tensor_str.PRINT_OPTS)),
        "torch.save and torch.load": _identity(torch.save) + _identity(torch.load),
        "torch's sharing strategy": torch.multiprocessing.get_sharing_strategy(),  # type: ignore[no-untyped-call]
    }


def _identity(value: object) -> str:
    return f"{getattr(value, '__module__', '')}.{getattr(value, '__qualname__', type(value).__name__)}#{id(value):x}"
