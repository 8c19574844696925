"""A search finds the best values on held-out training images, by as many epochs as it says, and survives a kill."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

import pytest

from processes import kill_five_times
from tlvision.cli.main import main
from tlvision.config.load import dump_config, load_config
from tlvision.experiment.file import ExperimentFile, SearchSettings, parse_experiment, read_experiment
from tlvision.experiment.local import LocalExecutor
from tlvision.experiment.run import run_experiment
from tlvision.experiment.search import Candidate, Halving, OneRound, make_search
from tlvision.types import InputError, RunError

FAKE = (sys.executable, str(Path(__file__).parents[2] / "helpers" / "fake_trial.py"))
RATES = [0.1, 0.2, 0.3, 0.5, 0.9, 1.5, 2.0, 3.0, 5.0]
GRID = {"train.lr": {"values": RATES}}


@pytest.fixture
def origin(tiny_config: dict[str, Any], tmp_path: Path) -> Path:
    """The base of an experiment, beside its file; ten epochs, as the stand-in for the trainer has."""
    tiny_config["train"]["epochs"] = 10
    (tmp_path / "base.yaml").write_text(dump_config(load_config(tiny_config)), encoding="utf-8")
    return tmp_path / "experiment.yaml"


def experiment(search: dict[str, Any], **changes: Any) -> ExperimentFile:
    axes = {"seed": {"role": "replicate", "key": "train.seed", "values": [0, 1, 2]}}
    return parse_experiment({"base": "base.yaml", "axes": axes, "search": search, **changes}, "experiment.yaml")


def run(origin: Path, out: Path, search: dict[str, Any], **changes: Any) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    made = experiment(search, **changes)
    table = run_experiment(made, origin, out, executor=LocalExecutor(slots=2, command=FAKE))
    assert table is not None
    return table, json.loads((out / "search.json").read_text())


def settings(**values: Any) -> SearchSettings:
    return SearchSettings.model_validate(values)


@pytest.mark.slow
def test_halving_finds_the_best_of_the_grid_in_a_part_of_its_epochs(origin: Path, tmp_path: Path) -> None:
    table, (found,) = run(origin, tmp_path / "out", {"method": "halving", "space": GRID})
    assert found["chosen"] == {"train.lr": 0.9}
    assert [each["epochs"] for each in found["candidates"]] == [2, 2, 2, 6, 10, 6, 2, 2, 2]
    assert (found["epochs"], found["epochs_of_all"]) == (34, 90)
    (row,) = table["rows"]
    assert row["values"] == {"seed 0": 0.9, "seed 1": 0.901, "seed 2": 0.902}
    assert row["notes"] == [
        "train.lr=0.9, chosen of 9 candidates by bbox/AP (0.9000) on training images held out, 38 % of all their epochs"
    ]
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "Search: all" in page
    assert "train.lr=0.9 (orange), of 9 candidates, in 34 epochs of 90" in " ".join(page.split())
    assert all(chart in page for chart in ("Along train.lr", "Along the epochs of training"))
    steps = [len(path.read_text()) for path in (tmp_path / "out" / "trials").glob("*/steps")]
    assert sum(steps) == 34 + 30, "no step of a candidate is done twice, and the winner is trained with each seed"


def test_the_validation_images_have_no_part_in_the_search(origin: Path, tmp_path: Path) -> None:
    table, (found,) = run(origin, tmp_path / "out", {"method": "grid", "space": GRID, "tune": {"fold": [1, 4]}})
    base = load_config(tmp_path / "base.yaml")
    for each in found["candidates"]:
        data = load_config(Path(each["run"]) / "config.yaml").data
        assert data.val is not None
        assert data.val.json_ == data.train.json_ == base.data.train.json_
        assert data.val.subset == data.train.subset
        assert data.train.subset is not None
        assert data.train.subset.fold == [1, 4]
    for folder in table["rows"][0]["runs"]:
        assert load_config(Path(folder) / "config.yaml").data == base.data


@pytest.mark.slow  # 18 processes
def test_each_row_has_a_search_of_its_own(origin: Path, tmp_path: Path) -> None:
    axes = {"size": {"key": "data.image_size", "values": [64, 96]}}
    compare = {"against": {"size": "64"}, "resamples": 0}
    table, found = run(origin, tmp_path / "out", {"method": "grid", "space": GRID}, axes=axes, compare=compare)
    assert [each["row"] for each in found] == ["size 64", "size 96"]
    assert [row["name"] for row in table["rows"]] == ["size 64", "size 96"]
    runs = {each["run"] for row in found for each in row["candidates"]}
    assert len(runs) == 18


@pytest.mark.slow
def test_a_search_without_axes_has_one_row(origin: Path, tmp_path: Path) -> None:
    made = parse_experiment({"base": "base.yaml", "search": {"space": GRID, "method": "grid"}}, "experiment.yaml")
    table = run_experiment(made, origin, tmp_path / "out", executor=LocalExecutor(slots=2, command=FAKE))
    assert table is not None
    assert [(row["name"], row["mean"]) for row in table["rows"]] == [("all", 0.9)]
    copy = tmp_path / "out" / "experiment.yaml"
    again = run_experiment(read_experiment(copy), copy, tmp_path / "out", executor=LocalExecutor(command=("false",)))
    assert again == table


def test_a_stage_that_needs_another_is_not_searched(origin: Path, tmp_path: Path) -> None:
    """Its search would start from weights that the search of the first stage replaces."""
    stages = {"one": {}, "two": {"after": {"model.weights": {"stage": "one"}}}}
    with pytest.raises(InputError, match="search: stage two needs another trial"):
        run(origin, tmp_path / "out", {"space": GRID}, axes={"stage": {"variants": stages}})


@pytest.mark.slow  # 15 processes; a search that is killed and repeated is a slow test as well
def test_a_repeated_search_trains_nothing(origin: Path, tmp_path: Path) -> None:
    search = {"method": "halving", "space": GRID}
    first = run(origin, tmp_path / "out", search)
    stamps = {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "trials").glob("*/steps")}
    assert run(origin, tmp_path / "out", search) == first
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "trials").glob("*/steps")} == stamps


@pytest.mark.slow
def test_optuna_goes_on_with_its_study(origin: Path, tmp_path: Path) -> None:
    pytest.importorskip("optuna")
    space = {"train.lr": {"log": [0.01, 100.0]}, "data.image_size": {"values": [64, 96]}}
    search = {"method": "optuna", "space": space, "trials": 12, "seed": 3}
    _, (whole,) = run(origin, tmp_path / "whole", search)
    assert len(whole["candidates"]) == 12
    best = whole["candidates"][[each["values"] for each in whole["candidates"]].index(whole["chosen"])]
    assert best["value"] == max(each["value"] for each in whole["candidates"])
    assert {type(each["values"]["data.image_size"]) for each in whole["candidates"]} == {int}
    # A runner that is stopped after four candidates and repeated comes to the same.
    made, storage = settings(**search), tmp_path / "study.log"
    values: dict[int, dict[str, Any]] = {}
    for number in range(20):
        study = make_search(made, 10, storage)  # a new process each time
        for _ in range(number):
            candidates = study.ask(2)
            values |= {each.number: dict(each.values) for each in candidates}
            study.tell({each.number: score(each) for each in candidates})
        if number and not candidates:
            break
    assert [values[number] for number in range(12)] == [each["values"] for each in whole["candidates"]]


def score(candidate: Candidate) -> float:
    """The value that the stand-in reaches."""
    rate = float(candidate.values["train.lr"])
    return rate if rate <= 1 else 1 / rate


def test_optuna_that_is_missing_is_a_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(InputError, match=r"pip install \"tlvision\[optuna\]\""):
        make_search(settings(method="optuna", space=GRID), 10, tmp_path / "study.log")


def test_random_values_are_within_their_limits_and_the_same_again(tmp_path: Path) -> None:
    space = {
        "a": {"log": [1e-5, 1e-2]},
        "b": {"uniform": [-1.0, 1.0]},
        "c": {"integer": [1, 3]},
        "d": {"values": ["x"]},
    }
    made = make_search(settings(method="random", space=space, trials=300), 10, tmp_path)
    assert isinstance(made, OneRound)
    values = [each.values for each in made.ask(1)]
    again = make_search(settings(method="random", space=space, trials=300), 10, tmp_path).ask(1)
    assert values == [each.values for each in again]
    assert made.ask(1) == ()
    logs = [math.log10(each["a"]) for each in values]
    assert -5 <= min(logs) < -4.8
    assert -2.2 < max(logs) <= -2
    assert -3.7 < sum(logs) / 300 < -3.3  # uniform on the log scale
    assert {each["c"] for each in values} == {1, 2, 3}
    assert -1 <= min(each["b"] for each in values) < -0.9


def test_a_failed_candidate_is_never_chosen(origin: Path, tmp_path: Path) -> None:
    space = {"train.seed": {"values": [13, 0]}}
    axes = {"rate": {"key": "train.lr", "values": [0.5]}}
    _, (found,) = run(origin, tmp_path / "out", {"method": "halving", "space": space}, axes=axes)
    assert found["chosen"] == {"train.seed": 0}
    assert found["candidates"][0]["error"] == "the seed brings bad luck"
    with pytest.raises(RunError, match="no candidate has a value; the seed brings bad luck"):
        run(origin, tmp_path / "none", {"method": "grid", "space": {"train.seed": {"values": [13]}}}, axes=axes)


def test_halving_keeps_the_best_of_each_round() -> None:
    halving = Halving([Candidate(number, {}) for number in range(7)], [1, 2, 4], 2)
    asked = []
    while candidates := halving.ask(1):
        asked.append([(each.number, each.until) for each in candidates])
        halving.tell({each.number: None if each.number == 6 else float(each.number) for each in candidates})
    assert asked == [[(n, 1) for n in range(7)], [(3, 2), (4, 2), (5, 2)], [(5, 4)]]


@pytest.mark.parametrize(
    ("search", "message"),
    [
        ({"space": {}}, "space: "),
        ({"space": {"train.lr": {"log": [0, 1]}}}, "above 0"),
        ({"space": {"train.lr": {"log": [2, 1]}}}, "low below high"),
        ({"space": {"train.lr": {"log": [1, 2], "values": [1]}}}, "exactly one of"),
        ({"space": {"train.lr": {"log": [1, 2]}}, "method": "grid"}, "grid needs values"),
        ({"space": GRID, "method": "grid", "trials": 3}, "trials has no effect"),
        ({"space": GRID, "method": "random", "factor": 2}, "factor and first have no effect"),
        ({"space": GRID, "tune": {"fraction": 0.5}}, "expected fold"),
        ({"space": {"train.seed": {"values": [1]}}}, "'search' and 'seed' both set train.seed"),
    ],
)
def test_a_search_that_means_nothing_is_refused(search: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        experiment(search)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"set": {"data.train.subset.fraction": 0.5}}, "the search divides data.train itself"),
        ({"search": {"space": {"train.rate": {"values": [1]}}}}, "train.rate: unknown key"),
        ({"search": {"space": GRID, "first": 10}}, "not fewer than train.epochs, 10"),
    ],
)
def test_a_search_that_cannot_run_is_refused_before_anything_runs(
    changes: dict[str, Any], message: str, origin: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError) as caught:
        run(origin, tmp_path / "out", **{"search": {"space": GRID}, **changes})
    assert message in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_tune_is_a_search_and_seeds_of_the_winner(
    origin: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["tune", str(tmp_path / "base.yaml"), "--out", str(tmp_path / "out"), "--plan"]
    assert main(command) == 0
    printed = capsys.readouterr().out
    assert "search (halving) over train.lr for 1 row, then 3 trials: 3 to run" in printed
    space = ["--space", "train.lr=[0.1, 0.2]", "data.image_size={integer: [32, 64]}"]
    assert main([*command, *space, "--method", "random", "--trials", "5"]) == 0
    assert "search (random) over train.lr, data.image_size" in capsys.readouterr().out
    assert main([*command, "--space", "train.lr"]) == 2
    assert "expected KEY=RANGE" in capsys.readouterr().err
    assert main([*command, "--space", "train.lr={high: 1}"]) == 2
    assert "search.space.train.lr.high: unknown key" in capsys.readouterr().err


@pytest.mark.slow  # real trainings: a run that stops after an epoch and goes on is bit-equal (test_run)
def test_halving_of_real_trials(tiny_config: dict[str, Any], tmp_path: Path) -> None:
    tiny_config["train"]["epochs"] = 4
    base = tmp_path / "base.yaml"
    base.write_text(dump_config(load_config(tiny_config)), encoding="utf-8")
    out = tmp_path / "out"
    space = ["--space", "train.lr=[1.0e-4, 1.0e-2, 1.0e-7]", "--seeds", "0"]
    assert main(["tune", str(base), "--out", str(out), *space, "--held-out", "3"]) == 0
    (found,) = json.loads((out / "search.json").read_text())
    assert sorted(each["epochs"] for each in found["candidates"]) == [1, 1, 4]
    assert all(each["value"] is not None for each in found["candidates"])
    table = json.loads((out / "table.json").read_text())
    assert table["rows"][0]["count"] == 1
    assert table["rows"][0]["memory"] > 50


DRIVER = """
import sys
from pathlib import Path
sys.path.insert(0, {here!r})
from test_search import GRID, run
run(Path(sys.argv[1]), Path(sys.argv[2]), {{"method": "halving", "space": GRID}})
"""


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
def test_a_search_that_is_killed_at_any_moment_comes_to_the_same(seed: int, origin: Path, tmp_path: Path) -> None:
    """Five kills -9 each: of the runner, or of a trial, which is a failed candidate until the repeat."""
    expected, search = run(origin, tmp_path / "reference", {"method": "halving", "space": GRID})
    out = tmp_path / "out"
    driver = DRIVER.format(here=str(Path(__file__).parent))
    kill_five_times([sys.executable, "-c", driver, str(origin), str(out)], out / "trials", seed, 1.0)
    table, again = run(origin, out, {"method": "halving", "space": GRID})
    assert again[0]["chosen"] == search[0]["chosen"]
    assert [each["curve"] for each in again[0]["candidates"]] == [each["curve"] for each in search[0]["candidates"]]
    assert table["rows"][0]["values"] == expected["rows"][0]["values"]
    for path in (out / "trials").glob("*/steps"):
        assert "0123456789".startswith(path.read_text()), "a step was done twice"
