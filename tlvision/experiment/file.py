"""The file of an experiment: a base config, axes along which trials differ, and how they are compared."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from tlvision.config.errors import sentences
from tlvision.config.yaml_text import parse_yaml
from tlvision.files.inputs import read_text
from tlvision.types import InputError

Name = str
Role = Literal["compare", "replicate"]
_MOST_BYTES = 1 << 20


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class VariantSettings(_Strict):
    """One value of an axis: configs or presets to add to the base, and keys to set."""

    with_: list[str] = Field([], alias="with", description="Presets or files, as `--with` of `tlvision train`.")
    set: dict[str, Any] = Field({}, description="Dotted keys and their values, as `--set`.")


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


class ExecutorSettings(_Strict):
    """Where trials run."""

    local: LocalSettings = Field(LocalSettings(), description="On this machine.")


class ExperimentFile(_Strict):
    """An experiment."""

    base: list[str] = Field(
        min_length=1, description="Configs or presets, as for `tlvision train`; the first counts most weakly."
    )
    set: dict[str, Any] = Field({}, description="Dotted keys and values for all trials.")
    axes: dict[Name, AxisSettings] = Field(min_length=1, description="What trials differ in.")
    compare: CompareSettings = Field(CompareSettings(), description="The table.")
    executor: ExecutorSettings = Field(ExecutorSettings(), description="Where trials run.")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for axis, value in self.compare.against.items():
            if axis not in self.axes or self.axes[axis].role != "compare":
                known = [name for name, settings in self.axes.items() if settings.role == "compare"]
                raise ValueError(f"compare.against: '{axis}' is no axis that is compared; these are: {known or 'none'}")
            if value not in self.axes[axis].named():
                raise ValueError(
                    f"compare.against: axis '{axis}' has no '{value}', it has {list(self.axes[axis].named())}"
                )
        owners: dict[str, str] = {}
        for axis, settings in self.axes.items():
            for key in {key for variant in settings.named().values() for key in variant.set}:
                if key == "run.out":
                    raise ValueError(f"axis '{axis}' sets run.out; every trial has a folder of its own")
                if owners.setdefault(key, axis) != axis:
                    raise ValueError(
                        f"the axes '{owners[key]}' and '{axis}' both set {key}; one of them would have no effect"
                    )
        return self


def read_experiment(path: Path) -> ExperimentFile:
    """Return the experiment of a YAML file.

    Raises InputError that lists every wrong key.
    """
    text = read_text(path, "the YAML file of an experiment", max_bytes=_MOST_BYTES)
    values = parse_yaml(text, str(path))
    if not isinstance(values, Mapping):
        raise InputError(f"{path}: expected keys such as base and axes, got {type(values).__name__}")
    return parse_experiment(values, str(path))


def parse_experiment(values: Mapping[str, Any], origin: str) -> ExperimentFile:
    """Return the experiment of a mapping; InputError that names `origin` and every wrong key."""
    given = dict(values)
    if isinstance(given.get("base"), str):
        given["base"] = [given["base"]]
    try:
        return ExperimentFile.model_validate(given)
    except ValidationError as error:
        raise InputError(f"{origin}: {'; '.join(sentences(error, ExperimentFile))}") from None
