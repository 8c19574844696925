"""The hook mlflow against a local store; what both trackers promise is in test_tracking.py."""

from __future__ import annotations

import os
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

import tlvision
from interrupt import interrupted
from tlvision.engine import compatibility
from tlvision.hooks.observers.mlflow import Mlflow, safe_name
from tlvision.hooks.tracking import RunRecord
from tracked import config_values, logged_numbers

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # before the import
mlflow: Any = pytest.importorskip("mlflow", reason="MLflow is an extra: pip install 'tlvision[mlflow]'")

ODD_NAMES = ("AP/car, red", "AP/car; red", "/AP", "AP//x", "AP/../x", "AP/größe", "x" * 300, "AP/a:b", "AP/a b", "AP/")


TORCH = ("PYTORCH_", "TORCHINDUCTOR_")
"""Environment variables that torch sets in a training."""


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The address of a local store; to create one takes seconds."""
    uri = f"sqlite:///{tmp_path_factory.mktemp('mlflow') / 'mlflow.db'}"
    mlflow.MlflowClient(tracking_uri=uri).search_experiments()
    return uri


@pytest.fixture
def experiment(store: str, tmp_path: Path) -> str:
    """The name of an experiment of one test, with files in the test's folder."""
    client = mlflow.MlflowClient(tracking_uri=store)
    client.create_experiment(tmp_path.name, artifact_location=(tmp_path / "artifacts").as_uri())
    return tmp_path.name


@pytest.fixture
def config(tiny_config: dict[str, Any], store: str, experiment: str) -> dict[str, Any]:
    options = {"tracking_uri": store, "experiment": experiment, "every": 1, "artifacts": True}
    log = {"progress": "none", "tensorboard": "off", "every": 1}
    tiny_config["hooks"] = [{"mlflow": options}, {"ema": {"decay": 0.9}}, {"log": log}]
    tiny_config["data"]["workers"] = 0
    tiny_config["run"]["report"] = True
    return tiny_config


def runs_of(store: str, experiment: str) -> list[Any]:
    client = mlflow.MlflowClient(tracking_uri=store)
    return list(client.search_runs([client.get_experiment_by_name(experiment).experiment_id]))


@pytest.mark.slow
def test_a_resumed_run_is_one_run_with_all_numbers(
    config: dict[str, Any], store: str, experiment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, uri = dict(os.environ), mlflow.get_tracking_uri()
    with interrupted(4):
        tlvision.train(deepcopy(config))
    assert [run.info.status for run in runs_of(store, experiment)] == ["KILLED"]
    result = tlvision.train({}, resume=config["run"]["out"])
    both = before.keys() | os.environ.keys()
    changed = {key for key in both if before.get(key) != os.environ.get(key) and not key.startswith(TORCH)}
    assert (changed, mlflow.get_tracking_uri(), mlflow.active_run()) == (set(), uri, None)

    (run,) = runs_of(store, experiment)
    assert (run.info.status, run.info.run_name) == ("FINISHED", "run")
    assert run.data.tags["tlvision.folder"] == str(result.run)
    assert run.data.tags["tlvision.path/best"] == str(result.run / "checkpoints" / "best")
    client = mlflow.MlflowClient(tracking_uri=store)
    expected = logged_numbers(result.run)
    assert len(expected) > 5
    for name, values in expected.items():
        history = client.get_metric_history(run.info.run_id, name)
        assert sorted((each.step, each.value) for each in history) == values, name
    assert run.data.metrics["best/bbox/AP"] == result.metrics["bbox"]["AP"]
    params = {key: run.data.params.get(key) for key in config_values(result.run)}
    assert params == {key: str(value) for key, value in config_values(result.run).items()}
    assert not [key for key in run.data.params if "mlflow" in key]
    names = {file.path for file in client.list_artifacts(run.info.run_id)}
    assert names == {"report.html", "metrics.json", "thresholds.json"}

    monkeypatch.setattr(compatibility, "find_spec", lambda name: None)
    tlvision.load(result.run)  # to use a run needs no tracker


@pytest.mark.slow
def test_a_server_that_is_away_stops_nothing(
    config: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")  # by default it tries for minutes, in its thread
    config["hooks"][0]["mlflow"]["tracking_uri"] = "http://127.0.0.1:9"
    result = tlvision.train(config)
    assert result.metrics["bbox"]
    text = capsys.readouterr().out + (result.run / "log.jsonl").read_text()
    assert text.count("mlflow: MLflow cannot be written to") == 1
    assert not (result.run / "mlflow.json").exists()


def test_names_stay_distinct_and_every_store_takes_them(store: str, experiment: str, tmp_path: Path) -> None:
    config = {f"model.rename.{name}": number for number, name in enumerate(ODD_NAMES)}
    record = RunRecord(folder=tmp_path, run_id=None, config=config | {"long": "x" * 9000}, remember=lambda _: None)
    run = Mlflow(tracking_uri=store, experiment=experiment).open_run(record)
    run.log({name: float(number) for number, name in enumerate(ODD_NAMES)}, step=1)
    run.finish("finished")
    (found,) = runs_of(store, experiment)
    assert found.data.metrics == {safe_name(name): float(number) for number, name in enumerate(ODD_NAMES)}
    assert len(found.data.params) == len(found.data.metrics) + 1 == len(ODD_NAMES) + 1
    assert safe_name("bbox/AP50") == "bbox/AP50"


def test_a_parameter_that_was_changed_on_resume_is_a_tag(store: str, experiment: str, tmp_path: Path) -> None:
    ids: list[str] = []
    hook = Mlflow(tracking_uri=store, experiment=experiment)
    for value in (1, 2):
        config = {"train.epochs": value, "train.lr": 0.1}
        run_id = ids[0] if ids else None
        hook.open_run(RunRecord(folder=tmp_path, run_id=run_id, config=config, remember=ids.append))
    (run,) = runs_of(store, experiment)
    assert run.data.params == {"train.epochs": "1", "train.lr": "0.1"}
    assert run.data.tags["changed/train.epochs"] == "2"


def test_an_id_that_the_store_does_not_have_gives_a_new_run(store: str, experiment: str, tmp_path: Path) -> None:
    ids: list[str] = []
    record = RunRecord(folder=tmp_path, run_id="0" * 32, config={}, remember=ids.append)
    Mlflow(tracking_uri=store, experiment=experiment).open_run(record)
    assert [run.info.run_id for run in runs_of(store, experiment)] == ids
