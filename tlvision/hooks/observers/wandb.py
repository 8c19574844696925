"""Send a run to Weights & Biases: parameters, losses, metrics, and files if asked.

Source: https://docs.wandb.ai; the run is opened with `reinit="create_new"`, which leaves `wandb.run` alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from tlvision.hooks.tracking import SECONDS, RunRecord, Status, TrackedRun, TrackerHook, new_id
from tlvision.types.shown import cause

_TIMEOUT = SECONDS / 3
"""Seconds for the server to answer, and at the end to take the rest; both fit into the time that a tracker gets."""


class Wandb(TrackerHook):
    """Send the run to Weights & Biases; `pip install "tlvision[wandb]"`.

    mode:       offline: written to `wandb/` in the run's folder, for `wandb sync`; needs no network and no account.
                online: sent to the server; offline if that cannot be reached. disabled: nothing.
    project:    name of the project.
    entity:     user or team; None is the account's default.
    every:      steps between two records of losses and learning rate, at least 1.
    artifacts:  upload report.html, metrics.json, thresholds.json and calibration.json at the end, as far as the
                run has them.
    checkpoint: upload checkpoints/best at the end.

    The name of the run is that of its folder. A resumed run continues the run whose id is in `wandb.json`; offline,
    each part has a folder of its own, and `wandb sync RUN/wandb/offline-run-*` joins them. Training never waits for
    the server: if something fails, one notice is printed. The environment variable WANDB_MODE is not used.
    """

    title = "W&B"
    variables = ("WANDB_SERVICE",)
    packages = {"wandb": 'pip install "tlvision[wandb]"'}  # noqa: RUF012

    def __init__(
        self,
        *,
        mode: Literal["offline", "online", "disabled"] = "offline",
        project: Annotated[str, Field(min_length=1)] = "tlvision",
        entity: str | None = None,
        every: Annotated[int, Field(ge=1)] = 10,
        artifacts: bool = False,
        checkpoint: bool = False,
    ) -> None:
        self.mode, self.project, self.entity, self.every = mode, project, entity, every
        self.artifacts, self.checkpoint = artifacts, checkpoint
        self.enabled = mode != "disabled"
        if not self.enabled:
            self.packages = {}

    def open_run(self, record: RunRecord) -> TrackedRun:
        """Create the run, or continue the one with the record's id."""
        run_id = record.run_id or new_id()
        record.remember(run_id)
        try:
            return self._init(record, run_id, self.mode)
        except Exception as error:
            if self.mode != "online":
                raise
            spare = new_id()  # W&B holds the first id until the process ends
            opened = self._init(record, spare, "offline")
            if record.run_id is None:
                record.remember(spare)
            into = "" if record.run_id is None else f"--id {record.run_id} "
            opened.notice = (
                f"W&B cannot be reached ({cause(error)}). The run is written offline; send it later with: "
                f"wandb sync {into}{opened.folder}"
            )
            return opened

    def _init(self, record: RunRecord, run_id: str, mode: str) -> _WandbRun:
        wandb = import_module("wandb")
        run = wandb.init(
            id=run_id,
            name=record.folder.name,
            project=self.project,
            entity=self.entity,
            dir=str(record.folder),
            config={},
            mode=mode,
            resume="allow",
            reinit="create_new",
            settings=wandb.Settings(
                console="off",  # otherwise it replaces the process's output
                silent=True,  # also: it never asks for a key
                init_timeout=_TIMEOUT,
                finish_timeout=_TIMEOUT,
            ),
        )
        run.config.update({**record.config, "folder": str(record.folder)}, allow_val_change=True)
        return _WandbRun(run, wandb)


class _WandbRun:
    """One run of W&B."""

    def __init__(self, run: Any, wandb: Any) -> None:
        self.run, self.wandb = run, wandb
        self.notice = ""
        self.folder = Path(run.dir).parent

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Send numbers of a step; those of a step that a resumed run repeats are dropped by W&B."""
        self.run.log(dict(values), step=step)

    def summarise(self, values: Mapping[str, float], texts: Mapping[str, str]) -> None:
        """Send the final metrics and texts as the run's summary."""
        self.run.summary.update({**values, **texts})

    def upload(self, paths: Iterable[Path]) -> None:
        """Send files and folders as one artifact."""
        artifact = self.wandb.Artifact(f"run-{self.run.id}-results", type="results")
        for path in paths:
            if path.is_dir():
                artifact.add_dir(str(path), name=path.name)
            else:
                artifact.add_file(str(path))
        self.run.log_artifact(artifact)

    def finish(self, status: Status) -> None:
        """Close the run."""
        self.run.finish(exit_code=1 if status == "failed" else 0)
