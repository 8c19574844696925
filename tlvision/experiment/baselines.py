"""Build the baseline configs (zero-shot, source-only, oracle) for a domain-adaptation comparison.

zero_shot     the pretrained weights as they are, on the target
source_only   the same images, augmentation, average and steps, without what learns from the target
<method>      the config as it is
oracle        labels of the target, for as many steps: what could be had
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tlvision.config.compose import split_names
from tlvision.config.hook_config import HookConfig, parse_hook
from tlvision.config.load import load_config
from tlvision.config.presets import presets
from tlvision.config.schema import BatchSettings, Config
from tlvision.engine.labels import resolve_labels
from tlvision.engine.steps import steps_per_epoch
from tlvision.hooks.registry import hook_class
from tlvision.types import InputError

Kind = Literal["zero_shot", "source_only", "method", "oracle"]
KINDS: tuple[Kind, ...] = ("zero_shot", "source_only", "method", "oracle")


@dataclass(frozen=True, slots=True)
class Arm:
    """One row of the table.

    name:   its name, and that of its folder.
    kind:   its role in the comparison.
    config: its config, for any seed.
    """

    name: str
    kind: Kind
    config: Config


def make_arms(
    sources: Sequence[str | Path], overrides: Sequence[str], kinds: Sequence[Kind], extra: Sequence[str] = ()
) -> list[Arm]:
    """Return the arms of a comparison; the baselines are built from the settings that all methods share.

    sources:   configs that differ in their hooks only, and in `data.batch.unlabelled`; as for `load_config`.
    overrides: "train.epochs=5" and so on, for all of them.
    extra:     files or presets that are added to the bases of all of them.
    kinds:     which arms to run; an oracle only where the config has `data.oracle`.

    Raises InputError if the configs do not fit a comparison: no `data.val`, another model, data or schedule.
    """
    names = arm_names(sources)
    methods = [
        Arm(name, "method", load_config(source, overrides, extra)) for name, source in zip(names, sources, strict=True)
    ]
    first_name, first = methods[0].name, methods[0].config
    if first.data.val is None:
        raise InputError(
            "adapt: data.val is missing; the table needs labelled images of the target to evaluate on (they choose no "
            "checkpoint and train nothing)"
        )
    for arm in methods[1:]:
        _require_match(methods[0], arm)
    for name in names:
        if names.count(name) > 1 or name in {kind for kind in KINDS if kind != "method"}:
            raise InputError(f"adapt: the name '{name}' is taken; give the config another name")
    plain = source_only([arm.config for arm in methods])
    if all(arm.config == plain for arm in methods):
        raise InputError(
            f"adapt: '{first_name}' uses no target data, so it equals the source-only baseline. Add at least one "
            "method that uses the target, or the same config without its hooks."
        )
    arms = [Arm(kind, kind, plain) for kind in KINDS[:2] if kind in kinds]
    arms += methods if "method" in kinds else []
    if "oracle" in kinds and first.data.oracle is not None:
        arms.append(Arm("oracle", "oracle", oracle(plain)))
    return arms


def arm_names(sources: Sequence[str | Path]) -> list[str]:
    """Return a name for each method: its file's, or the parts of a composition that are not shared by all of them.

    >>> arm_names(["yolo+mean_teacher", "yolo+keep_pretrained+mean_teacher", "runs/mine.yaml"])
    ['mean_teacher', 'keep_pretrained+mean_teacher', 'mine']
    """
    parts = [[Path(part).stem for part in split_names(source)] for source in sources]
    shared = set.intersection(*map(set, parts)) if len(parts) > 1 else set()
    kept = {name for name, preset in presets().items() if preset.kind == "methods"}
    beside = (shared - kept) | (presets().keys() - kept)
    return ["+".join([part for part in each if part not in beside] or each) for each in parts]


def uses_target(name: str) -> bool:
    """Return whether a hook learns from the target, and so is excluded from the source-only baseline."""
    found = hook_class(name)
    return found.uses_target or found.uses_unlabelled


def has_teacher(config: Config) -> bool:
    """Return whether a hook of the config learns from a teacher."""
    return any(hook_class(hook.name).uses_teacher for hook in config.hooks)


def source_only(methods: Sequence[Config]) -> Config:
    """Return the first config without unlabelled images and with those hooks only that all have, as they have them.

    Of those, the ones that use the target go too. So the differences between methods count as the method,
    and what a single one has besides (a freeze) as the recipe; the order of the methods does not matter. Of a hook that
    they have with different parameters, the equal ones stay: norms that all freeze, if one freezes a backbone as well.
    """
    config = methods[0]
    others = [{hook.name: hook for hook in other.hooks} for other in methods]
    shared = [_shared(hook.name, others) for hook in config.hooks if not uses_target(hook.name)]
    hooks = tuple(hook for hook in shared if hook is not None)
    batch = BatchSettings(labelled=config.data.batch.labelled)
    return config.model_copy(update={"hooks": hooks, "data": config.data.model_copy(update={"batch": batch})})


def _shared(name: str, methods: Sequence[Mapping[str, HookConfig]]) -> HookConfig | None:
    """Return a hook with the parameters that all methods give it; None if one lacks the hook or nothing is equal."""
    if not all(name in hooks for hooks in methods):
        return None
    first = methods[0][name]
    if all(hooks[name] == first for hooks in methods):
        return first
    others = [hooks[name].given for hooks in methods]
    equal = {
        key: value for key, value in first.given.items() if all(other.get(key, _ABSENT) == value for other in others)
    }
    return parse_hook(name, equal) if equal else None


_ABSENT = object()


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

    data = resolve_labels(config)[0].data
    settings = data.train if name == "train" else data.oracle
    assert settings is not None
    return len(read_images(settings.images, settings.json_).images)


def _require_match(one: Arm, other: Arm) -> None:
    """Raise InputError if two methods would not be compared on the same work."""
    for key in ("model", "train", "evaluate"):
        if getattr(one.config, key) != getattr(other.config, key):
            raise InputError(f"adapt: '{other.name}' has another '{key}' than '{one.name}'; only hooks may differ")
    if one.config.data != other.config.data.model_copy(update={"batch": one.config.data.batch}):
        raise InputError(f"adapt: '{other.name}' has other 'data' than '{one.name}'; only hooks may differ")
    if one.config.data.batch.labelled != other.config.data.batch.labelled:
        raise InputError(f"adapt: '{other.name}' has another data.batch.labelled than '{one.name}'")
