"""Trials that need others, extra rows made from the reference, and other trainers."""

from __future__ import annotations

import json
import sys
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

import tlvision
from tlvision.config.load import dump_config, load_config
from tlvision.experiment.actions import main as act
from tlvision.experiment.file import ExperimentFile, parse_experiment
from tlvision.experiment.local import LocalExecutor
from tlvision.experiment.plan import Plan, make_plan
from tlvision.experiment.run import run_experiment
from tlvision.types import InputError

FAKE = (sys.executable, str(Path(__file__).parents[2] / "helpers" / "fake_trial.py"))
STAGES = {
    "source": {"set": {"train.lr": 0.1}},
    "target": {"set": {"train.lr": 0.2}, "after": {"model.weights": {"stage": "source"}}},
    "last": {"set": {"train.lr": 0.3}, "after": {"model.weights": {"stage": "target"}}},
}


def chain(stages: dict[str, Any] = STAGES, seeds: tuple[int, ...] = (0, 1), **more: Any) -> ExperimentFile:
    axes = {
        "stage": {"variants": stages},
        "seed": {"role": "replicate", "key": "train.seed", "values": list(seeds)},
    }
    return parse_experiment({"base": "base.yaml", "axes": axes, **more}, "experiment.yaml")


def run(experiment: ExperimentFile, origin: Path, out: Path) -> dict[str, Any]:
    table = run_experiment(experiment, origin, out, executor=LocalExecutor(slots=2, command=FAKE))
    assert table is not None
    return table


def ids(plan: Plan) -> list[str]:
    return [trial for _, trial in plan.points]


def test_a_stage_starts_from_the_weights_of_the_one_before_with_its_seed(origin: Path, tmp_path: Path) -> None:
    plan = make_plan(chain(), origin, tmp_path / "out")
    by_point = {(point["stage"], point["seed"]): plan.trials[trial] for point, trial in plan.points}
    for seed in ("0", "1"):
        source, target = by_point["source", seed], by_point["target", seed]
        assert target.after == (source.id,)
        assert target.config.model.weights == str(source.folder / "checkpoints" / "best" / "model.safetensors")
    assert by_point["source", "0"].after == ()
    table = run(chain(), origin, tmp_path / "out")  # the stand-in fails without its weights
    assert [row["count"] for row in table["rows"]] == [2, 2, 2]
    assert ids(make_plan(chain(), origin, tmp_path / "out")) == ids(plan), "weights that exist now change no id"
    assert ids(make_plan(chain(), origin, tmp_path / "elsewhere")) == ids(plan), "nor does the folder"
    other = deepcopy(STAGES)
    other["source"]["set"]["train.lr"] = 0.15
    changed = set(ids(plan)) ^ set(ids(make_plan(chain(other), origin, tmp_path / "out")))
    assert len(changed) == 12, "another source is another target, and another last stage"


def test_what_needs_a_trial_that_failed_is_skipped_and_says_so(origin: Path, tmp_path: Path) -> None:
    table = run(chain(seeds=(0, 13)), origin, tmp_path / "out")
    source, target, last = table["rows"]
    assert source["notes"] == ["seed 13: failed, the seed brings bad luck"]
    assert target["notes"] == ["seed 13: failed, skipped, because it needs stage source, seed 13"]
    assert last["notes"] == ["seed 13: failed, skipped, because it needs stage target, seed 13"]
    assert [row["count"] for row in table["rows"]] == [1, 1, 1]


@pytest.mark.parametrize(
    ("after", "message"),
    [
        ({"model.weights": {"stage": "sauce"}}, "there is no 'sauce' on an axis 'stage'"),
        ({"model.weights": {"seed": "1"}}, "expected another value of the axis 'stage'"),
        ({"train.lr": {"stage": "source"}}, "set has train.lr too"),
    ],
)
def test_an_after_that_means_nothing_is_refused(after: dict[str, Any], message: str) -> None:
    stages = deepcopy(STAGES)
    stages["target"]["after"] = after
    with pytest.raises(InputError) as caught:
        chain(stages)
    assert message in str(caught.value)


def test_a_circle_is_refused(origin: Path, tmp_path: Path) -> None:
    stages = deepcopy(STAGES)
    stages["source"]["after"] = {"model.weights": {"stage": "last"}}
    with pytest.raises(InputError, match="a trial cannot wait for itself"):
        make_plan(chain(stages), origin, tmp_path / "out")


METHODS = {"source_only": {}, "slow": {"set": {"train.lr": 0.05}}}


def two_domains(values: dict[str, Any], **more: Any) -> ExperimentFile:
    compare = {"against": {"stage": "source_only"}, "resamples": 0}
    return chain(METHODS, extra=["zero_shot", "oracle"], compare=compare, **more)


