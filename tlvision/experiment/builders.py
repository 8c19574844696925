"""Make experiments of frequent kinds from one config: seeds, folds, few images, learning curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tlvision.config.compose import split_names
from tlvision.config.load import load_config
from tlvision.config.schema import Config
from tlvision.engine.labels import resolve_labels
from tlvision.experiment.file import ExperimentFile, parse_experiment, set_of
from tlvision.types import InputError

Values = dict[str, Any]


def base_of(config: str, extra: Sequence[str] = (), overrides: Sequence[str] = ()) -> tuple[Values, Config]:
    """Return `base` and `set` of an experiment on a config, and the config itself, resolved, with labels as COCO jsons.

    config, extra, overrides: as for `tlvision.train`.

    Raises InputError as `load_config` does.
    """
    resolved, _ = resolve_labels(load_config(config, overrides, extra))
    return {"base": [*split_names(config), *extra], "set": set_of(overrides)}, resolved


def seeds(base: Mapping[str, Any], numbers: Sequence[int]) -> ExperimentFile:
    """Return the same run with several seeds: its spread."""
    return _experiment(base, {"seed": replicates("train.seed", numbers)}, {}, "seeds")


def cross_validation(base: Mapping[str, Any], config: Config, folds: int, **subset: Any) -> ExperimentFile:
    """Return a run for each fold of `data.train`, trained on the others and measured on it; `data.val` has no part.

    subset: other keys of `data.train.subset`: seed, stratify, group_by.
    """
    if config.data.train.subset is not None:
        raise InputError("cross-validate: data.train.subset is set by the folds; remove it from the config")
    if not 2 <= folds <= 100:
        raise InputError(f"cross-validate: --folds must be from 2 to 100, got {folds}")
    data = config.data.train.model_dump(mode="json", by_alias=True, exclude={"subset"}, exclude_none=True)
    variants = {
        str(number): {
            "set": {
                "data.train.subset": {"fold": [number, folds], **subset},
                "data.val": {**data, "subset": {"fold": [number, folds], **subset}},
            }
        }
        for number in range(folds)
    }
    return _experiment(base, {"fold": {"role": "replicate", "variants": variants}}, {}, "cross-validate")


def few_shot(base: Mapping[str, Any], images: Sequence[int], draws: int) -> ExperimentFile:
    """Return runs on a few images of each class, drawn several times.

    images: of each class, at least; one row each. draws: number of draws.
    """
    variants = {
        str(number): {"set": {"data.train.subset.seed": number, "train.seed": number}} for number in range(draws)
    }
    axes = {
        "images per class": {"key": "data.train.subset.per_class", "values": list(images)},
        "draw": {"role": "replicate", "variants": variants},
    }
    return _experiment(base, axes, {}, "few-shot")


def learning_curve(
    base: Mapping[str, Any], fractions: Sequence[float], numbers: Sequence[int], *, scratch: bool = True
) -> ExperimentFile:
    """Return runs on shares of the training images, from the pretrained weights and, if asked, from random ones.

    numbers: seeds of the runs and of the draws.
    """
    variants = {str(number): {"set": {"data.train.subset.seed": number, "train.seed": number}} for number in numbers}
    axes: Values = {"fraction": {"key": "data.train.subset.fraction", "values": list(fractions)}}
    if scratch:
        starts = {"pretrained": {}, "scratch": {"set": {"model.weights": "none"}}}
        axes = {"start": {"variants": starts}, **axes}
    axes["seed"] = {"role": "replicate", "variants": variants}
    return _experiment(base, axes, {"start": "scratch"} if scratch else {}, "learning-curve")


def replicates(key: str, values: Sequence[int]) -> Values:
    """Return an axis that repeats each row with values of one key."""
    return {"role": "replicate", "key": key, "values": list(values)}


def tune(base: Mapping[str, Any], search: Mapping[str, Any], numbers: Sequence[int]) -> ExperimentFile:
    """Return a search, and the winner with several seeds.

    search: as `search` of an experiment's file.
    """
    content = {**base, "axes": {"seed": replicates("train.seed", numbers)}, "search": dict(search)}
    return parse_experiment(content, "tune")


def _experiment(base: Mapping[str, Any], axes: Values, against: Mapping[str, str], origin: str) -> ExperimentFile:
    return parse_experiment({**base, "axes": axes, "compare": {"against": dict(against)}}, origin)
