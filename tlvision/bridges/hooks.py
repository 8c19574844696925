"""Build the hooks of a bridge, and refuse those that the trainer of another library cannot serve."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import TypeAdapter, ValidationError

from tlvision.config.errors import HookError
from tlvision.config.hook_config import Hooks
from tlvision.hooks import DataHook, Hook, ModelHook, ObjectiveHook, ObserverHook
from tlvision.hooks.registry import build_hook
from tlvision.types import InputError

HookSpec = str | Mapping[str, Any] | Hook
"""A hook as an item of a config's list (`"ema"`, `{"freeze": {"roles": ["stem"]}}`), or a built one."""

REMEDY = "Train with tlvision's own trainer instead (`tlvision train`, or tlvision.train), or remove the hook."


def build_hooks(specs: Sequence[HookSpec], trainer: str) -> list[Hook]:
    """Return the hooks of a run in `trainer`.

    Raises InputError if a parameter is wrong, a hook is listed twice, or one needs what only tlvision's own trainer
    has: unlabelled images, labels of the batch, a teacher, its schedule, its evaluation or its run folder.
    """
    hooks = [spec if isinstance(spec, Hook) else _parse(spec, number) for number, spec in enumerate(specs)]
    keys = [hook.key() for hook in hooks]
    twice = sorted({key for key in keys if keys.count(key) > 1})
    if twice:
        raise InputError(f"hooks: '{twice[0]}' is listed more than once; a run has one of each")
    for hook in hooks:
        reason = reason_against(hook)
        if reason is not None:
            raise InputError(f"hooks: '{hook.key()}' {reason}, which {trainer} does not give a hook. {REMEDY}")
    return hooks


def reason_against(hook: Hook) -> str | None:
    """Return what a hook needs that a bridge does not have; None if it works in a bridge.

    >>> from tlvision.hooks.registry import hook_class
    >>> reason_against(hook_class("coral")())
    'needs unlabelled images in each batch'
    """
    needs = {
        "needs unlabelled images in each batch": hook.uses_unlabelled,
        "needs unlabelled images": hook.uses_target,
        "needs a teacher and pseudo-labels": hook.uses_teacher or hook.uses_pseudo_labels,
        "may need the labels of a batch": isinstance(hook, ObjectiveHook) and not hook.only_model,
        "needs the evaluations and the run folder of tlvision": isinstance(hook, ObserverHook) and not _averages(hook),
        "adds modules to the model": isinstance(hook, ModelHook),
        "changes images as they load": isinstance(hook, DataHook),
        "needs what a plugin knows of its model": bool(hook.needs),
    }
    return next((reason for reason, holds in needs.items() if holds), None)


def _averages(hook: ObserverHook) -> bool:
    return type(hook).evaluation_weights is not ObserverHook.evaluation_weights


def _parse(spec: str | Mapping[str, Any], number: int) -> Hook:
    try:
        (parsed,) = TypeAdapter(Hooks).validate_python([spec if isinstance(spec, str) else dict(spec)])
    except ValidationError as error:
        cause = error.errors()[0].get("ctx", {}).get("error")
        sentences = cause.sentences if isinstance(cause, HookError) else [str(cause or error)]
        raise InputError(
            "\n".join(sentence.replace("hooks[0]", f"hooks[{number}]") for sentence in sentences)
        ) from None
    return build_hook(parsed.name, parsed.parameters)