def test_extra_rows_are_made_from_the_reference(values: dict[str, Any], tmp_path: Path) -> None:
    origin = tmp_path / "experiment.yaml"
    (tmp_path / "base.yaml").write_text(dump_config(load_config(values)), encoding="utf-8")
    plan = make_plan(two_domains(values), origin, tmp_path / "out")
    trials = {(point["stage"], point["seed"]): plan.trials[trial] for point, trial in plan.points}
    assert len(trials) == 8
    assert trials["zero_shot", "0"] is trials["zero_shot", "1"], "nothing random is in it, so it is done once"
    assert trials["zero_shot", "0"].action == "zero_shot"
    oracle, plain = trials["oracle", "1"].config, trials["source_only", "1"].config
    assert oracle.data.train == plain.data.oracle
    assert (oracle.train.seed, oracle.hooks) == (1, plain.hooks)
    with pytest.raises(InputError, match="extra needs compare"):
        chain(METHODS, extra=["oracle"])
    with pytest.raises(InputError, match="has 'oracle' already"):
        chain({**METHODS, "oracle": {}}, extra=["oracle"], compare={"against": {"stage": "source_only"}})


OTHER = """
import json, pathlib, sys, yaml
config = yaml.safe_load(pathlib.Path(sys.argv[-1]).read_text())
truth = json.loads(pathlib.Path(config["data"]["val"]["json"]).read_text())
rows = [{key: row[key] for key in ("image_id", "category_id", "bbox")} | {"score": 0.9} for row in truth["annotations"]]
if config["train"]["seed"] == 0:
    (pathlib.Path(config["run"]["out"]) / "predictions.json").write_text(json.dumps(rows))
"""


@pytest.mark.slow
def test_another_trainer_is_measured_by_what_it_predicts(origin: Path, tmp_path: Path) -> None:
    """This one predicts the labels themselves with seed 0, and leaves nothing with seed 1."""
    variants = {"ours": {}, "theirs": {"command": [sys.executable, "-c", OTHER]}}
    table = run(chain(variants, compare={"against": {"stage": "ours"}, "resamples": 0}), origin, tmp_path / "out")
    theirs = table["rows"][1]
    assert theirs["values"] == {"seed 0": 1.0, "seed 1": None}
    assert "has not written" in theirs["notes"][0]
    missing = {"ours": {}, "theirs": {"command": ["no-such-trainer"]}}
    (row,) = run(chain(missing, seeds=(0,)), origin, tmp_path / "missing")["rows"][1:]
    assert "command: 'no-such-trainer' cannot be started (No such file or directory)" in row["notes"][0]
    run_folder = Path(theirs["runs"][0])
    assert json.loads((run_folder / "metrics.json").read_text())["counts"]["predictions"] > 0
    assert (run_folder / "classes.json").exists()


@pytest.mark.slow
def test_a_row_that_is_measured_on_another_domain_is_not_compared(origin: Path, tmp_path: Path) -> None:
    """The source model of a chain, for example."""
    compare = {"against": {"stage": "target"}, "resamples": 0}
    run(chain(compare=compare), origin, tmp_path / "out")
    plan = make_plan(chain(compare=compare), origin, tmp_path / "out")
    for point, trial in plan.points:
        if point["stage"] == "source":
            path = plan.trials[trial].folder / "metrics.json"
            path.write_text(json.dumps(json.loads(path.read_text()) | {"domain": "source"}))
    source, target, last = run(chain(compare=compare), origin, tmp_path / "out")["rows"]
    assert (source["difference"], source["verdict"], source["reference"]) == (None, "", "")
    assert "differ in domain: source and target" in source["notes"][0]
    assert (target["verdict"], last["verdict"]) == ("", "better")


@pytest.mark.slow
def test_ours_and_theirs_are_compared_over_images(origin: Path, tmp_path: Path) -> None:
    """The runs of both sides have the same protocol, labels and images."""
    variants = {"ours": {"set": {"train.epochs": 1}}, "theirs": {"command": [sys.executable, "-c", OTHER]}}
    experiment = chain(variants, seeds=(0,), compare={"against": {"stage": "ours"}, "resamples": 50})
    table = run_experiment(experiment, origin, tmp_path / "out", executor=LocalExecutor())
    assert table is not None
    assert table["rows"][1]["over"] == "images"
    assert table["rows"][1]["verdict"] == "better"


def test_weights_as_they_are(tiny_config: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_folder = tlvision.train(tiny_config).run
    weights = run_folder / "checkpoints" / "best" / "model.safetensors"
    tiny_config["model"]["weights"] = str(weights)
    tiny_config["run"]["out"] = str(tmp_path / "as_is")
    config = tmp_path / "config.yaml"
    config.write_text(dump_config(load_config(tiny_config)), encoding="utf-8")
    assert act([str(config)]) == 0
    found = json.loads((tmp_path / "as_is" / "metrics.json").read_text())
    trained = json.loads((run_folder / "metrics.json").read_text())
    assert found["bbox"] == trained["bbox"]
    tiny_config["model"]["weights"] = "none"
    config.write_text(dump_config(load_config(tiny_config)), encoding="utf-8")
    assert act([str(config)]) == 2
    assert "error: the weights do not have all of it" in " ".join(capsys.readouterr().err.split())
