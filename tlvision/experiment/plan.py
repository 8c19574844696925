"""Make the trials of an experiment: a config for every point of the axes, checked before anything runs."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tlvision.config.compose import find
from tlvision.config.load import load_config
from tlvision.config.schema import Config, DatasetSettings, TargetSettings
from tlvision.experiment.file import ExperimentFile, Role
from tlvision.files.inputs import file_hash
from tlvision.plugin import get_plugin
from tlvision.tasks import Metric, get_task
from tlvision.types import InputError, counted, nearest

Point = Mapping[str, str]
"""Axis -> name of its value."""
_ID_LENGTH = 12


@dataclass(frozen=True, slots=True)
class Trial:
    """One run.

    id:     hash of its config without `run.out`, and of its data: equal trials have one id.
    point:  the first point that asks for it.
    config: resolved; `run.out` is its folder.
    """

    id: str
    point: Point
    config: Config

    @property
    def folder(self) -> Path:
        """Return the folder of the run."""
        return Path(self.config.run.out)


@dataclass(frozen=True, slots=True)
class Plan:
    """The trials of an experiment.

    points: every point of the axes, with the id of its trial, in the order of the file.
    trials: by id, each once.
    metric: of the table.
    """

    experiment: ExperimentFile
    points: tuple[tuple[Point, str], ...]
    trials: Mapping[str, Trial]
    metric: Metric

    def part(self, point: Point, role: Role) -> Point:
        """Return the values of a point on the axes of a role."""
        return {axis: value for axis, value in point.items() if self.experiment.axes[axis].role == role}


def make_plan(experiment: ExperimentFile, origin: Path, out: Path) -> Plan:
    """Return the plan of an experiment.

    origin: its file; names of its base are looked for beside it, then among the presets.
    out:    folder of the experiment.

    Raises InputError that names the point, if a config is wrong or its data do not exist.
    """
    maker = _Maker(
        experiment, [str(find(name, origin.parent)) for name in experiment.base], origin.parent, out, _Hashes()
    )
    points: list[tuple[Point, str]] = []
    trials: dict[str, Trial] = {}
    problems: list[str] = []
    axes = {name: axis.named() for name, axis in experiment.axes.items()}
    for names in itertools.product(*axes.values()):
        point = dict(zip(axes, names, strict=True))
        try:
            trial = maker.trial(point)
        except InputError as error:
            problems.append(f"{shown_point(point)}: {error}")
            continue
        trials.setdefault(trial.id, trial)
        points.append((point, trial.id))
    if problems:
        total = len(points) + len(problems)
        raise InputError(f"{origin}: {len(problems)} of {counted(total, 'trial')} cannot be run. {problems[0]}")
    return Plan(
        experiment, tuple(points), trials, _metric(experiment, [trial.config for trial in trials.values()], origin)
    )


def shown_point(point: Point) -> str:
    """Return a point in words.

    >>> shown_point({"images": "25", "seed": "0"}), shown_point({})
    ('images 25, seed 0', 'all')
    """
    return ", ".join(f"{axis} {value}" for axis, value in point.items()) or "all"


@dataclass(frozen=True, slots=True)
class _Maker:
    """Makes trials; `base` and `folder` are where names of configs are looked for."""

    experiment: ExperimentFile
    base: list[str]
    folder: Path
    out: Path
    hashes: _Hashes

    def trial(self, point: Point) -> Trial:
        """Return the trial of a point; InputError if its config is wrong or its data do not exist."""
        variants = [self.experiment.axes[axis].named()[value] for axis, value in point.items()]
        # A report for each trial would take a second.
        values = {"run.report": False, "run.out": str(self.out / "trials")} | self.experiment.set
        for variant in variants:
            values |= variant.set
        extra = [str(find(name, self.folder)) for variant in variants for name in variant.with_]
        overrides = [f"{key}={json.dumps(value)}" for key, value in values.items()]
        config = load_config({"base": self.base}, overrides, extra)
        content = config.model_dump(mode="json", by_alias=True)
        del content["run"]["out"]
        text = json.dumps([content, self.hashes.of(config)], sort_keys=True)
        name = hashlib.sha256(text.encode()).hexdigest()[:_ID_LENGTH]
        run = config.run.model_copy(update={"out": str(self.out / "trials" / name)})
        return Trial(name, point, config.model_copy(update={"run": run}))


def _metric(experiment: ExperimentFile, configs: list[Config], origin: Path) -> Metric:
    """Return the metric of the table, which every trial must have."""
    wanted = experiment.compare.metric
    found: Metric | None = None
    for config in configs:
        task = get_task(get_plugin(config.model.plugin).task_of(config.model.arch))
        metrics = {metric.name: metric for metric in task.metrics(config.evaluate.max_detections)}
        name = (found.name if found else next(iter(metrics))) if wanted == "auto" else wanted
        if name not in metrics:
            raise InputError(
                f"{origin}: compare.metric: '{name}' is no metric of the task '{task.name}'.{nearest(name, metrics)}"
            )
        found = found or metrics[name]
    assert found is not None
    return found


@dataclass(slots=True)
class _Hashes:
    """Hashes of data, each computed once: files by content, folders by names and sizes."""

    known: dict[str, str] = field(default_factory=dict)

    def of(self, config: Config) -> dict[str, Any]:
        """Return the hashes of a config's data and weights.

        Rendered data follow from the config. Raises InputError if something does not exist.
        """
        found = {}
        if config.data.render is None:
            for name in ("train", "val", "source_val", "oracle", "target"):
                settings: DatasetSettings | TargetSettings | None = getattr(config.data, name)
                if settings is not None:
                    found[name] = self._dataset(settings, f"data.{name}")
        if Path(config.model.weights).is_file():
            found["weights"] = self._file(Path(config.model.weights), "model.weights")
        return found

    def _dataset(self, settings: DatasetSettings | TargetSettings, key: str) -> str:
        parts = [self._folder(Path(settings.images), f"{key}.images")]
        if settings.json_ is not None:
            parts.append(self._file(Path(settings.json_), f"{key}.json"))
        if isinstance(settings, DatasetSettings) and settings.masks is not None:
            parts.append(self._folder(Path(settings.masks), f"{key}.masks"))
        return " ".join(parts)

    def _file(self, path: Path, key: str) -> str:
        if not path.is_file():
            raise InputError(f"{key}: no file '{path}'")
        return self.known.get(str(path)) or self._keep(path, file_hash(path))

    def _folder(self, path: Path, key: str) -> str:
        if not path.is_dir():
            raise InputError(f"{key}: no folder '{path}'")
        if str(path) not in self.known:
            names = hashlib.sha256()
            for each in sorted(file for file in path.rglob("*") if file.is_file()):
                names.update(f"{each.relative_to(path)} {each.stat().st_size}\n".encode())
            self._keep(path, names.hexdigest())
        return self.known[str(path)]

    def _keep(self, path: Path, value: str) -> str:
        self.known[str(path)] = value
        return value
