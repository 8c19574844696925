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
from tlvision.engine.steps import steps_per_epoch
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
    """Return the arms for some configs of methods; the others are made from what the methods have in common.

    paths:     YAML files that differ in their hooks alone, and in `data.batch.unlabelled`.
    overrides: "train.epochs=5" and so on, for all of them.
    kinds:     which arms to run; an oracle only where the config has `data.oracle`.

    Raises InputError where the configs do not fit a comparison: no `data.val`, another model, data or schedule.
    """
    methods = [Arm(Path(path).stem, "method", load_config(path, overrides)) for path in paths]
    first_name, first = methods[0].name, methods[0].config
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
    plain = source_only([arm.config for arm in methods])
    if all(arm.config == plain for arm in methods):
        raise InputError(
            f"adapt: '{first_name}' learns nothing from the target, and so is source-only itself; give beside it a "
            "config without its hooks (what its `base` names), to be compared with"
        )
    arms = [Arm(kind, kind, plain) for kind in KINDS[:2] if kind in kinds]
    arms += methods if "method" in kinds else []
    if "oracle" in kinds and first.data.oracle is not None:
        arms.append(Arm("oracle", "oracle", oracle(plain)))
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


def source_only(methods: Sequence[Config]) -> Config:
    """Return the first config without unlabelled images and with those hooks alone that all have, as they have them.

    Of those, the ones that use the target go too. So whatever sets a method apart from another counts as the method,
    and what a single one has besides (a freeze) as the recipe; the order of the methods does not matter.
    """
    config = methods[0]
    shared = [item for item in config.hooks if all(item in other.hooks for other in methods)]
    hooks = [item for item in shared if not uses_target(next(iter(item)))]
    batch = BatchSettings(labelled=config.data.batch.labelled)
    return config.model_copy(update={"hooks": hooks, "data": config.data.model_copy(update={"batch": batch})})


def oracle(plain: Config) -> Config:
    """Return `plain`, which is source-only, on `data.oracle`, for the epochs that come nearest to as many steps."""
    assert plain.data.oracle is not None
    steps = steps_per_epoch(plain, _images(plain, "train")) * plain.train.epochs
    epochs = max(1, round(steps / steps_per_epoch(plain, _images(plain, "oracle"))))
    every = max(1, round(plain.evaluate.every * epochs / plain.train.epochs))
    return plain.model_copy(
        update={
            "data": plain.data.model_copy(update={"train": plain.data.oracle, "source_val": None, "target": None}),
            "train": plain.train.model_copy(update={"epochs": epochs}),
            "evaluate": plain.evaluate.model_copy(update={"every": every, "select": "auto"}),
        }
    )


def _images(config: Config, name: Literal["train", "oracle"]) -> int:
    """Return the number of images of a dataset: those of its json, or of its folder."""
    from tlvision.formats.coco import read_images

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
