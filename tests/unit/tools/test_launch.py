"""The tests' own way to run a script: it ends, prints and fails as `python SCRIPT` does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from launch import run_script, torchrun

ENDS = {
    "falls off its end": "print('out'); import sys; print('err', file=sys.stderr)",
    "exits with a number": "print('out'); raise SystemExit(3)",
    "exits with nothing": "print('out'); raise SystemExit",
    "exits with a text": "print('out'); raise SystemExit('no such thing')",
    "raises": "print('out'); raise ValueError('no such thing')",
    "is killed": "import os; print('out', flush=True); os.kill(os.getpid(), 9)",
    "registers what to do at its end": "import atexit; atexit.register(print, 'out'); print('first')",
    "is interrupted": "from signal import *; signal(SIGINT, default_int_handler); raise_signal(SIGINT)",
}
assert ENDS


@pytest.mark.parametrize("source", ENDS.values(), ids=ENDS)
def test_it_ends_as_a_script_of_python_does(tmp_path: Path, source: str) -> None:
    script = tmp_path / "script.py"
    script.write_text(source)
    expected = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=False)
    found = run_script(script)
    # Python ends an uncaught KeyboardInterrupt by the signal itself.
    assert found.returncode == (1 if expected.returncode == -2 else expected.returncode)
    assert found.stdout == expected.stdout
    assert bool(found.stderr) == bool(expected.stderr)
    if expected.stderr:
        assert found.stderr.splitlines()[-1] == expected.stderr.splitlines()[-1]


def test_it_is_the_main_program_with_its_arguments_folder_and_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "beside.py").write_text("word = 'hello'")
    script = tmp_path / "script.py"
    script.write_text(
        "import json, os, sys, beside\nassert __name__ == '__main__'\n"
        "print(json.dumps([sys.argv, os.getcwd(), os.environ['MARK'], sys.stdin.read(), beside.word]))\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MARK", "here")
    found = json.loads(run_script(script, "a", "b c").stdout)
    assert found == [[str(script), "a", "b c"], str(tmp_path), "here", "", "hello"]
    assert "MARK" in os.environ


def test_one_script_leaves_nothing_to_the_next(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text("import torch\nassert not hasattr(torch, 'mark')\ntorch.mark = 1\nprint(torch.initial_seed())")
    first, second = run_script(script), run_script(script)
    assert (first.returncode, second.returncode) == (0, 0), first.stderr + second.stderr


def test_ranks_know_their_place_and_one_that_fails_ends_the_others(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text("import os\nos.write(1, (os.environ['RANK'] + os.environ['WORLD_SIZE'] + ' ').encode())")
    assert sorted(torchrun(script, processes=3).split()) == ["03", "13", "23"]
    script.write_text(
        "import os, time\nif os.environ['RANK'] == '1':\n    raise ValueError('rank 1 is ill')\ntime.sleep(100)"
    )
    with pytest.raises(AssertionError, match="rank 1 is ill"):
        torchrun(script)
