"""A run folder in which anything may be damaged: loading and resuming it works, or is refused in a sentence.

The slow test takes new examples for TLVISION_FUZZ_SECONDS (30).
"""

from __future__ import annotations

import json
import os
import shutil
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import tlvision
from tlvision.training.manifest import write_manifest
from tlvision.training.state import read_state
from tlvision.types import InputError, TlvisionError

FILES = (
    "config.yaml", "classes.json", "environment.json", "ledger.json", "metrics.json", "log.jsonl",
    *(f"checkpoints/{kind}/{name}" for kind in ("last", "best")
      for name in ("state.json", "classes.json", "manifest.json", "model.safetensors")),
    *(f"checkpoints/last/{name}" for name in ("optimizer.json", "random.0.json", "config.yaml", "environment.json",
      "optimizer.safetensors", "random.0.safetensors")),
)  # fmt: skip
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(-5, 5), st.just(10**400), st.floats(), st.text(max_size=4), st.just([]),
    st.just({}),
)  # fmt: skip
DAMAGE = st.one_of(
    st.tuples(st.just("cut"), st.floats(0, 1)),
    st.tuples(st.just("flip"), st.floats(0, 1), st.integers(0, 255)),
    st.tuples(st.just("insert"), st.floats(0, 1), st.binary(min_size=1, max_size=6)),
    st.tuples(st.just("value"), st.integers(0, 200), SCALARS),
    st.tuples(st.just("drop"), st.integers(0, 200)),
    st.tuples(st.just("remove")),
    st.tuples(st.just("folder")),
)
CHANGES = st.lists(st.tuples(st.sampled_from(FILES), DAMAGE), min_size=1, max_size=2)


def places(value: Any) -> list[tuple[Any, Any]]:
    """Return every container with a key in it, of nested lists and dicts."""
    if isinstance(value, dict):
        return [(value, key) for key in value] + [found for inner in value.values() for found in places(inner)]
    if isinstance(value, list):
        return [(value, k) for k in range(len(value))] + [found for inner in value for found in places(inner)]
    return []


def spoil(path: Path, damage: tuple[Any, ...]) -> None:
    kind, *rest = damage
    if path.is_dir():
        return  # an earlier change has made it a folder
    data = path.read_bytes() if path.is_file() else b""
    if kind in {"cut", "flip", "insert"} and data:
        where = min(int(rest[0] * len(data)), len(data) - 1)
        middle = {"cut": b"", "flip": bytes([rest[-1]]) if kind == "flip" else b"", "insert": rest[-1]}[kind]
        tail = {"cut": b"", "flip": data[where + 1 :], "insert": data[where:]}[kind]
        path.write_bytes(data[:where] + (middle if isinstance(middle, bytes) else b"") + tail)
    elif kind in {"value", "drop"} and path.suffix == ".json" and path.is_file():
        try:
            content = json.loads(data)
        except (ValueError, RecursionError):
            return
        found = places(content)
        if found:
            holder, key = found[rest[0] % len(found)]
            if kind == "drop":
                del holder[key]
            else:
                holder[key] = rest[1]
            path.write_text(json.dumps(content))
    elif kind in {"remove", "folder"}:
        path.unlink(missing_ok=True)
        if kind == "folder":
            path.mkdir(exist_ok=True)


def survives(run: Path, work: Path, changes: list[tuple[str, tuple[Any, ...]]], signed: bool) -> None:
    """Damage a copy of a run, sign the damage if asked (so that it gets past the manifest), load it and resume it."""
    shutil.rmtree(work, ignore_errors=True)
    shutil.copytree(run, work)
    for name, damage in changes:
        spoil(work / name, damage)
    if signed:
        for folder in (work / "checkpoints").iterdir():
            if not (folder / "manifest.json").is_dir():
                write_manifest(folder)
    with suppress(TlvisionError):
        tlvision.load(work)
    with suppress(TlvisionError):
        tlvision.train({}, resume=work)


QUICK = settings(
    max_examples=4, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@QUICK
@given(CHANGES, st.booleans())
def test_any_damage_is_a_sentence_at_worst(
    small_run: Path, tmp_path: Path, changes: list[tuple[str, tuple[Any, ...]]], signed: bool
) -> None:
    survives(small_run, tmp_path / "run", changes, signed)


@pytest.mark.parametrize("key", ["step", "closed_epochs", "images_seen", "best", "metrics", "stopped"])
def test_a_state_without_a_key_is_refused(small_run: Path, tmp_path: Path, key: str) -> None:
    state = json.loads((small_run / "checkpoints" / "last" / "state.json").read_text())
    del state[key]
    (tmp_path / "state.json").write_text(json.dumps(state))
    with pytest.raises(InputError, match=f"state.json': {key}"):
        read_state(tmp_path)


def test_a_state_without_its_list_of_hooks_is_refused(small_run: Path, tmp_path: Path) -> None:
    run = shutil.copytree(small_run, tmp_path / "run")
    path = run / "checkpoints" / "last" / "state.json"
    state = json.loads(path.read_text())
    del state["hooks"]
    path.write_text(json.dumps(state))
    with pytest.raises(InputError, match=r"state\.json': hooks is missing"):
        tlvision.train({}, resume=run)


@pytest.mark.slow
def test_any_damage_is_a_sentence_at_worst_for_long(small_run: Path, tmp_path: Path) -> None:
    until = time.monotonic() + float(os.environ.get("TLVISION_FUZZ_SECONDS", "30"))
    rounds = 0

    @settings(QUICK, max_examples=20, derandomize=False)
    @given(CHANGES, st.booleans())
    def run(changes: list[tuple[str, tuple[Any, ...]]], signed: bool) -> None:
        survives(small_run, tmp_path / "run", changes, signed)

    while rounds == 0 or time.monotonic() < until:
        run()
        rounds += 1
