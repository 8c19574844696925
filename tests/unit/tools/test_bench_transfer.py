"""The transfer benchmark with a side that trains nothing: which rates, what is done again, what the table says."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

# Finds the share of objects that its rate and seed stand for, writes down that it ran, and fails where it is told to.
FAKE_SIDE = """
import json, sys
from pathlib import Path
folder, log, share = Path(sys.argv[1]), sys.argv[3], float(sys.argv[4])
truth = json.loads(Path(sys.argv[2]).read_text())
with open(log, "a") as file:
    print(folder.name, file=file)
if share < 0:
    sys.exit("diverged")
folder.mkdir(parents=True)
rows = truth["annotations"][: round(share * len(truth["annotations"]))]
found = [{k: row[k] for k in ("image_id", "category_id", "bbox")} | {"score": 0.9} for row in rows]
(folder / "predictions.json").write_text(json.dumps(found))
if "ultralytics" not in folder.name:
    rows = [{"shape": [3, 5], "trainable_from": 0}, {"shape": [5], "trainable_from": None}]
    (folder / "ledger.json").write_text(json.dumps({"rows": rows}))
"""
FULL = {3e-4: 0.2, 1e-3: 0.4, 3e-3: 0.6, 1e-2: 0.8, 0.03: 0.7}
UPSTREAM = {1e-4: 0.1, 3e-4: 0.6, 1e-3: 0.4, 3e-3: 0.2, 1e-2: 0.0, "auto": 0.5}


class Bench:
    """The benchmark with the fake side in place, on a dataset of twenty images with one object each."""

    def __init__(self, transfer: Any, folder: Path) -> None:
        self.transfer, self.folder = transfer, folder
        self.shares: dict[str, dict[float | str, float]] = {"full": dict(FULL), "ultralytics full": dict(UPSTREAM)}
        for name in ("train", "val"):
            ids = range(1, 21)
            document = {
                "images": [{"id": i, "file_name": f"{i}.jpg", "width": 99, "height": 99} for i in ids],
                "categories": [{"id": 1, "name": "cell"}],
                "annotations": [
                    {"id": i, "image_id": i, "category_id": 1, "bbox": [9, 9, 40, 40], "area": 1600, "iscrowd": 0}
                    for i in ids
                ],
            }
            (folder / f"{name}.json").write_text(json.dumps(document))

    @property
    def out(self) -> Path:
        return self.folder / "out"

    def command(self, options: argparse.Namespace, method: str, rate: float | str, seed: int, truth: Path) -> list[str]:
        folder = self.transfer.folder_of(options, method, rate, seed, truth)
        share = self.shares[method][rate] - 0.1 * seed
        return [sys.executable, "-c", FAKE_SIDE, *map(str, (folder, truth, self.folder / "ran.txt", share))]

    def run(self, monkeypatch: pytest.MonkeyPatch, *more: str) -> list[str]:
        """Run the benchmark and return the names of the runs that were done."""
        (self.folder / "ran.txt").write_text("")
        fixed = ["--data", str(self.folder), "--weights", "w", "--out", str(self.out), "--seeds", "0", "1"]
        monkeypatch.setattr(sys, "argv", ["transfer", *fixed, "--methods", "full", "ultralytics full", *more])
        monkeypatch.setattr(self.transfer, "command_for", self.command)
        self.transfer.main()
        return self.ran()

    def ran(self) -> list[str]:
        return sorted((self.folder / "ran.txt").read_text().split())


@pytest.fixture
def bench(tools: Callable[[str], Any], tmp_path: Path) -> Bench:
    return Bench(tools("benchmarks.transfer"), tmp_path)


def test_every_nth_image_is_trained_on_and_others_are_judged_by(bench: Bench, tmp_path: Path) -> None:
    few, judge = bench.transfer.write_subsets(tmp_path / "train.json", 10, tmp_path)
    ids = [[image["id"] for image in json.loads(path.read_text())["images"]] for path in (few, judge)]
    assert ids == [[10, 20], [1, 4, 7, 11, 14, 17]]
    rows = [[row["image_id"] for row in json.loads(path.read_text())["annotations"]] for path in (few, judge)]
    assert rows == ids


def test_tuning_goes_on_where_an_edge_is_best_and_looks_at_no_validation_image(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran = bench.run(monkeypatch, "--tune")
    assert ran == sorted(
        [f"full-{rate}-0-judge" for rate in FULL] + [f"ultralytics_full-{rate}-0-judge" for rate in UPSTREAM]
    )
    assert json.loads((bench.out / "tuned.json").read_text()) == {"full": 0.01, "ultralytics full": 0.0003}
    grid = json.loads((bench.out / "tuning.json").read_text())
    assert len(grid) == len(FULL) + len(UPSTREAM)
    assert grid["full | 0.01 | 0"]["ap"] > grid["full | 0.03 | 0"]["ap"] > grid["full | 0.0003 | 0"]["ap"] > 0
    assert grid["ultralytics full | 0.01 | 0"]["ap"] == 0, "a model that finds nothing has AP 0"


def test_tuning_some_methods_keeps_the_rates_of_the_others(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.out.mkdir()
    (bench.out / "tuned.json").write_text('{"l2_sp": 0.003}')
    bench.run(monkeypatch, "--tune")
    tuned = json.loads((bench.out / "tuned.json").read_text())
    assert tuned == {"l2_sp": 0.003, "full": 0.01, "ultralytics full": 0.0003}


def test_a_rate_that_diverges_is_not_chosen(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bench.shares["full"] |= {1e-2: -1, 0.009: -1}
    bench.run(monkeypatch, "--tune")
    assert json.loads((bench.out / "tuned.json").read_text())["full"] == 0.003
    assert "FAILED: diverged; log: " in capsys.readouterr().out


def test_the_table_and_that_nothing_is_done_twice(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bench.out.mkdir()
    (bench.out / "tuned.json").write_text('{"full": 0.003}')
    ran = bench.run(monkeypatch)
    assert ran == ["full-0.003-0-val", "full-0.003-1-val", "ultralytics_full-auto-0-val", "ultralytics_full-auto-1-val"]
    rows = {line.split("|")[1].strip(): line.split("|") for line in capsys.readouterr().out.splitlines() if "|" in line}
    results = json.loads((bench.out / "results.json").read_text())
    first, second = (results[f"full | 0.003 | {seed}"]["ap"] for seed in (0, 1))
    assert first > second > 0
    assert rows["full"][2].strip() == "0.003"
    assert rows["full"][3].strip() == f"{(first + second) / 2:.4f} ({second:.4f} to {first:.4f})"
    assert rows["full"][5].strip() == "75.0 %"
    assert rows["ultralytics full"][2].strip() == "auto", "upstream's own choice where nothing was tuned"
    assert "time, s" not in "".join(rows["method"]), "two at once say nothing of time"
    assert bench.run(monkeypatch) == []
    del results["full | 0.003 | 1"]
    (bench.out / "results.json").write_text(json.dumps(results))
    assert bench.run(monkeypatch) == ["full-0.003-1-val"]


def test_runs_that_had_the_machine_to_themselves_show_their_time(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bench.shares["full"][1e-3] = 0.5
    bench.run(monkeypatch, "--jobs", "1")
    assert "| time, s |" in capsys.readouterr().out


def test_a_run_that_fails_stops_no_other_and_is_done_again(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.shares["full"][1e-3] = 0.05  # less 0.1 for seed 1
    with pytest.raises(SystemExit, match=r"these runs failed; .*: full \| 0.001 \| 1$"):
        bench.run(monkeypatch)
    assert len(bench.ran()) == 4
    assert len(json.loads((bench.out / "results.json").read_text())) == 3
    bench.shares["full"][1e-3] = 0.5
    assert bench.run(monkeypatch) == ["full-0.001-1-val"]


def test_results_of_other_settings_are_not_taken_for_these(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.run(monkeypatch)
    with pytest.raises(SystemExit, match=r"settings\.json has .*'epochs': '60'.*, this command .*'epochs': '6'"):
        bench.run(monkeypatch, "--epochs", "6")
    assert bench.ran() == []


def test_rows_of_a_run_without_memory_or_jobs_are_still_shown(bench: Bench) -> None:
    old = {"ap": 0.5, "ap50": 0.8, "seconds": 9.0, "trained": 1.0}
    rows = {"full": [old], "l2_sp": [old | {"peak_memory_bytes": 7 * 2**20}], "linear probe": []}
    lines = bench.transfer.table(rows, dict.fromkeys(rows, 1e-3), alone=False).splitlines()
    assert [line.split("|")[6].strip() for line in lines[2:]] == ["", "7", ""]
    assert {line.count("|") for line in lines} == {7}
    assert "no run finished" in lines[-1]


def test_our_methods_are_hooks_that_exist(bench: Bench) -> None:
    from tlvision.hooks.registry import hook_class, hook_schema

    assert len(bench.transfer.OURS) == 7
    for hooks in bench.transfer.OURS.values():
        for hook in hooks:
            for name, parameters in hook.items():
                hook_schema(hook_class(name))(**parameters)
