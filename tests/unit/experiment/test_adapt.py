"""`tlvision adapt`: which arms there are, what the table says, and that labels of the target change no training bit."""

from __future__ import annotations

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

import tlvision
from adaptation import QUIET, write
from fast import first_fast
from tlvision.cli.main import main
from tlvision.config.load import load_config
from tlvision.engine.build import build_run
from tlvision.experiment.actions import zero_shot
from tlvision.experiment.adapt import adaptation
from tlvision.experiment.baselines import KINDS, make_arms
from tlvision.experiment.plan import make_plan
from tlvision.types import InputError


def test_the_trials_are_the_arms(values: dict[str, Any], tmp_path: Path) -> None:
    """Their configs are equal but for folder, report and seed."""
    config = write(values, tmp_path / "mt.yaml")
    arms = make_arms([config], ["train.lr=1e-3"], KINDS)
    experiment = adaptation(arms, [str(config)], ["train.lr=1e-3"], [0, 7], [])
    plan = make_plan(experiment, Path("config"), tmp_path / "out")
    assert [(point["arm"], plan.trials[trial].action) for point, trial in plan.points[::2]] == [
        ("source_only", "train"),
        ("mt", "train"),
        ("zero_shot", "zero_shot"),
        ("oracle", "train"),
    ]
    configs = {arm.name: arm.config for arm in arms}
    for point, trial in plan.points:
        arm, trained = configs[point["arm"]], plan.trials[trial].config
        seed = 0 if point["arm"] == "zero_shot" else int(point["seed"])
        arm = arm.model_copy(update={"train": arm.train.model_copy(update={"seed": seed}), "run": trained.run})
        assert trained == (arm.model_copy(update={"hooks": ()}) if point["arm"] == "zero_shot" else arm)


@pytest.mark.slow  # seven processes; the fast test above has the configs
def test_the_command_trains_every_arm_and_can_be_repeated(
    values: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    values["train"]["epochs"] = 1
    config, out = write(values, tmp_path / "mt.yaml"), tmp_path / "out"
    command = ["adapt", str(config), "--seeds", "0", "1", "--out", str(out), "--jobs", "2"]
    assert main(command) == 0
    assert "the weights do not have all of it" in " ".join(capsys.readouterr().out.split())
    table = json.loads((out / "table.json").read_text())
    rows = {row["point"]["arm"]: row for row in table["rows"]}
    for name in ("source_only", "mt", "oracle"):
        for seed, run in enumerate(rows[name]["runs"]):
            metrics = json.loads((Path(run) / "metrics.json").read_text())
            assert rows[name]["values"][f"seed {seed}"] == metrics["bbox"]["AP"]
    assert rows["mt"]["selected_by"] == "unlabelled/stability"
    assert rows["mt"]["source"] is not None
    page = (out / "report.html").read_text()
    quality = rows["mt"]["pseudo_labels"]
    assert quality["counts"]["images"] == 12
    assert [row["threshold"] for row in quality["all"]][::4] == [0.1, 0.5, 0.9]
    assert "pseudo_labels" not in rows["source_only"]
    assert "Quality of the pseudo-labels" in page
    assert main(command) == 0
    assert "7 trials (1 of 8 points are equal to others): 6 finished, 1 to run" in capsys.readouterr().out
    assert json.loads((out / "table.json").read_text()) == table


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--arms", "zero_shot", "method"], "zero_shot are made from source_only; add source_only"),
        (["--seeds", "1", "1"], "1 is given more than once"),
        (["--seeds", "-1"], "expected integers from 0"),
        (["--jobs", "0"], "--jobs must be from 1"),
    ],
)
def test_arguments_that_mean_nothing_are_refused(
    arguments: list[str], message: str, values: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = write(values, tmp_path / "mt.yaml")
    assert main(["adapt", str(config), "--out", str(tmp_path / "out"), *arguments]) == 2
    assert message in " ".join(capsys.readouterr().err.split())


def as_pretrained(values: dict[str, Any], out: Path) -> Path:
    """Measure the weights of a config as they are, and return the run."""
    config = load_config(values, [f"run.out={out}"])
    zero_shot(config)
    return out


@pytest.mark.slow
def test_zero_shot_is_the_checkpoint_as_it_is(values: dict[str, Any], tmp_path: Path) -> None:
    plain = deepcopy(values)
    plain["hooks"] = [QUIET]
    plain["data"]["batch"] = {"labelled": 4}
    plain["run"]["out"] = str(tmp_path / "pretrained")
    run = tlvision.train(plain).run
    values["model"]["weights"] = str(run / "checkpoints" / "last" / "model.safetensors")
    found = as_pretrained(values, tmp_path / "out")
    # last and best of that run are the same epoch only by chance; its last evaluation is in the log.
    log = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    metrics = json.loads((found / "metrics.json").read_text())
    assert metrics["bbox"]["AP"] == log[-1]["metrics"]["target/bbox/AP"]


# Selection, and that labels of the target stay out of training.


def tensors(run: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(run)): path.read_bytes() for path in sorted((run / "checkpoints").rglob("*.safetensors"))
    }


