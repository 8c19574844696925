"""The freezing benchmark: its table, what it trains on, and the commands of the four sides."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def freezing(tools: Callable[[str], Any]) -> Any:
    return tools("benchmarks.freezing")


def result(milliseconds: float, peak: int, added: int) -> dict[str, Any]:
    return {
        "step_seconds": milliseconds / 1000,
        "peak_memory_bytes": peak * 2**20,
        "added_memory_bytes": added * 2**20,
        "trained": 1234,
        "threads": 1,
    }


def test_medians_and_ratios(freezing: Any) -> None:
    full, frozen, theirs, theirs_frozen = freezing.SIDES
    rows = {
        full: [result(100, 1000, 200), result(900, 1000, 200), result(90, 1000, 200)],
        frozen: [result(60, 900, 100)] * 3,
        theirs: [result(200, 1000, 250)] * 3,
        theirs_frozen: [result(150, 1200, 125)] * 3,
    }
    lines = freezing.table(rows).splitlines()
    assert lines[2] == "| ours, full | 100 | 1000 | 200 | 1,234 |"
    assert lines[-4] == "| frozen / full, ours | 0.60 | 0.90 | 0.50 | |"
    assert lines[-3] == "| frozen / full, ultralytics | 0.75 | 1.20 | 0.50 | |"
    assert lines[-2] == "| ours / ultralytics, full | 0.50 | 1.00 | 0.80 | |"
    assert lines[-1] == "| ours / ultralytics, frozen | 0.40 | 0.75 | 0.80 | |"
    assert {line.count("|") for line in lines} == {6}


@pytest.mark.parametrize(("available", "kept"), [(3, None), (9, 8), (40, 16)])
def test_whole_batches_only(freezing: Any, tmp_path: Path, available: int, kept: int | None) -> None:
    document = {
        "images": [{"id": i} for i in range(available)],
        "categories": [],
        "annotations": [{"id": i, "image_id": i} for i in range(available)],
    }
    (tmp_path / "train.json").write_text(json.dumps(document))
    options = argparse.Namespace(data=tmp_path, batch=4, batches=4, out=tmp_path / "out")
    if kept is None:
        with pytest.raises(SystemExit, match="fewer images than one batch of 4"):
            freezing.write_subset(options)
        return
    freezing.write_subset(options)
    written = json.loads(freezing.subset_path(options).read_text())
    assert [image["id"] for image in written["images"]] == list(range(kept))
    assert [row["image_id"] for row in written["annotations"]] == list(range(kept))


def test_only_the_frozen_sides_freeze_and_all_do_the_same_work(freezing: Any, tmp_path: Path) -> None:
    options = argparse.Namespace(
        **{"data": tmp_path, "weights": "w.pt", "arch": "yolov8n", "image_size": 320, "batch": 16},
        **{"steps": 20, "warmup": 5, "threads": 2, "out": tmp_path},
    )
    commands = {side: " ".join(freezing.command_for(options, side, 10)) for side in freezing.SIDES}
    assert [side for side in commands if "--freeze 10" in commands[side]] == ["ultralytics, frozen"]
    for command in commands.values():
        for part in ("--image-size 320", "--batch 16", "--steps 20", "--warmup 5", "--threads 2", "--weights w.pt"):
            assert part in command
    for side, count in (("ours, full", 0), ("ours, frozen", 1)):
        overrides = freezing.overrides(argparse.Namespace(**vars(options), side=side))
        assert sum('{"freeze": {"roles": ["stem", "backbone"]}}' in override for override in overrides) == count
