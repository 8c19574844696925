"""Names to hooks: ours from the table below, anyone else's from the entry-point group `tlvision.hooks`.

A hook's parameters are the keyword-only parameters of its `__init__`; their annotations are checked strictly.
"""

from __future__ import annotations

import inspect
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any, get_type_hints

from pydantic import BaseModel, ConfigDict, create_model

from tlvision.hooks.base import DataHook, Hook, ObjectiveHook, ObserverHook, SetupHook
from tlvision.types import InputError, nearest

GROUP = "tlvision.hooks"
BUILT_IN = {
    "freeze": "tlvision.hooks.setup.freeze:Freeze",
    "gradual_unfreeze": "tlvision.hooks.setup.gradual_unfreeze:GradualUnfreeze",
    "linear_probe": "tlvision.hooks.setup.linear_probe:LinearProbe",
    "layerwise_lr": "tlvision.hooks.setup.layerwise_lr:LayerwiseLr",
    "lr_groups": "tlvision.hooks.setup.lr_groups:LrGroups",
    "warm_restart": "tlvision.hooks.setup.warm_restart:WarmRestart",
    "cyclic_lr": "tlvision.hooks.setup.cyclic_lr:CyclicLr",
    "l2_sp": "tlvision.hooks.objectives.l2_sp:L2Sp",
    "feature_distance": "tlvision.hooks.objectives.feature_distance:FeatureDistance",
    "domain_adversarial": "tlvision.hooks.objectives.domain_adversarial:DomainAdversarial",
    "mmd": "tlvision.hooks.objectives.mmd:Mmd",
    "coral": "tlvision.hooks.objectives.coral:Coral",
    "entropy": "tlvision.hooks.objectives.entropy:Entropy",
    "fourier_style": "tlvision.hooks.data.fourier_style:FourierStyle",
    "colour_statistics": "tlvision.hooks.data.colour_statistics:ColourStatistics",
    "mean_teacher": "tlvision.hooks.objectives.mean_teacher:MeanTeacher",
    "masked_consistency": "tlvision.hooks.objectives.masked_consistency:MaskedConsistency",
    "class_mix": "tlvision.hooks.objectives.class_mix:ClassMix",
    "ema": "tlvision.hooks.observers.ema:Ema",
    "adabn": "tlvision.hooks.observers.adabn:Adabn",
    "early_stop": "tlvision.hooks.observers.early_stop:EarlyStop",
    "checkpoint": "tlvision.hooks.observers.checkpoint:Checkpoint",
    "log": "tlvision.hooks.observers.log:Log",
}
ALWAYS = ("log", "checkpoint")
"""Hooks that every run has; naming one in the config sets its parameters."""


@cache
def _third_party() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=GROUP)}


def hook_names() -> tuple[str, ...]:
    """Return the names of all installed hooks, sorted, without importing any."""
    return tuple(sorted(BUILT_IN.keys() | _third_party().keys()))


def hook_class(name: str) -> type[Hook]:
    """Import the hook called `name` and check that it is one.

    Raises InputError where there is none (with the nearest name), or where the class breaks the rules of a hook
    (naming the hook, where it comes from, and the rule).
    """
    if name in BUILT_IN:
        origin = BUILT_IN[name]
        module, _, attribute = origin.partition(":")
        found = getattr(import_module(module), attribute)
    elif name in _third_party():
        origin = _third_party()[name].value
        found = _third_party()[name].load()
    else:
        raise InputError(f"unknown hook '{name}'.{nearest(name, hook_names())}")
    _check(name, origin, found)
    return found  # type: ignore[no-any-return]


def _check(name: str, origin: str, found: object) -> None:
    kinds = (SetupHook, ObjectiveHook, DataHook, ObserverHook)
    if not (isinstance(found, type) and issubclass(found, kinds)):
        raise InputError(
            f"hook '{name}' ({origin}): expected a class derived from SetupHook, ObjectiveHook, DataHook or "
            "ObserverHook"
        )
    if found.key() != name:
        raise InputError(
            f"hook '{name}' ({origin}): its class name gives the key '{found.key()}'; both must be the same"
        )
    for parameter in _parameters(found):
        if parameter.kind is not parameter.KEYWORD_ONLY or parameter.annotation is parameter.empty:
            raise InputError(
                f"hook '{name}' ({origin}): the parameter '{parameter.name}' of __init__ must be keyword-only and typed"
            )


def _parameters(found: type[Hook]) -> list[inspect.Parameter]:
    if found.__init__ is object.__init__:
        return []
    return [p for p in inspect.signature(found.__init__).parameters.values() if p.name != "self"]


def hook_schema(found: type[Hook]) -> type[BaseModel]:
    """Return a strict pydantic model of the parameters of a hook."""
    hints = get_type_hints(found.__init__, include_extras=True) if _parameters(found) else {}
    fields: dict[str, Any] = {
        parameter.name: (hints[parameter.name], ... if parameter.default is parameter.empty else parameter.default)
        for parameter in _parameters(found)
    }
    return create_model(found.key(), __config__=ConfigDict(extra="forbid", allow_inf_nan=False, strict=True), **fields)