@pytest.mark.parametrize("select", first_fast(["auto", "source/bbox/AP"]))
def test_deleting_every_label_of_the_target_changes_no_byte(
    values: dict[str, Any], tmp_path: Path, select: str
) -> None:
    values["evaluate"] = {"select": select}
    values["run"]["out"] = str(tmp_path / "with")
    with_labels = tlvision.train(values).run
    for name in ("train.json", "val.json"):
        (tmp_path / "target" / name).unlink()
    del values["data"]["val"], values["data"]["oracle"]
    values["run"]["out"] = str(tmp_path / "without")
    without = tlvision.train(values).run
    one, other = tensors(with_labels), tensors(without)
    assert len(one) >= 5
    assert one == other
    metrics = json.loads((without / "metrics.json").read_text())
    wanted = "unlabelled/stability" if select == "auto" else select
    assert metrics["selection"] == {"by": wanted, "uses_target_labels": False}
    assert metrics["domain"] == "source"
    assert set(metrics["unlabelled"]) == {"stability", "certainty", "agreement", "objects"}


@pytest.mark.slow
def test_labels_of_the_target_choose_only_when_that_is_said(
    values: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    values["evaluate"] = {"select": "bbox/AP"}
    with pytest.raises(InputError, match=r"'bbox/AP' is ambiguous with two domains. Choose one of: "):
        tlvision.train(values)
    values["evaluate"] = {"select": "target/bbox/AP"}
    values["run"]["report"] = True
    run = tlvision.train(values).run
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["selection"] == {"by": "target/bbox/AP", "uses_target_labels": True}
    printed = capsys.readouterr().out
    assert "4 validation images, 16 without labels, 2 classes" in printed
    assert "on the target; checkpoint chosen by target/bbox/AP: labels of the target chose it" in printed
    environment = json.loads((run / "environment.json").read_text())
    assert environment["data"]["target"]["images"] == 16
    assert "sha256" in environment["data"]["source_val"]
    report = (run / "report.html").read_text()
    assert all(f"Metrics ({kind})" in report for kind in ("target/bbox", "source/bbox", "unlabelled"))
    values["evaluate"] = {"select": "unlabelled/stable"}
    with pytest.raises(InputError, match=r"has no metric 'unlabelled/stable'.*'unlabelled/stability'"):
        tlvision.train(values)


def test_something_must_be_labelled_to_evaluate_on(values: dict[str, Any]) -> None:
    del values["data"]["val"], values["data"]["source_val"]
    with pytest.raises(InputError, match="expected val"):
        load_config(values)
    values["data"]["val"] = values["data"]["oracle"]
    run = tlvision.train(values).run
    assert json.loads((run / "metrics.json").read_text())["selection"]["by"] == "unlabelled/stability"


@pytest.mark.slow
def test_a_class_takes_the_rows_of_the_one_that_it_is_called_after(
    values: dict[str, Any], tmp_path: Path, tiny_config: dict[str, Any]
) -> None:
    weights = tlvision.train(tiny_config).run / "checkpoints" / "last" / "model.safetensors"
    data = values["data"]
    for name in ("val", "oracle"):
        path = Path(data[name]["json"])
        path.write_text(path.read_text().replace('"dark"', '"gloomy"'))
    data["train"], data["source_val"] = data["oracle"], data["val"]
    values["model"] |= {"weights": str(weights), "rename": {"gloomy": "dark"}}
    assert (as_pretrained(values, tmp_path / "out") / "finished.json").exists()
    values["model"]["rename"] = {}
    with pytest.raises(InputError, match="fresh gloomy"):
        as_pretrained(values, tmp_path / "out2")
    values["model"]["rename"] = {"gloom": "dark"}
    with pytest.raises(InputError, match=r"model\.rename: the data have no class 'gloom'.*'gloomy'"):
        tlvision.train(values)
    values["model"]["rename"] = {"gloomy": "light"}
    with pytest.raises(InputError, match="'light' of the weights would be two classes of ours"):
        tlvision.train(values)


def scores_in(folder: Path) -> tuple[set[int], set[float]]:
    rows = json.loads((folder / "predictions.json").read_text())
    return {row["category_id"] for row in rows}, {round(row["score"], 5) for row in rows}


@pytest.mark.slow
def test_several_of_their_classes_are_one_of_ours(
    values: dict[str, Any], tmp_path: Path, tiny_config: dict[str, Any]
) -> None:
    weights = tlvision.train(tiny_config).run / "checkpoints" / "last" / "model.safetensors"
    data = values["data"]
    for name in ("val", "oracle"):
        path = Path(data[name]["json"])
        content = json.loads(path.read_text())
        content["categories"] = [{"id": 7, "name": "thing"}]
        for annotation in content["annotations"]:
            annotation["category_id"] = 7
        path.write_text(json.dumps(content))
    data["train"], data["source_val"] = data["oracle"], data["val"]
    data["classes"] = ["thing"]
    values["model"] |= {"weights": str(weights), "rename": {"thing": ["dark", "light"]}}
    both, alone = tmp_path / "both", tmp_path / "alone"
    alone.mkdir()
    categories, merged = scores_in(as_pretrained(values, both))
    assert categories == {7}
    # The weights' own two classes, read apart, are what was merged.
    apart = {}
    for name in ("dark", "light"):
        values["model"]["rename"] = {"thing": name}
        _, apart[name] = scores_in(as_pretrained(values, alone / name))
    assert merged == apart["dark"] | apart["light"]
    assert all(apart.values())
    # Training starts from the first.
    values["model"]["rename"] = {"thing": ["dark", "light"]}
    assert build_run(load_config(values)).report.remapped[0].endswith("rows dark of 2")
