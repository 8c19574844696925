"""Handle exceptions that no command foresaw: one sentence for the user, and a report in a file for a bug.

Exit codes: 2 for a path that cannot be read or written, 1 for a full disk or memory, 70 for a bug.
"""

from __future__ import annotations

import errno
import os
import platform
import shlex
import sys
import tempfile
import traceback
from collections.abc import Sequence
from importlib.metadata import packages_distributions, version
from pathlib import Path

BUG = 70
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_MEMORY = "failed: out of memory. Use a smaller data.batch.labelled, data.image_size, evaluate.batch or data.cache."
_GPU_MEMORY = (
    "failed: out of memory on the GPU. Use a smaller data.batch.labelled (with a larger train.accumulate a step has as "
    "many images as before), data.image_size or evaluate.batch, or train.precision=bf16; `tlvision show CONFIG` tells "
    "what each phase takes, `nvidia-smi` what other programs hold."
)


def handle(error: Exception, arguments: Sequence[str]) -> int:
    """Print what happened and return the exit code.

    error:     exception of a command; neither InputError nor RunError.
    arguments: the command line behind `tlvision`.

    Raises `error` itself if TLVISION_DEBUG is set to anything but 0.
    """
    if os.environ.get("TLVISION_DEBUG", "0") not in {"", "0"}:
        raise error
    if isinstance(error, OSError) and error.errno in _FULL:
        where = f" at '{error.filename}'" if error.filename else ""
        return _say(f"failed: the disk is full or the quota is used up{where}. Free some space and try again.", 1)
    if isinstance(error, OSError) and error.filename is not None and not _is_ours(error.filename):
        return _say(f"error: '{_text(error.filename)}': {error.strerror}. Check the path and its permissions.", 2)
    if _is_out_of_memory(error):
        return _say(_GPU_MEMORY if "CUDA" in str(error) else _MEMORY, 1)
    message = f"{type(error).__name__}: {error}".partition("\n")[0][:300]
    path = _write_report(error, arguments)
    if path is None:
        traceback.print_exception(error)
        return _say(f"error: this is a bug in tlvision or a plugin ({message}). No report could be written.", BUG)
    return _say(
        f"error: this is a bug in tlvision or a plugin ({message}). The report is {path}: it holds the traceback, the "
        "command line and versions. Please send it to the maintainers.",
        BUG,
    )


def _say(text: str, code: int) -> int:
    print(text, file=sys.stderr)
    return code


def _text(filename: object) -> str:
    text = os.fsdecode(filename) if isinstance(filename, bytes | os.PathLike) else str(filename)
    return text if len(text) <= 200 else f"{text[:200]}…"


def _is_ours(filename: object) -> bool:
    """Return whether a path is within the installed package: its absence is no fault of the user's."""
    package = Path(__file__).resolve().parents[1]
    try:
        return package in Path(_text(filename)).resolve().parents
    except (OSError, RuntimeError, ValueError):
        return False


def _is_out_of_memory(error: Exception) -> bool:
    """Return whether memory ran out: of Python, of numpy, of torch on a CPU or of a GPU."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    text = str(error)
    return isinstance(error, RuntimeError) and ("DefaultCPUAllocator" in text or "CUDA out of memory" in text)


def _write_report(error: Exception, arguments: Sequence[str]) -> Path | None:
    """Write the report to a new file in the temporary folder, else in the present one; None if neither works."""
    text = _report(error, arguments)
    for folder in (None, "."):
        try:
            number, name = tempfile.mkstemp(prefix="tlvision-bug-", suffix=".txt", dir=folder)
            with open(number, "w", encoding="utf-8", errors="backslashreplace") as file:  # noqa: PTH123
                file.write(text)
        except OSError:
            continue
        return Path(name)
    return None


def _report(error: Exception, arguments: Sequence[str]) -> str:
    lines = ["tlvision bug report", "", f"command: tlvision {shlex.join(map(str, arguments))}"]
    lines += [f"python: {sys.version.split()[0]} ({sys.executable})", f"platform: {platform.platform()}"]
    lines += [f"{name}: {found}" for name, found in _loaded_packages()]
    return "\n".join([*lines, "", *traceback.format_exception(error)])


def _loaded_packages() -> list[tuple[str, str]]:
    """Return name and version of every installed package of which a module is loaded."""
    loaded = {name.partition(".")[0] for name in sys.modules}
    names = {name for module, names in packages_distributions().items() if module in loaded for name in names}
    return [(name, version(name)) for name in sorted(names)]
