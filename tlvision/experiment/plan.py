"""Make the trials of an experiment: a config for every point of the axes, checked before anything runs."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from tlvision.config.compose import find
from tlvision.config.load import load_config
from tlvision.config.schema import Config, DatasetSettings, TargetSettings
from tlvision.engine.labels import FOLDER, Known, resolve_labels
from tlvision.experiment.baselines import oracle
from tlvision.experiment.file import ExperimentFile, Role, VariantSettings
from tlvision.files.inputs import file_hash
from tlvision.plugin import get_plugin
from tlvision.tasks import Metric, get_task
from tlvision.types import InputError, counted, nearest

Point = Mapping[str, str]
"""Axis -> name of its value."""
_ID_LENGTH = 12


Action = Literal["train", "zero_shot", "other"]


@dataclass(frozen=True, slots=True)
class Trial:
    """One run.

    id:      hash of its config without `run.out`, of its data, and of the trials that it needs: equal trials have one.
    point:   the first point that asks for it.
    config:  resolved; `run.out` is its folder.
    action:  what its process does; "other" is another trainer.
    command: the words of the other trainer.
    after:   ids of the trials that it needs.
    until:   epoch at which it stops, to go on later; None for its end.
    """

    id: str
    point: Point
    config: Config
    action: Action = "train"
    command: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    until: int | None = None

    @property
    def folder(self) -> Path:
        """Return the folder of the run."""
        return Path(self.config.run.out)


@dataclass(frozen=True, slots=True)
class Plan:
    """The trials of an experiment.

    points: every point of the axes, with the id of its trial, in the order of the file; then those of extra rows.
    trials: by id, each once.
    metric: of the table.
    maker:  makes more trials.
    """

    experiment: ExperimentFile
    points: tuple[tuple[Point, str], ...]
    trials: Mapping[str, Trial]
    metric: Metric
    maker: TrialMaker

    def part(self, point: Point, role: Role) -> Point:
        """Return the values of a point on the axes of a role."""
        return {axis: value for axis, value in point.items() if self.experiment.axes[axis].role == role}

    def rows(self) -> list[Point]:
        """Return the first point of each row but the extra ones: what a search is made for."""
        found: dict[str, Point] = {}
        for point, _ in self.points:
            if not is_extra(self.experiment, point):
                found.setdefault(shown_point(self.part(point, "compare")), point)
        return list(found.values())


def make_plan(
    experiment: ExperimentFile, origin: Path, out: Path, chosen: Mapping[str, Mapping[str, Any]] | None = None
) -> Plan:
    """Return the plan of an experiment.

    origin: its file; names of its base are looked for beside it, then among the presets.
    out:    folder of the experiment.
    chosen: values that a search has found: name of the row -> key -> value.

    Raises InputError that names the point, if a config is wrong or its data do not exist.
    """
    base = [str(find(name, origin.parent)) for name in experiment.base]
    maker = TrialMaker(experiment, base, origin.parent, out, _Hashes(), chosen or {})
    points: list[tuple[Point, str]] = []
    problems: list[str] = []
    for point in _points(experiment):
        try:
            points.append((point, maker.trial(point).id))
        except InputError as error:
            problems.append(f"{shown_point(point)}: {error}")
    if problems:
        total = len(points) + len(problems)
        raise InputError(f"{origin}: {len(problems)} of {counted(total, 'trial')} cannot be run. {problems[0]}")
    trials = {trial.id: trial for trial in reversed(maker.made.values())}  # of equal trials the first one is named
    ordered = {name: trials[name] for name in dict.fromkeys(trial.id for trial in maker.made.values())}
    metric = _metric(experiment, [trial.config for trial in ordered.values()], origin)
    return Plan(experiment, tuple(points), ordered, metric, maker)


def _points(experiment: ExperimentFile) -> list[Point]:
    axes = {name: list(axis.named()) for name, axis in experiment.axes.items()}
    found = _product(axes)
    for extra in experiment.extra:
        found += _product(axes | {axis: [extra] for axis in experiment.compare.against})
    return found


def _product(axes: Mapping[str, Sequence[str]]) -> list[Point]:
    return [dict(zip(axes, names, strict=True)) for names in itertools.product(*axes.values())]


def is_extra(experiment: ExperimentFile, point: Point) -> bool:
    """Return whether a point is of an extra row: zero_shot or oracle."""
    return any(point[axis] in experiment.extra for axis in experiment.compare.against)


def shown_point(point: Point) -> str:
    """Return a point in words.

    >>> shown_point({"images": "25", "seed": "0"}), shown_point({})
    ('images 25, seed 0', 'all')
    """
    return ", ".join(f"{axis} {value}" for axis, value in point.items()) or "all"


@dataclass(slots=True)
class TrialMaker:
    """Makes trials; `base` and `folder` are where names of configs are looked for, `made` holds what there is."""

    experiment: ExperimentFile
    base: list[str]
    folder: Path
    out: Path
    hashes: _Hashes
    chosen: Mapping[str, Mapping[str, Any]]
    made: dict[str, Trial] = field(default_factory=dict)
    _open: list[str] = field(default_factory=list)
    _labels: Known = field(default_factory=dict)

    def trial(self, point: Point) -> Trial:
        """Return the trial of a point, and make those that it needs.

        Raises InputError if its config is wrong, its data do not exist, or it needs itself.
        """
        name = shown_point(point)
        if name in self._open:
            raise InputError(f"after: {' needs '.join([*self._open, name])}; a trial cannot wait for itself")
        if name not in self.made:
            self._open.append(name)
            try:
                self.made[name] = self._extra(point) if is_extra(self.experiment, point) else self._plain(point)
            finally:
                self._open.pop()
        return self.made[name]

    def searched(self, point: Point, values: Mapping[str, Any], until: int | None = None) -> Trial:
        """Return a trial of a point's search: with more values, until an epoch; its name has the values searched."""
        trial = self._plain(point, values)
        if trial.action != "train":
            raise InputError(f"{shown_point(point)}: search is for `tlvision train`, not for the command of a variant")
        tried = self.experiment.search.space if self.experiment.search else ()
        shown = {axis: name for axis, name in point.items() if self.experiment.axes[axis].role == "compare"}
        return replace(trial, until=until, point=shown | {key: str(values[key]) for key in tried})

    def config(self, point: Point, more: Mapping[str, Any]) -> Config:
        """Return the resolved config of a point, with more values that count most; InputError if it is wrong."""
        variants = self._variants(point)
        # A report for each trial would take a second.
        values = {"run.report": False, "run.out": str(self.out / "trials")} | self.experiment.set
        for variant in variants:
            values |= variant.set
        values |= more
        extra = [str(find(name, self.folder)) for variant in variants for name in variant.with_]
        config = load_config(
            {"base": self.base}, [f"{key}={json.dumps(value)}" for key, value in values.items()], extra
        )
        return resolve_labels(config, self.out.parent / FOLDER, self._labels)[0]

    def _variants(self, point: Point) -> list[VariantSettings]:
        return [self.experiment.axes[axis].named()[value] for axis, value in point.items()]

    def _before(self, point: Point) -> dict[str, Trial]:
        """Return the trials that a point needs, by the key that gets their result."""
        variants = self._variants(point)
        return {key: self.trial({**point, **other}) for each in variants for key, other in each.after.items()}

    def _plain(self, point: Point, values: Mapping[str, Any] | None = None) -> Trial:
        """Return the trial of a point of the axes; without values it has those that its row's search has chosen."""
        before = self._before(point)
        compared = {axis: name for axis, name in point.items() if self.experiment.axes[axis].role == "compare"}
        more = dict(self.chosen.get(shown_point(compared), {}) if values is None else values)
        more |= {key: str(_result(trial, key)) for key, trial in before.items()}
        commands = [variant.command for variant in self._variants(point) if variant.command is not None]
        if len(commands) > 1:
            raise InputError("two axes give a command; one of them would have no effect")
        return self._named(point, self.config(point, more), before, commands[0] if commands else ())

    def _extra(self, point: Point) -> Trial:
        """Return the trial of an extra row, made from the reference."""
        (axis,) = self.experiment.compare.against
        reference = {**point, **self.experiment.compare.against}
        plain, before = self.trial(reference), self._before(reference)
        if plain.action == "other":
            raise InputError("extra: the reference has a command, so no rows can be made from it")
        if point[axis] == "zero_shot":
            # Nothing is trained: trials that differ in hooks and seed are one.
            train = plain.config.train.model_copy(update={"seed": 0})
            config = plain.config.model_copy(update={"hooks": (), "train": train})
            return self._named(point, config, before, (), "zero_shot")
        if plain.config.data.oracle is None:
            raise InputError("extra: oracle needs data.oracle, labelled images of the target")
        return self._named(point, oracle(plain.config), before, ())

    def _named(
        self,
        point: Point,
        config: Config,
        before: Mapping[str, Trial],
        command: Sequence[str],
        action: Action = "train",
    ) -> Trial:
        content = config.model_dump(mode="json", by_alias=True)
        del content["run"]["out"]
        text = json.dumps(content, sort_keys=True)
        for trial in before.values():
            text = text.replace(str(trial.folder), trial.id)  # wherever the experiment lies
        parts = [text, self.hashes.of(config, before), list(command), action if action == "zero_shot" else ""]
        name = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:_ID_LENGTH]
        run = config.run.model_copy(update={"out": str(self.out / "trials" / name)})
        needed = tuple(sorted({trial.id for trial in before.values()}))
        kind: Action = "other" if command else action
        return Trial(name, point, config.model_copy(update={"run": run}), kind, tuple(command), needed)


def _result(trial: Trial, key: str) -> Path:
    """Return what a key gets of a trial that comes before: its weights, or the folder of its run."""
    return trial.folder / "checkpoints" / "best" / "model.safetensors" if key == "model.weights" else trial.folder


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

    def of(self, config: Config, before: Collection[str] = ()) -> dict[str, Any]:
        """Return the hashes of a config's data and weights; not of the keys `before`, which come from another trial.

        Rendered data follow from the config. Raises InputError if something does not exist.
        """
        found = {}
        if config.data.render is None:
            for name in ("train", "val", "source_val", "oracle", "target"):
                settings: DatasetSettings | TargetSettings | None = getattr(config.data, name)
                if settings is not None:
                    found[name] = self._dataset(settings, f"data.{name}")
        if "model.weights" not in before and Path(config.model.weights).is_file():
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
