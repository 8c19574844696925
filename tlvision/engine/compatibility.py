"""Check that hooks, model and data are compatible. Runs before any image is read."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

from tlvision.config.schema import Config, EvaluateSettings
from tlvision.evaluation import score_map
from tlvision.hooks import Hook, ObjectiveHook
from tlvision.plugin import Adapter, Plugin
from tlvision.plugin.registry import usable_plugins
from tlvision.tasks import Task
from tlvision.tasks.registry import built_in_tasks
from tlvision.types import InputError, counted

PSEUDO_LABELS = "pseudo_labels"
"""Name of the hook that makes pseudo-labels, which other hooks learn from."""
MAX_PASSES = 32
"""A step takes each image at most so many times: a few images may fill a larger batch, more is a slip."""


def check_packages(hooks: Sequence[Hook], evaluate: EvaluateSettings) -> None:
    """Raise InputError if a package that a hook or the evaluation imports in a run is not installed."""
    needed = [(f"hooks: '{hook.key()}'", *each) for hook in hooks for each in hook.packages.items()]
    if evaluate.calibration != "none":
        needed.append((f"evaluate.calibration: '{evaluate.calibration}'", score_map.PACKAGE, score_map.INSTALL))
    for owner, package, command in needed:
        spec = find_spec(package)
        if spec is None or spec.origin is None:  # a folder of that name, such as W&B's own, has no origin
            raise InputError(f"{owner} needs the package '{package}', which is missing. {command}")


def check_pairing(hooks: Sequence[Hook], plugin: Plugin, task: Task) -> None:
    """Raise InputError if a hook needs what no model of `plugin` for `task` has; the models need not be built."""
    for hook in hooks:
        for needed in hook.needs:
            if not _may_have(plugin, task, needed):
                raise InputError(_refusal(hook, needed, plugin))


def check_needs(hook: Hook, adapter: Adapter, plugin: Plugin) -> None:
    """Raise InputError if a hook needs a capability that this model does not have."""
    for needed in hook.needs:
        if not isinstance(adapter, needed):
            raise InputError(_refusal(hook, needed, plugin))


def check_taps(hook: Hook, adapter: Adapter) -> None:
    """Raise InputError if a hook, after `prepare`, needs a tap that the model does not have."""
    if isinstance(hook, ObjectiveHook):
        known = [tap.name for tap in adapter.taps]
        for tap in hook.taps:
            if tap not in known:
                raise InputError(f"hooks: '{hook.key()}' needs the tap '{tap}'; this model has {', '.join(known)}")


def _may_have(plugin: Plugin, task: Task, needed: type) -> bool:
    """Return whether a plugin declares, or does not deny, that its models for `task` have a capability."""
    name = needed.__name__
    if name in task.capabilities or _tasks_with(name):  # not declared by plugins: the task decides
        return name in task.capabilities
    said = plugin.capabilities.get(name, "")
    return not said.startswith(("impossible", "not written"))


def _refusal(hook: Hook, needed: type, plugin: Plugin) -> str:
    reason = plugin.capabilities.get(needed.__name__, "")
    why = f" ({reason})" if reason and reason != "yes" else ""
    able = [other.name for other in usable_plugins() if _offers(other, needed)]
    others = f"; models of {', '.join(able)} do" if able else ""
    kind = "".join(f" for {task.noun}" for task in _tasks_with(needed.__name__))
    return (
        f"hooks: '{hook.key()}' needs {needed.__name__}, which this model of plugin '{plugin.name}' does not offer{why}"
        f"{others}{kind if able else ''}"
    )


def _offers(plugin: Plugin, needed: type) -> bool:
    if tasks := _tasks_with(needed.__name__):
        return any(task.name in plugin.tasks for task in tasks)
    return plugin.capabilities.get(needed.__name__) == "yes"


def _tasks_with(capability: str) -> list[Task]:
    """Return the tasks of which every model has the capability, and no other model."""
    return [task for task in built_in_tasks() if capability in task.capabilities]


def check_step_size(config: Config, labelled: int, unlabelled: int | None, processes: int) -> None:
    """Raise InputError if one step takes each image more than `MAX_PASSES` times.

    labelled, unlabelled: the number of training images, and of those of data.target (None if it is absent).
    """
    batch, accumulate = config.data.batch, config.train.accumulate
    for key, size, images in (("labelled", batch.labelled, labelled), ("unlabelled", batch.unlabelled, unlabelled)):
        wanted = size * accumulate * processes
        if images and wanted > MAX_PASSES * images:
            factors = [f"data.batch.{key} {size}", f"train.accumulate {accumulate}"]
            factors += [counted(processes, "process", "processes")] if processes > 1 else []
            raise InputError(
                f"data.batch.{key}: one step takes {wanted:,} images ({' x '.join(factors)}), but there are "
                f"{images:,}. A step may take each image {MAX_PASSES} times. "
                f"Use at most {MAX_PASSES * images:,} images a step."
            )


def check_unlabelled(config: Config, hooks: Sequence[Hook]) -> None:
    """Raise InputError if hooks and `data` disagree on unlabelled images, a teacher or pseudo-labels."""
    names = {hook.key() for hook in hooks}
    target, unlabelled = config.data.target, config.data.batch.unlabelled
    for hook in hooks:
        if target is None and (hook.uses_target or hook.uses_unlabelled):
            raise InputError(
                f"hooks: '{hook.key()}' learns from unlabelled images. Set data.target: {{images: FOLDER}}."
            )
        if hook.uses_unlabelled and not unlabelled:
            raise InputError(
                f"hooks: '{hook.key()}' needs unlabelled images in each batch. Set data.batch.unlabelled, "
                f"for example to data.batch.labelled ({config.data.batch.labelled})."
            )
        if hook.uses_teacher and config.model.score_floor is not None:
            raise InputError(
                f"model.score_floor: '{hook.key()}' also uses predictions of low confidence, which would be left "
                "out. Remove it."
            )
        if hook.uses_teacher and "ema" not in names:
            raise InputError(
                f"hooks: '{hook.key()}' needs a teacher, which is the average that the hook 'ema' keeps. Add "
                "'- ema: {decay: 0.999, warmup: 100}' to hooks."
            )
        if hook.uses_pseudo_labels and PSEUDO_LABELS not in names:
            raise InputError(
                f"hooks: '{hook.key()}' learns from pseudo-labels, but the hook '{PSEUDO_LABELS}' is missing. Add "
                f"'- {PSEUDO_LABELS}: {{threshold: 0.8, burn_in: 0.2}}' to hooks."
            )
    if unlabelled and not any(hook.uses_unlabelled for hook in hooks):
        raise InputError(
            f"data.batch.unlabelled is {unlabelled}, but no hook learns from unlabelled images. Set it to 0, or add "
            "one of the hooks that `tlvision hooks` lists for domain adaptation."
        )


def unused_pseudo_labels(hooks: Sequence[Hook]) -> list[str]:
    """Return a note if no hook learns from the pseudo-labels that another one makes."""
    if any(hook.uses_pseudo_labels for hook in hooks) or PSEUDO_LABELS not in {hook.key() for hook in hooks}:
        return []
    return [
        f"hooks: '{PSEUDO_LABELS}' has no effect, because no hook learns from pseudo-labels. Add mean_teacher, "
        f"masked_consistency or class_mix, or remove it ('- {PSEUDO_LABELS}: null' if a base has it)."
    ]


def check_keys(config: Config, task: Task) -> None:
    """Raise InputError if the config sets a key that has no effect on models for `task`."""
    tasks = {each.name: each for each in (*built_in_tasks(), task)}
    for path in sorted({key for each in tasks.values() for key in each.settings} - task.settings):
        *sections, key = path.split(".")
        values: Any = config
        for section in sections:
            values = getattr(values, section)
        value = getattr(values, key)
        if value != type(values).model_fields[key].default:
            names = " or ".join(f"'{name}'" for name, each in tasks.items() if path in each.settings)
            raise InputError(
                f"{path}: {value} has no effect, because it is for models of the task {names}, and this one is for "
                f"'{task.name}'; remove it"
            )
