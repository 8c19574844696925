"""Check that loading processes can start if they are spawned (Windows, macOS), and explain if they cannot."""

from __future__ import annotations

import ast
import io
import multiprocessing
import pickle
import sys
from collections.abc import Mapping
from pathlib import Path
from types import FrameType
from typing import Literal

from tlvision.types import InputError, RunError
from tlvision.types.shown import clip

GUARD = 'if __name__ == "__main__":'


def start_method() -> str:
    """Return how processes are started, "fork", "spawn" or "forkserver", without fixing it."""
    return multiprocessing.get_start_method(allow_none=True) or multiprocessing.get_all_start_methods()[0]


def refuse_in_child() -> None:
    """End a loading process that runs the user's script a second time; call it before a run writes anything.

    A spawned process imports the script that started it. A call that is not behind the guard is repeated by it.

    Raises SystemExit with one sentence: a process that is starting ends without a traceback.
    """
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        raise SystemExit(f"error: {_no_guard('a loading process ran this script again')}")


def can_start(workers: int) -> Literal["yes", "no script"]:
    """Say whether loading processes can be started from here: "no script" if the code came from standard input.

    Raises InputError if they are spawned and the script that runs calls this without the guard.
    """
    if workers == 0 or start_method() == "fork":
        return "yes"
    main = sys.modules.get("__main__")
    path = getattr(main, "__file__", None)
    name = getattr(getattr(main, "__spec__", None), "name", "")
    if path is None or name == "__main__" or name.endswith(".__main__"):
        return "yes"  # a notebook, an installed command, or a package run by `python -m`: none of them is run again
    if not Path(path).is_file():
        return "no script"
    if _runs_without_guard(path, vars(main)):
        raise InputError(_no_guard("the script starts loading processes, each of which would run it again"))
    return "yes"


def _no_guard(what: str) -> str:
    return f"{what}. Put its calls below '{GUARD}', or set data.workers to 0."


def _runs_without_guard(path: str, main: Mapping[str, object]) -> bool:
    """Return whether the line of the script that is being run lies outside of every `if __name__ == "__main__":`."""
    frame: FrameType | None = sys._getframe()
    line = None
    while frame is not None:
        if frame.f_code.co_name == "<module>" and frame.f_globals is main:
            line = frame.f_lineno
        frame = frame.f_back
    if line is None:
        return False
    try:
        tree = ast.parse(Path(path).read_bytes())
    except (OSError, SyntaxError, ValueError, RecursionError):  # a program that is no plain script, such as a zip file
        return False
    guarded = [node for node in tree.body if isinstance(node, ast.If) and _names_main(node.test)]
    return not any(node.lineno <= line <= (node.end_lineno or line) for node in guarded)


def _names_main(test: ast.expr) -> bool:
    names = {node.id for node in ast.walk(test) if isinstance(node, ast.Name)}
    return "__name__" in names


class _Nowhere(io.RawIOBase):
    """Takes bytes and forgets them."""

    def writable(self) -> bool:
        return True

    def write(self, data: object) -> int:
        return memoryview(data).nbytes  # type: ignore[arg-type]


def check_picklable(work: object) -> None:
    """Raise InputError if `work` cannot be sent to spawned processes; forked ones need nothing sent."""
    if start_method() == "fork":
        return
    try:
        pickle.Pickler(_Nowhere(), protocol=pickle.HIGHEST_PROTOCOL).dump(work)
    except (AttributeError, TypeError, pickle.PicklingError, RuntimeError) as error:
        raise InputError(
            f"data.workers: what changes the images cannot be sent to loading processes ({clip(str(error), 200)}). "
            "Use functions and classes of a module in data hooks, no lambdas or local ones, or set data.workers to 0."
        ) from error


def raise_if_worker_died(error: RuntimeError) -> None:
    """Raise RunError if torch's data loader reports that one of its processes has died."""
    if "DataLoader worker" in str(error):
        reason = str(error.__cause__ or error).partition("\n")[0]
        raise RunError(
            f"a loading process has ended unexpectedly ({clip(reason, 200)}). Memory or shared memory may be used up: "
            "set data.workers to a smaller number, or to 0."
        ) from error
