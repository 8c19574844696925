"""The runs that a method of domain adaptation has to be seen beside, each a config of its own, made from the method's.

zero_shot     the pretrained weights as they are, on the target
source_only   the same images, augmentation, average and steps, without what learns from the target
<method>      the config as it is
oracle        labels of the target, for as many steps: what could be had
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tlvision.config.load import load_config
from tlvision.config.schema import BatchSettings, Config
from tlvision.hooks import ObjectiveHook
from tlvision.hooks.registry import hook_class
from tlvision.types import InputError

Kind = Literal["zero_shot", "source_only", "method", "oracle"]
KINDS: tuple[Kind, ...] = ("zero_shot", "source_only", "method", "oracle")


@dataclass(frozen=True, slots=True)
class Arm:
    """One row of the table.

    name:   what it is called, and its folder.
    kind:   what it is.
    config: what it runs, for any seed.
    """

    name: str
    kind: Kind
    config: Config


def make_arms(paths: Sequence[str | Path], overrides: Sequence[str], kinds: Sequence[Kind]) -> list[Arm]:
    """Return the arms for some configs of methods; the others are made from the first.

    paths:     YAML files that differ in their hooks alone, and in `data.batch.unlabelled`.
    overrides: "train.epochs=5" and so on, for all of them.
    kinds:     which arms to run; an oracle only where the config has `data.oracle`.

    Raises InputError where the configs do not fit a comparison: no `data.val`, another model, data or schedule.
    """
    methods = [Arm(Path(path).stem, "method", load_config(path, overrides)) for path in paths]
    first = methods[0].config
    if first.data.val is None:
        raise InputError(
            "adapt: data.val is missing; the table needs labelled images of the target to evaluate on (they choose no "
            "checkpoint and train nothing)"
        )
    for arm in methods[1:]:
        _require_match(methods[0], arm)
    names = [arm.name for arm in methods]
    for name in names:
        if names.count(name) > 1 or name in {kind for kind in KINDS if kind != "method"}:
            raise InputError(f"adapt: the name '{name}' is taken; call the config file something else")
    made = {"zero_shot": source_only(first), "source_only": source_only(first)}
    arms = [Arm(kind, kind, made[kind]) for kind in KINDS[:2] if kind in kinds]
    arms += methods if "method" in kinds else []
    if "oracle" in kinds and first.data.oracle is not None:
        arms.append(Arm("oracle", "oracle", oracle(first)))
    return arms


def uses_target(name: str) -> bool:
    """Tell whether a hook learns from the target, and so has no place in a run on the source alone."""
    found = hook_class(name)
    objective = issubclass(found, ObjectiveHook) and (found.uses_unlabelled or found.uses_teacher)
    return found.uses_target or objective


def has_teacher(config: Config) -> bool:
    """Tell whether a hook of the config learns from a teacher."""
    found = [hook_class(name) for item in config.hooks for name in item]
    return any(issubclass(each, ObjectiveHook) and each.uses_teacher for each in found)


def source_only(config: Config) -> Config:
    """Return the config without hooks that use the target and without unlabelled images; everything else stays."""
    hooks = [item for item in config.hooks if not uses_target(next(iter(item)))]
    batch = BatchSettings(labelled=config.data.batch.labelled)
    return config.model_copy(update={"hooks": hooks, "data": config.data.model_copy(update={"batch": batch})})


def oracle(config: Config) -> Config:
    """Return the source-only config on `data.oracle`, for the number of epochs that comes nearest to as many steps."""
    assert config.data.oracle is not None
    plain = source_only(config)
    batch, source, target = config.data.batch.labelled, _images(config, "train"), _images(config, "oracle")
    steps = max(1, round(source / batch)) * config.train.epochs
    epochs = max(1, round(steps / max(1, round(target / batch))))
    every = max(1, round(config.evaluate.every * epochs / config.train.epochs))
    return plain.model_copy(
        update={
            "data": plain.data.model_copy(update={"train": config.data.oracle, "source_val": None, "target": None}),
            "train": plain.train.model_copy(update={"epochs": epochs}),
            "evaluate": plain.evaluate.model_copy(update={"every": every, "select": "auto"}),
        }
    )


def _images(config: Config, name: Literal["train", "oracle"]) -> int:
    """Return the number of images of a dataset: those of its json, or of its folder."""
    from tlvision.coco import read_images

    settings = config.data.train if name == "train" else config.data.oracle
    assert settings is not None
    return len(read_images(settings.images, settings.json_).images)


def _require_match(one: Arm, other: Arm) -> None:
    """Raise InputError where two methods would not be compared on the same work."""
    for key in ("model", "train", "evaluate"):
        if getattr(one.config, key) != getattr(other.config, key):
            raise InputError(f"adapt: '{other.name}' has another '{key}' than '{one.name}'; only hooks may differ")
    if one.config.data != other.config.data.model_copy(update={"batch": one.config.data.batch}):
        raise InputError(f"adapt: '{other.name}' has other 'data' than '{one.name}'; only hooks may differ")
    if one.config.data.batch.labelled != other.config.data.batch.labelled:
        raise InputError(f"adapt: '{other.name}' has another data.batch.labelled than '{one.name}'")
