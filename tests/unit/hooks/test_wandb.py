"""The hook wandb, offline; what both trackers promise is in test_tracking.py."""

from __future__ import annotations

import json
import os
import struct
import time
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import tlvision
from interrupt import interrupted
from tlvision.hooks.observers import wandb as hook_module
from tracked import config_values, logged_numbers

wandb: Any = pytest.importorskip("wandb", reason="W&B is an extra: pip install 'tlvision[wandb]'")


BLOCK, HEADER = 32768, 7
"""Sizes in W&B's file, which has LevelDB's log format: of a block, and of the header of the file and of each chunk."""


def records_of(folder: Path) -> list[Any]:
    """Return the records that W&B wrote for one run; its own process may write the last ones a moment later."""
    for _ in range(100):
        records = read_records(folder)
        if any(record.WhichOneof("record_type") == "exit" for record in records):
            return records
        time.sleep(0.1)
    raise AssertionError(f"the run in {folder} was not finished")


def read_records(folder: Path) -> list[Any]:
    from wandb.proto import wandb_internal_pb2

    (path,) = folder.glob("run-*.wandb")
    data = path.read_bytes()
    assert data[:4] == b":W&B"
    records, whole, place = [], b"", HEADER
    while place < len(data):
        if BLOCK - place % BLOCK < HEADER:  # the rest of a block is padding
            place += BLOCK - place % BLOCK
            continue
        _, size, kind = struct.unpack("<IHB", data[place : place + HEADER])
        whole += data[place + HEADER : place + HEADER + size]
        place += HEADER + size
        if kind in {1, 4}:  # a whole record, or its last chunk
            record = wandb_internal_pb2.Record()
            record.ParseFromString(whole)
            records.append(record)
            whole = b""
    return records


def history_of(records: list[Any]) -> dict[str, list[tuple[int, float]]]:
    found: dict[str, list[tuple[int, float]]] = {}
    for record in records:
        if record.WhichOneof("record_type") == "history":
            row = {"/".join(item.nested_key) or item.key: json.loads(item.value_json) for item in record.history.item}
            step = row.get("_step", record.history.step.num)
            for name, value in row.items():
                if not name.startswith("_"):
                    found.setdefault(name, []).append((step, value))
    return found


def values_of(records: list[Any], kind: str) -> dict[str, Any]:
    """Return all values of the records "config" or "summary"."""
    found = {}
    for record in records:
        items = []
        if record.WhichOneof("record_type") == kind:
            items = getattr(record, kind).update
        elif record.WhichOneof("record_type") == "run" and kind == "config":
            items = record.run.config.update
        found |= {"/".join(item.nested_key) or item.key: json.loads(item.value_json) for item in items}
    return found


TORCH = ("PYTORCH_", "TORCHINDUCTOR_")
"""Environment variables that torch sets in a training."""


@pytest.fixture
def config(tiny_config: dict[str, Any]) -> dict[str, Any]:
    log = {"progress": "none", "tensorboard": "off", "every": 1}
    tiny_config["hooks"] = [{"wandb": {"every": 1}}, {"ema": {"decay": 0.9}}, {"log": log}]
    tiny_config["data"]["workers"] = 0
    tiny_config["run"]["report"] = True
    return tiny_config


@pytest.mark.slow
def test_a_resumed_run_has_one_id_and_all_numbers(config: dict[str, Any]) -> None:
    before = dict(os.environ)
    config["hooks"][0]["wandb"]["artifacts"] = True
    with interrupted(4):
        tlvision.train(deepcopy(config))
    result = tlvision.train({}, resume=config["run"]["out"])
    both = before.keys() | os.environ.keys()
    changed = {key for key in both if before.get(key) != os.environ.get(key) and not key.startswith(TORCH)}
    assert (changed, wandb.run) == (set(), None)

    folders = sorted((result.run / "wandb").glob("offline-run-*"))
    parts = [records_of(folder) for folder in folders]
    runs = [next(record.run for record in part if record.WhichOneof("record_type") == "run") for part in parts]
    kept = json.loads((result.run / "wandb.json").read_text())["run_id"]
    assert [(run.run_id, run.display_name, run.project) for run in runs] == [(kept, "run", "tlvision")] * 3
    found: dict[str, list[tuple[int, float]]] = {}
    for part in parts:
        for name, values in history_of(part).items():
            found.setdefault(name, []).extend(values)
    expected = logged_numbers(result.run)
    assert len(expected) > 5
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        assert found[name] == values, name
    configs, summary = values_of(parts[0], "config"), values_of(parts[1], "summary")
    assert {key: configs.get(key) for key in config_values(result.run)} == config_values(result.run)
    assert configs["folder"] == str(result.run)
    assert not [key for key in configs if "wandb" in key and key != "_wandb"]
    assert summary["best/bbox/AP"] == result.metrics["bbox"]["AP"]
    assert summary["path/run"] == str(result.run)
    kinds = [record.WhichOneof("record_type") for record in parts[2]]
    assert "artifact" in kinds or "request" in kinds
    artifact = next(record.artifact for record in parts[2] if record.WhichOneof("record_type") == "artifact")
    names = {entry.path for entry in artifact.manifest.contents}
    assert names == {"report.html", "metrics.json", "thresholds.json"}
    exits = [record.exit.exit_code for part in parts for record in part if record.WhichOneof("record_type") == "exit"]
    assert exits == [0, 0, 0]


@pytest.mark.slow
@pytest.mark.parametrize("key", ["", "0" * 40])
def test_without_network_an_online_run_is_written_offline(
    key: str, config: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    away = partial(wandb.Settings, base_url="http://127.0.0.1:9")
    monkeypatch.setattr(wandb, "Settings", away)
    monkeypatch.setenv("WANDB_API_KEY", key)
    monkeypatch.setattr(hook_module, "_TIMEOUT", 1.0)
    config["hooks"][0]["wandb"]["mode"] = "online"
    result = tlvision.train(config)
    text = capsys.readouterr().out + (result.run / "log.jsonl").read_text()
    assert text.count("wandb: W&B cannot be reached") == 1
    (folder,) = (result.run / "wandb").glob("offline-run-*")
    assert history_of(records_of(folder))["lr"] == logged_numbers(result.run)["lr"]
