"""Train the runs that `tlvision compress --method prune distill` measures beside the given one."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tlvision.config.load import load_config
from tlvision.config.schema import Config
from tlvision.engine.resume import read_run_config
from tlvision.engine.train import train
from tlvision.files.atomic import find_folder
from tlvision.terminal import console
from tlvision.types import InputError

METHODS = ("int8", "prune", "distill")
_OF_THE_DATA = (
    "train", "val", "source_val", "target", "classes", "exif", "bit_depth", "ignore_value", "unlabelled", "tiles",
)  # fmt: skip
"""Keys of `data` that a student takes from its teacher's config: what is learnt, not how."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainedMethods:
    """Which smaller runs are trained, and how.

    methods:   of `METHODS`; "int8" trains nothing.
    student:   config or preset of the model that learns from the run; needed by "distill" and by nothing else.
    overrides: "train.epochs=20" and so on, of every run that is trained.
    """

    methods: Sequence[str] = ("int8",)
    student: str | None = None
    overrides: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if "distill" in self.methods and self.student is None:
            raise InputError("compress: --method distill needs --student CONFIG, the smaller model that learns")
        if self.student is not None and "distill" not in self.methods:
            raise InputError("compress: --student is for --method distill; add the method, or remove the student")
        if self.overrides and not set(self.methods) & set(_CONFIGS):
            raise InputError("compress: --set is for the runs of --method prune and distill; add one, or remove --set")


def train_methods(run: Path, chosen: TrainedMethods) -> list[Path]:
    """Train a run for each method that needs one, next to `run`, and return their folders.

    Raises InputError before anything is trained if a config is wrong or a folder exists: such a run is given with
    --beside instead.
    """
    configs = [_CONFIGS[method](run, chosen) for method in METHODS if method in chosen.methods and method in _CONFIGS]
    for config in configs:
        out = Path(config.run.out)
        if out.exists():
            raise InputError(
                f"compress: '{out}' exists. If it is the run you want, give --beside {out} in place of the method; "
                "otherwise rename it"
            )
    for config in configs:
        console().print(f"training {config.run.out}", soft_wrap=True)
        train(config)
    return [Path(config.run.out) for config in configs]


def _pruned(run: Path, chosen: TrainedMethods) -> Config:
    """Return the config of the run again, from its weights, with the hook prune."""
    values = _values(read_run_config(run, finished=True), run, "prune")
    weights = find_folder(run / "checkpoints" / "best") / "model.safetensors"
    values["model"] = {**values["model"], "weights": str(weights), "rename": {}}
    return load_config(_with_hook(values, {"prune": {}}), chosen.overrides, beside=False)


def _distilled(run: Path, chosen: TrainedMethods) -> Config:
    """Return the student's config with the data of the run and the hook distill."""
    assert chosen.student is not None
    data = read_run_config(run, finished=True).data.model_dump(mode="json", by_alias=True)
    given = [f"data.{key}={json.dumps(data[key])}" for key in _OF_THE_DATA]
    values = _values(load_config(chosen.student, given), run, "distill")
    return load_config(_with_hook(values, {"distill": {"run": str(run)}}), chosen.overrides, beside=False)


_CONFIGS: dict[str, Callable[[Path, TrainedMethods], Config]] = {"prune": _pruned, "distill": _distilled}


def _values(config: Config, run: Path, method: str) -> dict[str, Any]:
    values: dict[str, Any] = config.model_dump(mode="json", by_alias=True)
    values["run"] = {**values["run"], "out": str(run.with_name(f"{run.name}_{method}"))}
    return values


def _with_hook(values: dict[str, Any], item: dict[str, Any]) -> dict[str, Any]:
    """Return the config with one more hook; one of that name that is there already is replaced."""
    (name,) = item
    others = [each for each in values["hooks"] if each != name and name not in (each if isinstance(each, dict) else ())]
    return {**values, "hooks": [*others, item]}
