"""The experiments of the benchmarks: their files, the few images, and upstream's trainer as a side."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tlvision.config.load import load_config
from tlvision.experiment.adapt import adaptation
from tlvision.experiment.baselines import make_arms
from tlvision.experiment.file import read_experiment
from tlvision.experiment.plan import make_plan
from tlvision.types import InputError

FILES = ("bccd_parity", "camvid", "carla_kitti", "transfer", "transfer_rates")


def test_every_nth_image_is_trained_on_and_others_are_judged_by(tools: Callable[[str], Any], tmp_path: Path) -> None:
    ids = range(1, 21)
    document = {"images": [{"id": i} for i in ids], "annotations": [{"id": i, "image_id": i} for i in ids]}
    (tmp_path / "train.json").write_text(json.dumps(document))
    few, judge = tools("benchmarks.few_images").write_subsets(tmp_path / "train.json", 10, tmp_path / "out")
    found = [[image["id"] for image in json.loads(path.read_text())["images"]] for path in (few, judge)]
    assert found == [[10, 20], [1, 4, 7, 11, 14, 17]]
    rows = [[row["image_id"] for row in json.loads(path.read_text())["annotations"]] for path in (few, judge)]
    assert rows == found


@pytest.mark.parametrize("name", FILES)
def test_the_files_say_something_about_a_reference(name: str, repository: Path) -> None:
    """Their configs are checked on real data below."""
    experiment = read_experiment(repository / "tools" / "benchmarks" / "experiments" / f"{name}.yaml")
    assert experiment.axes
    assert bool(experiment.compare.against) == (name != "transfer_rates")


@pytest.mark.shared
def test_the_file_of_an_adaptation_trains_what_the_command_trains(
    shared: Path, repository: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A trial's id is a hash of its config and data, so equal ids are equal runs."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "root").mkdir()
    (tmp_path / "shared").symlink_to(shared, target_is_directory=True)
    monkeypatch.chdir(tmp_path / "root")
    file = repository / "tools" / "benchmarks" / "experiments" / "carla_kitti.yaml"
    experiment = read_experiment(file)
    overrides = [f"{key}={json.dumps(value)}" for key, value in experiment.set.items()]
    configs = ["yolo+mean_teacher", "yolo+keep_pretrained"]
    extra = [str(file.parent / "carla_kitti_data.yaml")]
    arms = make_arms(configs, overrides, ("zero_shot", "source_only", "method", "oracle"), extra)
    command = adaptation(arms, configs, overrides, [0, 1, 2], extra)
    ours, theirs = (make_plan(each, file, Path("out")) for each in (experiment, command))
    written = {(point["arm"], point["seed"]): trial for point, trial in ours.points}
    built = {(point["arm"], point["seed"]): trial for point, trial in theirs.points}
    names = {"keep": "keep_pretrained"}
    shown = ("source_only", "mean_teacher", "keep", "zero_shot", "oracle")
    for arm in shown:
        for seed in "012":
            assert written[arm, seed] == built[names.get(arm, arm), seed]


def test_upstreams_side_takes_its_work_from_the_config(
    tools: Callable[[str], Any], tiny_config: dict[str, Any]
) -> None:
    upstream = tools("benchmarks.upstream")
    options = SimpleNamespace(last=True, config_lr=True, freeze=10, precision=None)
    tiny_config["train"] |= {"lr": 0.003, "seed": 2}
    config = load_config(tiny_config)
    job = upstream.job_of(config, options)
    assert (job.plugin, job.arch, job.seed, job.lr, job.freeze, job.last) == (
        "toy",
        "tiny_detector",
        2,
        0.003,
        10,
        True,
    )
    assert job.files.train_labels == Path(tiny_config["data"]["train"]["json"])
    assert job.out == Path(config.run.out).resolve() / "upstream"
    options.config_lr = False
    assert upstream.job_of(config, options).lr is None
    with pytest.raises(InputError, match=r"data\.train\.subset is set, and upstream reads whole files"):
        upstream.job_of(load_config(tiny_config, ["data.train.subset.fraction=0.5"]), options)
