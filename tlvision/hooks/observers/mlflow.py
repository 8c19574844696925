"""Send a run to MLflow: parameters, losses, metrics, and files if asked.

Source: https://mlflow.org, through `MlflowClient`, which changes no global state.
"""

from __future__ import annotations

import re
import time
import zlib
from collections.abc import Iterable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from tlvision.hooks.tracking import RunRecord, Status, TrackedRun, TrackerHook
from tlvision.types.shown import clip

_STATUS: dict[Status, str] = {"finished": "FINISHED", "interrupted": "KILLED", "failed": "FAILED"}
_MAX_NAME, _MAX_VALUE, _MAX_PARAMS = 250, 500, 100
"""Characters of a name, characters of a parameter, parameters in one request: what every MLflow server takes."""


class Mlflow(TrackerHook):
    """Send the run to MLflow; `pip install "tlvision[mlflow]"`.

    tracking_uri: address of a server, or a local store such as sqlite:///mlflow.db. None: what MLflow uses, which is
                  the environment variable MLFLOW_TRACKING_URI, else mlflow.db in the current folder.
    experiment:   name of the experiment; it is created if it does not exist.
    every:        steps between two records of losses and learning rate, at least 1.
    artifacts:    upload report.html, metrics.json, thresholds.json and calibration.json at the end, as far as the
                  run has them.
    checkpoint:   upload checkpoints/best at the end.

    The name of the run is that of its folder. A resumed run continues the run whose id is in `mlflow.json`. Training
    never waits for the server: if it cannot be reached, one notice is printed. Characters of names that MLflow
    refuses become "_", and such a name ends in a checksum.
    """

    title = "MLflow"
    variables = ("_MLFLOW_TELEMETRY_SESSION_ID",)
    packages = {"mlflow": 'pip install "tlvision[mlflow]"'}  # noqa: RUF012

    def __init__(
        self,
        *,
        tracking_uri: str | None = None,
        experiment: Annotated[str, Field(min_length=1)] = "tlvision",
        every: Annotated[int, Field(ge=1)] = 10,
        artifacts: bool = False,
        checkpoint: bool = False,
    ) -> None:
        self.tracking_uri, self.experiment, self.every = tracking_uri, experiment, every
        self.artifacts, self.checkpoint = artifacts, checkpoint

    def open_run(self, record: RunRecord) -> TrackedRun:
        """Create the run, or continue the one with the record's id if the store has it."""
        mlflow = import_module("mlflow")
        client = mlflow.MlflowClient(tracking_uri=self.tracking_uri)
        run = None if record.run_id is None else _find_run(client, record.run_id)
        if run is None:
            tags = {"tlvision.folder": str(record.folder)}
            run = client.create_run(self._experiment_id(client), run_name=record.folder.name, tags=tags)
            record.remember(run.info.run_id)
        else:
            client.update_run(run.info.run_id, status="RUNNING")
        opened = _MlflowRun(client, run.info.run_id)
        opened.log_config(record.config, run.data.params)
        return opened

    def _experiment_id(self, client: Any) -> str:
        found = client.get_experiment_by_name(self.experiment)
        if found is None:
            try:
                return str(client.create_experiment(self.experiment))
            except Exception:  # another run may have just created it
                found = client.get_experiment_by_name(self.experiment)
                if found is None:
                    raise
        return str(found.experiment_id)


class _MlflowRun:
    """One run of an MLflow store."""

    notice = ""

    def __init__(self, client: Any, run_id: str) -> None:
        self.client, self.run_id = client, run_id
        self._entities = import_module("mlflow.entities")

    def log_config(self, config: Mapping[str, Any], present: Mapping[str, str]) -> None:
        """Log parameters; those that a resumed run has changed become tags, as MLflow keeps the first value."""
        values = {safe_name(key): clip(str(value), _MAX_VALUE) for key, value in config.items()}
        added = [self._entities.Param(key, value) for key, value in values.items() if key not in present]
        for chunk in _chunks(added, _MAX_PARAMS):
            self.client.log_batch(self.run_id, params=chunk)
        for key, value in values.items():
            if present.get(key, value) != value:
                self.client.set_tag(self.run_id, f"changed/{key}", value)

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Send numbers of a step."""
        now = int(time.time() * 1000)
        metrics = [self._entities.Metric(safe_name(name), value, now, step) for name, value in values.items()]
        for chunk in _chunks(metrics, 500):
            self.client.log_batch(self.run_id, metrics=chunk)

    def summarise(self, values: Mapping[str, float], texts: Mapping[str, str]) -> None:
        """Send the final metrics, and texts as tags."""
        self.log(values, int(values["best/step"]))
        for name, text in texts.items():
            self.client.set_tag(self.run_id, f"tlvision.{name}", text)

    def upload(self, paths: Iterable[Path]) -> None:
        """Send files and folders."""
        for path in paths:
            if path.is_dir():
                self.client.log_artifacts(self.run_id, str(path), artifact_path=path.name)
            else:
                self.client.log_artifact(self.run_id, str(path))

    def finish(self, status: Status) -> None:
        """Set the run's status."""
        self.client.set_terminated(self.run_id, _STATUS[status])


def safe_name(name: str) -> str:
    """Return a name that every MLflow store accepts; names that are changed end in a checksum, so they stay distinct.

    >>> safe_name("bbox/AP"), safe_name("loss/box")
    ('bbox/AP', 'loss/box')
    >>> safe_name("AP/car, red"), safe_name("AP/car; red")
    ('AP/car_ red_0c711b9c', 'AP/car_ red_deb1500e')
    """
    parts = (re.sub(r"[^\w.\- ]", "_", part) for part in name.split("/"))
    safe = "/".join("_" if part in {"", ".", ".."} else part for part in parts)
    if safe == name and len(name) <= _MAX_NAME:
        return name
    return f"{safe[: _MAX_NAME - 9]}_{zlib.crc32(name.encode('utf-8', 'surrogatepass')):08x}"


def _find_run(client: Any, run_id: str) -> Any:
    """Return a run that can be continued, or None if the store does not have it."""
    errors = import_module("mlflow.exceptions")
    try:
        run = client.get_run(run_id)
    except errors.MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return None
        raise
    return run if run.info.lifecycle_stage == "active" else None


def _chunks(values: Sequence[Any], size: int) -> Iterable[Sequence[Any]]:
    return (values[start : start + size] for start in range(0, len(values), size))
