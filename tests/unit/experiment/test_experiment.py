"""An experiment runs every trial once, survives every kill, and says what its file gets wrong."""

from __future__ import annotations

import json
import re
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from processes import kill_five_times, processes_of
from tlvision.cli.main import main
from tlvision.experiment.estimate import Pace, sentence
from tlvision.experiment.executor import run_trials
from tlvision.experiment.executors import gpu_names, make_executor
from tlvision.experiment.file import ExperimentFile, parse_experiment, read_experiment
from tlvision.experiment.local import LocalExecutor
from tlvision.experiment.plan import make_plan
from tlvision.experiment.progress import state_of
from tlvision.experiment.run import run_experiment
from tlvision.files.json_files import read_object
from tlvision.types import InputError

FAKE = (sys.executable, str(Path(__file__).parents[2] / "helpers" / "fake_trial.py"))
AXES = {
    "rate": {"key": "train.lr", "values": [0.1, 0.2]},
    "seed": {"role": "replicate", "key": "train.seed", "values": [0, 1, 2]},
}
COMPARE = {"against": {"rate": "0.1"}, "resamples": 0}


def experiment(**changes: Any) -> ExperimentFile:
    return parse_experiment({"base": "base.yaml", "axes": AXES, "compare": COMPARE, **changes}, "experiment.yaml")


def run(origin: Path, out: Path, jobs: int = 2, **changes: Any) -> dict[str, Any]:
    table = run_experiment(experiment(**changes), origin, out, executor=LocalExecutor(slots=jobs, command=FAKE))
    assert table is not None
    return table


def test_every_trial_runs_once_and_the_table_pairs_replicates(origin: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    table = run(origin, out)
    first, second = table["rows"]
    assert (first["name"], first["count"], first["mean"]) == ("rate 0.1", 3, pytest.approx(0.101))
    assert first["sd"] == pytest.approx(0.001)
    assert second["reference"] == "rate 0.1"
    assert (second["difference"], second["verdict"], second["over"]) == (pytest.approx(0.1), "better", "replicates")
    assert len(list((out / "trials").glob("*/finished.json"))) == 6
    lines = [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]
    assert [line["status"] for line in lines] == ["finished"] * 6
    assert (out / "table.csv").read_text().splitlines()[1].startswith("0.1,3,0.101")
    assert "| rate 0.2 | 3 | 0.2010 |" in (out / "table.md").read_text()
    assert "rate 0.2" in (out / "report.html").read_text(encoding="utf-8")


def test_a_repeated_command_trains_nothing_and_gives_the_same_table(
    origin: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = run(origin, tmp_path / "out")
    stamps = {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "trials").glob("*/*")}
    assert run(origin, tmp_path / "out") == table
    assert "6 trials: 6 finished" in capsys.readouterr().out
    assert stamps == {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "trials").glob("*/*")}
    more = {**AXES, "seed": {**AXES["seed"], "values": [0, 1, 2, 3]}}
    run(origin, tmp_path / "out", axes=more)
    assert "8 trials: 6 finished, 2 to run" in capsys.readouterr().out


def test_the_copy_of_the_file_is_the_same_experiment(origin: Path, tmp_path: Path) -> None:
    (tmp_path / "slow.yaml").write_text("train: {lr: 0.3}\n")
    axes = {"rate": {"variants": {"plain": {}, "slow": {"with": ["slow.yaml"]}}}}
    table = run(origin, tmp_path / "out", axes=axes, compare={})
    assert table["rows"][1]["mean"] == pytest.approx(0.3)
    copy = tmp_path / "out" / "experiment.yaml"
    again = run_experiment(read_experiment(copy), copy, tmp_path / "out", executor=LocalExecutor(command=("false",)))
    assert again == table


