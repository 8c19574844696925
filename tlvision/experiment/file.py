"""The file of an experiment: a base config, axes along which trials differ, and how they are compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from tlvision.config.errors import sentences
from tlvision.config.yaml_text import parse_yaml
from tlvision.data.settings import MAX_SEED, SubsetSettings
from tlvision.files.inputs import read_text
from tlvision.types import InputError

Name = str
Role = Literal["compare", "replicate"]
Extra = Literal["zero_shot", "oracle"]
_MOST_BYTES = 1 << 20


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class VariantSettings(_Strict):
    """One value of an axis: configs or presets to add to the base, keys to set, and trials that come before."""

    with_: list[str] = Field([], alias="with", description="Presets or files, as `--with` of `tlvision train`.")
    set: dict[str, Any] = Field({}, description="Dotted keys and their values, as `--set`.")
    after: dict[str, dict[Name, str]] = Field(
        {},
        description="Keys that get the result of another trial: `{model.weights: {stage: source}}` takes the best "
        "weights of the trial with that value on that axis and the same values on all others. Keys other than "
        "`model.weights` get the folder of its run.",
    )
    command: list[str] | None = Field(
        None,
        min_length=1,
        description="Another trainer instead of `tlvision train`: its words. Behind them it gets the path of a config; "
        "it leaves predictions.json (COCO results), or label maps in predictions/, in the folder `run.out` of that.",
    )


class AxisSettings(_Strict):
    """What trials differ in: `key` with `values`, or named `variants`."""

    role: Role = Field(
        "compare",
        description="`compare`: each value is a row of the table. `replicate`: the values repeat a row (seeds, folds).",
    )
    key: str | None = Field(None, min_length=1, description="Dotted key of the config, such as `train.seed`.")
    values: list[Any] | None = Field(None, min_length=1, description="Values of `key`.")
    variants: dict[Name, VariantSettings] | None = Field(None, min_length=1, description="Values by name.")

    @model_validator(mode="after")
    def _one_form(self) -> Self:
        if (self.variants is None) == (self.key is None) or (self.key is None) != (self.values is None):
            raise ValueError("expected either key and values, or variants")
        names = list(self.named())
        if len(set(names)) < len(self.values or names):
            raise ValueError(f"the values of {self.key} must differ, got {self.values}")
        return self

    def named(self) -> dict[Name, VariantSettings]:
        """Return the variants by name; the name of a value is its text."""
        if self.variants is not None:
            return dict(self.variants)
        assert self.key is not None
        return {str(value): VariantSettings(set={self.key: value}) for value in self.values or ()}


class CompareSettings(_Strict):
    """What the table shows."""

    metric: str = Field("auto", description="Metric of the table, such as `bbox/AP50`. auto: the task's main metric.")
    against: dict[str, str] = Field(
        {},
        description="The reference: `{axis: value}`. An axis that is not named takes the value of the row, so that "
        "each row is compared with its own reference. Without it, rows are not compared.",
    )
    resamples: int = Field(
        400,
        ge=0,
        le=100_000,
        description="Resamples of the validation images, for differences over images and replicates. 0: replicates.",
    )


class RangeSettings(_Strict):
    """The values that a search tries for one key: exactly one of these."""

    values: list[Any] | None = Field(None, min_length=1, description="Each of these.")
    log: list[float] | None = Field(None, min_length=2, max_length=2, description="From low to high, on a log scale.")
    uniform: list[float] | None = Field(None, min_length=2, max_length=2, description="From low to high.")
    integer: list[int] | None = Field(None, min_length=2, max_length=2, description="Integers from low to high.")

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        given = [name for name in ("values", "log", "uniform", "integer") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"expected exactly one of values, log, uniform and integer, got {given or 'none'}")
        limits = self.log or self.uniform or self.integer
        if limits is not None and not limits[0] < limits[1]:
            raise ValueError(f"expected {given[0]}: [low, high] with low below high, got {limits}")
        if self.log is not None and self.log[0] <= 0:
            raise ValueError(f"expected log: [low, high] above 0, got {self.log}")
        if self.values is not None and len({repr(value) for value in self.values}) < len(self.values):
            raise ValueError(f"the values must differ, got {self.values}")
        return self


class SearchSettings(_Strict):
    """A search for values of a config, for each compared row, on a part of the training images."""

    method: Literal["grid", "random", "halving", "optuna"] = Field(
        "halving",
        description="`grid`: all combinations. `random`: drawn. `halving`: of many that are trained for a few epochs, "
        "the best go on (successive halving). `optuna`: its TPE sampler (extra `optuna`).",
    )
    space: dict[str, RangeSettings] = Field(min_length=1, description="Dotted keys and what is tried for them.")
    trials: int | None = Field(
        None,
        ge=1,
        le=10_000,
        description="Candidates; default 20, of a space of `values` alone all. `grid` tries all.",
    )
    seed: int = Field(0, ge=0, le=MAX_SEED, description="Seed of what is drawn.")
    factor: int = Field(3, ge=2, le=10, description="halving: one of so many goes on, for so many times the epochs.")
    first: int | None = Field(
        None, ge=1, description="halving: epochs of the first round; default train.epochs / factor / factor."
    )
    tune: SubsetSettings = Field(
        SubsetSettings(fold=[0, 5]),
        description="The part of the training images that chooses: `fold: [i, k]`, with stratify, group_by and seed. "
        "`data.val` takes no part in the search.",
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.tune.fold is None:
            raise ValueError("tune: expected fold: [i, k]; part i is held out from the training images")
        if self.method == "grid" and any(each.values is None for each in self.space.values()):
            raise ValueError("method grid needs values for each key of space")
        if self.method == "grid" and self.trials is not None:
            raise ValueError("trials has no effect with method grid, which tries all; use random to draw some of them")
        if self.method != "halving" and {"factor", "first"} & self.model_fields_set:
            raise ValueError(f"factor and first have no effect with method {self.method}; they are for halving")
        return self


class LocalSettings(_Strict):
    """Trials as processes on this machine."""

    jobs: int | Literal["auto"] = Field(
        "auto", description="Trials at a time. auto: one for each GPU, without a GPU one."
    )

    @model_validator(mode="after")
    def _at_least_one(self) -> Self:
        if isinstance(self.jobs, int) and not 1 <= self.jobs <= 256:
            raise ValueError(f"expected jobs: auto or a number from 1 to 256, got {self.jobs}")
        return self


class RaySettings(_Strict):
    """Trials as tasks of a Ray cluster (extra `ray`)."""

    address: str | None = Field(
        None, description="Of the cluster, such as `auto` or `ray://host:10001`; default: a local one that is started."
    )
    jobs: int = Field(64, ge=1, le=10_000, description="Trials that are submitted at a time; Ray queues them.")
    gpus: float = Field(1.0, ge=0, le=64, description="GPUs of a trial; 0.5: two trials share one.")
    cpus: float = Field(1.0, gt=0, le=1024, description="Processor cores of a trial.")

    @model_validator(mode="after")
    def _whole_above_1(self) -> Self:
        if self.gpus > 1 and self.gpus != int(self.gpus):
            raise ValueError(f"gpus: above 1 a whole number, as Ray wants it, got {self.gpus}")
        return self


class SlurmSettings(_Strict):
    """Trials as SLURM jobs (submitit, extra `slurm`)."""

    partition: str | None = Field(None, min_length=1, description="Partition of the jobs; default: the cluster's own.")
    jobs: int = Field(64, ge=1, le=10_000, description="Jobs that are submitted at a time; SLURM queues them.")
    gpus: int = Field(1, ge=0, le=64, description="GPUs of a trial.")
    cpus: int = Field(4, ge=1, le=1024, description="Processor cores of a trial.")
    minutes: int = Field(240, ge=1, le=100_000, description="Time limit of a job.")
    parameters: dict[str, str | int | float | bool] = Field(
        {}, description="More of sbatch, such as `{account: mine, mem: 16G}`."
    )


class ExecutorSettings(_Strict):
    """Where trials run: at most one of these; the default is this machine."""

    local: LocalSettings | None = Field(None, description="On this machine.")
    ray: RaySettings | None = Field(None, description="On a Ray cluster.")
    slurm: SlurmSettings | None = Field(None, description="Through SLURM.")

    @model_validator(mode="after")
    def _one(self) -> Self:
        given = [name for name in ("local", "ray", "slurm") if getattr(self, name) is not None]
        if len(given) > 1:
            raise ValueError(f"expected one of local, ray and slurm, got {' and '.join(given)}")
        return self


class ExperimentFile(_Strict):
    """An experiment."""

    base: list[str] = Field(
        min_length=1, description="Configs or presets, as for `tlvision train`; the first counts most weakly."
    )
    set: dict[str, Any] = Field({}, description="Dotted keys and values for all trials.")
    axes: dict[Name, AxisSettings] = Field({}, description="What trials differ in.")
    extra: list[Extra] = Field(
        [],
        description="More rows on the axis of `compare.against`, made from the reference. `zero_shot`: the weights "
        "before any training. `oracle`: trained on `data.oracle`, labels of the target, for as many steps.",
    )
    search: SearchSettings | None = Field(None, description="A search for values of the config, for each row.")
    compare: CompareSettings = Field(CompareSettings(), description="The table.")
    executor: ExecutorSettings = Field(ExecutorSettings(), description="Where trials run.")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if not self.axes and self.search is None:
            raise ValueError("axes or search is missing: there is nothing in which trials differ")
        for axis, value in self.compare.against.items():
            if axis not in self.axes or self.axes[axis].role != "compare":
                known = [name for name, settings in self.axes.items() if settings.role == "compare"]
                raise ValueError(f"compare.against: '{axis}' is no axis that is compared; these are: {known or 'none'}")
            if value not in self.axes[axis].named():
                raise ValueError(
                    f"compare.against: axis '{axis}' has no '{value}', it has {list(self.axes[axis].named())}"
                )
        if len(set(self.extra)) < len(self.extra):
            raise ValueError(f"extra: each row once, got {self.extra}")
        if self.extra and len(self.compare.against) != 1:
            raise ValueError("extra needs compare.against with exactly one axis; its rows are made from that reference")
        for axis in self.compare.against if self.extra else ():
            if twice := set(self.extra) & self.axes[axis].named().keys():
                raise ValueError(f"extra: axis '{axis}' has '{min(twice)}' already; rename that value")
        self._check_keys()
        self._check_after()
        return self

    def _check_keys(self) -> None:
        owners = dict.fromkeys(self.search.space if self.search else (), "search")
        for axis, settings in self.axes.items():
            variants = settings.named().values()
            for key in {key for variant in variants for key in (*variant.set, *variant.after)}:
                if key == "run.out":
                    raise ValueError(f"axis '{axis}' sets run.out; every trial has a folder of its own")
                if owners.setdefault(key, axis) != axis:
                    raise ValueError(f"'{owners[key]}' and '{axis}' both set {key}; one of them would have no effect")

    def _check_after(self) -> None:
        for axis, settings in self.axes.items():
            for name, variant in settings.named().items():
                for key, before in variant.after.items():
                    place = f"axes.{axis}.variants.{name}.after.{key}"
                    if key in variant.set:
                        raise ValueError(f"{place}: set has {key} too; one of them would have no effect")
                    if before.get(axis, name) == name:
                        raise ValueError(f"{place}: expected another value of the axis '{axis}', got {before}")
                    for other, value in before.items():
                        if other not in self.axes or value not in self.axes[other].named():
                            raise ValueError(f"{place}: there is no '{value}' on an axis '{other}'")


def set_of(overrides: Sequence[str]) -> dict[str, Any]:
    """Return "train.lr=2e-4" and so on as keys and values.

    >>> set_of(["train.lr=2e-4", "hooks=[ema]"])
    {'train.lr': 0.0002, 'hooks': ['ema']}
    """
    values = {}
    for override in overrides:
        key, _, text = override.partition("=")
        values[key.strip()] = parse_yaml(text, f"--set {key}")
    return values


def read_experiment(path: Path) -> ExperimentFile:
    """Return the experiment of a YAML file.

    Raises InputError that lists every wrong key.
    """
    text = read_text(path, "the YAML file of an experiment", max_bytes=_MOST_BYTES)
    values = parse_yaml(text, str(path))
    if not isinstance(values, Mapping):
        raise InputError(f"{path}: expected keys such as base and axes, got {type(values).__name__}")
    return parse_experiment(values, str(path))


def with_composition(experiment: ExperimentFile, extra: Sequence[str], overrides: Sequence[str]) -> ExperimentFile:
    """Return an experiment with more configs or presets, and more keys and values, for all trials.

    Raises InputError if an axis or the search sets one of the keys, which would have no effect.
    """
    varied = {key for axis in experiment.axes.values() for each in axis.named().values() for key in each.set}
    varied |= set(experiment.search.space if experiment.search else ())
    values = set_of(overrides)
    if taken := sorted(varied & values.keys()):
        raise InputError(f"--set {taken[0]}: the experiment varies this key; change its file")
    update = {"base": [*experiment.base, *extra], "set": {**experiment.set, **values}}
    return experiment.model_copy(update=update)


def parse_experiment(values: Mapping[str, Any], origin: str) -> ExperimentFile:
    """Return the experiment of a mapping; InputError that names `origin` and every wrong key."""
    given = dict(values)
    if isinstance(given.get("base"), str):
        given["base"] = [given["base"]]
    try:
        return ExperimentFile.model_validate(given)
    except ValidationError as error:
        raise InputError(f"{origin}: {'; '.join(sentences(error, ExperimentFile))}") from None
