"""Run a script in a process of its own, or in several, without importing torch anew in each.

`python SCRIPT` spends seconds on imports. Here a server process imports once a session what every script needs, and
each script runs in a fork of it, as the main program. `torchrun_itself` is the launcher that users have.
"""

from __future__ import annotations

import atexit
import contextlib
import importlib
import json
import multiprocessing.process
import os
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any, NoReturn

PRELOADED = ("torch", "torchvision", "lightning_fabric", "cv2", "tlvision.training.loop", "tlvision_toy.adapter")
LIMIT = 300
"""Seconds until a script that has not ended is killed."""


def run_script(script: Path, *arguments: str) -> CompletedProcess[str]:
    """Run a script; return its exit code, which is minus the number of a signal that killed it, and its output."""
    return _run(script, arguments, [{}])


def torchrun(script: Path, *arguments: str, processes: int = 2) -> str:
    """Run a script on several processes as torchrun does, assert that it succeeds, and return what it printed."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    ranks = [_environment(rank, processes) | {"MASTER_PORT": port} for rank in range(processes)]
    done = _run(script, arguments, ranks if processes > 1 else [{}])
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def torchrun_itself(script: Path, *arguments: str, processes: int = 2) -> str:
    """Run a script under torchrun, assert that it succeeds, and return what it printed."""
    launcher = ["-m", "torch.distributed.run", "--nproc-per-node", str(processes)]
    done = subprocess.run(
        [sys.executable, *launcher, str(script), *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        timeout=LIMIT,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def _environment(rank: int, processes: int) -> dict[str, str]:
    """Return what torchrun tells a process about itself and the others."""
    return {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(processes),
        "LOCAL_WORLD_SIZE": str(processes),
        "GROUP_RANK": "0",
        "MASTER_ADDR": "127.0.0.1",
        "TORCHELASTIC_RUN_ID": "tests",
    }


def _run(script: Path, arguments: Sequence[str], environments: Sequence[Mapping[str, str]]) -> CompletedProcess[str]:
    """Run a script once in each environment, all at a time; the others are killed if one fails."""
    command = [str(script), *arguments]
    with tempfile.TemporaryDirectory() as name:
        streams = [str(Path(name) / stream) for stream in ("stdout", "stderr")]
        for stream in streams:
            Path(stream).touch()
        base = {**os.environ, "OMP_NUM_THREADS": "1"}
        every = [base | dict(more) for more in environments]
        asked = {"command": command, "environments": every, "folder": str(Path.cwd()), "streams": streams}
        server = _server()
        server.stdin.write(json.dumps(asked) + "\n")
        server.stdin.flush()
        answer = server.stdout.readline()
        out, err = (Path(stream).read_text(encoding="utf-8") for stream in streams)
    assert answer, f"the server of scripts has ended: {err[-3000:]}"
    return CompletedProcess([sys.executable, *command], json.loads(answer), out, err)


@cache
def _server() -> Any:
    """Start the server; it ends with this process."""
    server = subprocess.Popen(
        [sys.executable, __file__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )

    def stop() -> None:
        for pipe in (server.stdin, server.stdout):
            assert pipe is not None
            pipe.close()
        server.wait()

    atexit.register(stop)
    return server


def _serve() -> None:
    """Answer each line of standard input, a request of `_run`, with the exit code of what it asks for."""
    for name in PRELOADED:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    # An answer is not to be mixed with what a script prints.
    answers = os.fdopen(os.dup(1), "w")
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for pytest, which then closes the pipe
    for line in sys.stdin:
        request = json.loads(line)
        started = [_fork(request, environment) for environment in request["environments"]]
        signal.signal(signal.SIGALRM, lambda *_, started=started: _kill(started))
        signal.alarm(LIMIT)
        code, running = 0, set(started)
        while running:
            ended, status = os.wait()
            if ended not in running:
                continue
            running.remove(ended)
            code = code or os.waitstatus_to_exitcode(status)
            if code:
                _kill(running)
        signal.alarm(0)
        answers.write(f"{code}\n")
        answers.flush()


def _kill(processes: Any) -> None:
    for process in processes:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)


def _fork(request: dict[str, Any], environment: dict[str, str]) -> int:
    process = os.fork()
    if process == 0:
        _become(request, environment)
    return process


def _become(request: dict[str, Any], environment: dict[str, str]) -> NoReturn:
    """Run a script in this process as `python SCRIPT` would, and end it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with Path(os.devnull).open("rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    for path, descriptor in zip(request["streams"], (1, 2), strict=True):
        with Path(path).open("ab") as stream:
            os.dup2(stream.fileno(), descriptor)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(request["folder"])
    # Where a process that it spawns looks for a script with a relative path.
    multiprocessing.process.ORIGINAL_DIR = request["folder"]  # type: ignore[attr-defined]
    sys.argv = request["command"]
    sys.path[0] = str(Path(sys.argv[0]).parent)
    code: Any = 0
    try:
        runpy.run_path(sys.argv[0], run_name="__main__")
    except SystemExit as stop:
        code = stop.code or 0
        if not isinstance(code, int):
            print(code, file=sys.stderr)
            code = 1
    except BaseException:
        traceback.print_exc()
        code = 1
    finally:
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    _serve()