def test_each_job_gets_one_of_the_gpus_that_the_user_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert gpu_names() == ["0", "1"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    executor = make_executor(experiment())
    assert (executor.slots, executor.gpus) == (2, ["3", "5"])
    assert [executor._environment(slot)["CUDA_VISIBLE_DEVICES"] for slot in range(3)] == ["3", "5", "3"]
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr("os.cpu_count", lambda: 8)
    assert make_executor(experiment()).slots == 1
    assert make_executor(experiment(), 4)._environment(0) == {"OMP_NUM_THREADS": "2"}


def test_the_state_of_a_trial_comes_from_the_end_of_its_log(origin: Path, tmp_path: Path) -> None:
    plan = make_plan(experiment(set={"train.epochs": 4}), origin, tmp_path / "out")
    trial = next(iter(plan.trials.values()))
    assert state_of(trial, "bbox/AP") == (0.0, "starting")
    trial.folder.mkdir(parents=True)
    log = trial.folder / "log.jsonl"
    log.write_text('{"kind": "step", "epoch": 1}\n')
    assert state_of(trial, "bbox/AP") == (0.0, "epoch 1/4")
    evaluation = {"kind": "evaluation", "epoch": 2, "metrics": {"bbox/AP": 0.25}}
    log.write_text(f'{"x" * 5000}\n{json.dumps(evaluation)}\n{{"kind": "step", "epoch": 3}}\n{{"kind": "st')
    assert state_of(trial, "bbox/AP") == (0.5, "epoch 3/4, bbox/AP 0.2500")


def test_a_failed_trial_is_a_row_with_its_error_and_is_tried_again(origin: Path, tmp_path: Path) -> None:
    axes = {**AXES, "seed": {**AXES["seed"], "values": [0, 13]}}
    table = run(origin, tmp_path / "out", axes=axes)
    for row in table["rows"]:
        assert row["values"]["seed 13"] is None
        assert row["count"] == 1
        assert row["notes"][0] == "seed 13: failed, the seed brings bad luck"
    assert table["rows"][1]["verdict"] == "no evidence"
    assert "one replicate a row" in table["notes"][0]
    lines = [json.loads(line) for line in (tmp_path / "out" / "results.jsonl").read_text().splitlines()]
    assert [line["status"] for line in lines] == ["finished", "failed"] * 2


def test_equal_trials_run_once(origin: Path, tmp_path: Path) -> None:
    axes = {
        "start": {"variants": {"a": {"set": {"train.lr": 0.1}}, "same": {"set": {"train.lr": 0.1}}}},
        "seed": AXES["seed"],
    }
    table = run(origin, tmp_path / "out", axes=axes, compare={"against": {"start": "a"}, "resamples": 0})
    assert len(list((tmp_path / "out" / "trials").glob("*/finished.json"))) == 3
    assert table["rows"][0]["mean"] == table["rows"][1]["mean"]
    assert table["rows"][1]["verdict"] == "no evidence"


def test_other_data_are_another_trial(origin: Path, tmp_path: Path, tiny_dataset: Path) -> None:
    copy = tmp_path / "train.json"
    content = json.loads((tiny_dataset / "train.json").read_text())
    ids = []
    for number in range(2):
        content["info"] = {"version": number}
        copy.write_text(json.dumps(content))
        plan = make_plan(experiment(set={"data.train.json": str(copy)}), origin, tmp_path / "out")
        ids.append(set(plan.trials))
    assert not ids[0] & ids[1]
    assert ids[1] == set(
        make_plan(experiment(set={"data.train.json": str(copy)}), origin, tmp_path / "elsewhere").trials
    )


DRIVER = """
import sys
from pathlib import Path
sys.path.insert(0, {here!r})
from test_experiment import run
run(Path(sys.argv[1]), Path(sys.argv[2]))
"""


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_killed_at_any_moment_nothing_is_lost_or_trained_twice(seed: int, origin: Path, tmp_path: Path) -> None:
    """Five kills -9 each: of the runner, or of a trial."""
    expected = run(origin, tmp_path / "reference")
    out = tmp_path / "out"
    driver = DRIVER.format(here=str(Path(__file__).parent))
    kill_five_times([sys.executable, "-c", driver, str(origin), str(out)], out / "trials", seed, 0.3)
    table = run(origin, out)
    for row, other in zip(table["rows"], expected["rows"], strict=True):
        assert row["values"] == other["values"]
        assert row["difference"] == other["difference"]
    steps = [path.read_text() for path in (out / "trials").glob("*/steps")]
    assert steps == ["0123456789"] * 6


def test_ctrl_c_ends_the_trials_and_the_command_goes_on(origin: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "experiment.yaml").touch()

    def interrupt(running: list[Any]) -> None:
        if running:
            raise KeyboardInterrupt

    plan = make_plan(experiment(), origin, out)
    executor = LocalExecutor(slots=2, command=FAKE)
    with pytest.raises(KeyboardInterrupt):
        list(run_trials(list(plan.trials.values()), executor, interrupt))
    assert processes_of(out / "trials") == []
    assert len(run(origin, out)["rows"]) == 2


SLOW = """
import pathlib, sys, time
mark = pathlib.Path(sys.argv[-1])
try:
    mark.with_suffix(".started").touch()
    time.sleep(60)
except KeyboardInterrupt:
    mark.with_suffix(".saved").touch()
"""


@pytest.mark.parametrize("ignored", [False, True])
def test_ctrl_c_reaches_a_trial_that_could_go_on(ignored: bool, origin: Path, tmp_path: Path) -> None:
    """Also if the runner ignores it, as behind `nohup`; a trial would inherit that."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN if ignored else signal.default_int_handler)
    try:
        _interrupt_a_slow_trial(origin, tmp_path)
        assert signal.getsignal(signal.SIGINT) == (signal.SIG_IGN if ignored else signal.default_int_handler)
    finally:
        signal.signal(signal.SIGINT, before)


def _interrupt_a_slow_trial(origin: Path, tmp_path: Path) -> None:
    trials = tmp_path / "out" / "trials"

    def interrupt(running: list[Any]) -> None:
        if list(trials.glob("*.started")):
            raise KeyboardInterrupt

    plan = make_plan(experiment(), origin, tmp_path / "out")
    with pytest.raises(KeyboardInterrupt):
        list(run_trials(list(plan.trials.values()), LocalExecutor(command=(sys.executable, "-c", SLOW)), interrupt))
    assert len(list(trials.glob("*.saved"))) == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"axes": {}}, "axes or search is missing"),
        ({"axes": {"rate": {"key": "train.lr"}}}, "either key and values, or variants"),
        ({"axes": {"rate": {"key": "train.lr", "values": [1, 1]}}}, "must differ"),
        ({"axes": {**AXES, "again": {"key": "train.lr", "values": [1, 2]}}}, "both set train.lr"),
        ({"axes": {**AXES, "out": {"key": "run.out", "values": ["a"]}}}, "sets run.out"),
        ({"compare": {"against": {"seed": "0"}}}, "'seed' is no axis that is compared"),
        ({"compare": {"against": {"rate": "0.3"}}}, "axis 'rate' has no '0.3', it has ['0.1', '0.2']"),
        ({"axis": AXES}, "axis: unknown key. Did you mean 'axes'?"),
    ],
)
def test_a_file_that_means_nothing_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        experiment(**changes)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"base": "nothing"}, "no preset of that name"),
        ({"set": {"train.epoch": 3}}, "6 of 6 trials cannot be run. rate 0.1, seed 0: "),
        ({"set": {"data.train.json": "nowhere.json"}}, "data.train.json: no file 'nowhere.json'"),
        (
            {"compare": {"metric": "bbox/AP5"}},
            "'bbox/AP5' is no metric of the task 'detect'. Did you mean 'bbox/AP",
        ),
    ],
)
def test_what_cannot_run_is_refused_before_anything_runs(
    changes: dict[str, Any], message: str, origin: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError) as caught:
        run(origin, tmp_path / "out", **changes)
    assert message in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_a_folder_of_something_else_is_left_alone(origin: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("words")
    with pytest.raises(InputError, match="is not the folder of an experiment"):
        run(origin, tmp_path / "mine")


@pytest.mark.slow
def test_real_trials_from_the_command_line(origin: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Their differences are over images as well; a plan runs nothing."""
    origin.write_text("""
        base: base.yaml
        set: {train.epochs: 1}
        axes:
          start: {variants: {plain: {}, slow: {set: {train.lr: 0.0001}}}}
          seed: {role: replicate, key: train.seed, values: [0, 1]}
        compare: {against: {start: plain}, resamples: 100}
    """)
    out = tmp_path / "out"
    assert main(["experiment", str(origin), "--out", str(out), "--plan"]) == 0
    assert "4 trials: 4 to run; 1 at a time" in capsys.readouterr().out
    assert not out.exists()
    assert main(["experiment", str(origin), "--out", str(out), "--jobs", "2"]) == 0
    table = read_object(out / "table.json", "")
    assert [row["count"] for row in table["rows"]] == [2, 2]
    assert table["rows"][1]["over"] == "images and replicates"
    for row in table["rows"]:
        for folder, value in zip(row["runs"], row["values"].values(), strict=True):
            assert json.loads((Path(folder) / "metrics.json").read_text())["bbox"]["AP"] == value
            assert not (Path(folder) / "report.html").exists()


def test_the_time_of_all_follows_from_one_epoch_of_the_first(origin: Path, tmp_path: Path) -> None:
    plan = make_plan(
        experiment(axes={"part": {"key": "data.train.subset.fraction", "values": [0.5, 1.0]}}, compare={}),
        origin,
        tmp_path / "out",
    )
    half, whole = plan.trials.values()
    pace = Pace(process=12.0, epoch=2.0, share=0.5)
    epochs = half.config.train.epochs
    assert pace.seconds(half.config) == 10 + 2 * epochs
    assert pace.seconds(whole.config) == 10 + 4 * epochs
    assert sentence(pace, [half, whole] * 30, 2).startswith(
        f"about {(20 + 6 * epochs) * 30 / 2 / 60:.0f} minutes for 60"
    )
    assert sentence(pace, [half] * 4000, 1).endswith("1 at a time (from one epoch of the first)")


@pytest.mark.slow
def test_the_probe_trains_one_epoch_which_is_not_lost(
    origin: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    origin.write_text("{base: base.yaml, axes: {seed: {role: replicate, key: train.seed, values: [0, 1]}}}")
    command = ["experiment", str(origin), "--out", str(tmp_path / "out"), "--estimate"]
    assert main(command) == 0
    assert re.search(r"about \d+ minutes for 2 trials, 1 at a time", capsys.readouterr().out)
    (state,) = (tmp_path / "out" / "trials").glob("*/checkpoints/last/state.json")
    assert json.loads(state.read_text())["closed_epochs"] == 1
    assert main(command) == 0
    assert "the first trial has been trained for an epoch before" in capsys.readouterr().out
