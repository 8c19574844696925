"""Names to hooks: ours from the table below, anyone else's from the entry-point group `tlvision.hooks`.

A hook's parameters are the keyword-only parameters of its `__init__`; their annotations are checked strictly.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any, get_type_hints

from pydantic import BaseModel, ConfigDict, PydanticUserError, create_model

from tlvision.hooks.base import DataHook, Hook, ModelHook, ObjectiveHook, ObserverHook, SetupHook
from tlvision.types import InputError, TlvisionError, listing, nearest
from tlvision.types.shown import cause

GROUP = "tlvision.hooks"
BUILT_IN = {
    "lora": "tlvision.hooks.model.lora:Lora",
    "freeze": "tlvision.hooks.setup.freeze:Freeze",
    "gradual_unfreeze": "tlvision.hooks.setup.gradual_unfreeze:GradualUnfreeze",
    "linear_probe": "tlvision.hooks.setup.linear_probe:LinearProbe",
    "layerwise_lr": "tlvision.hooks.setup.layerwise_lr:LayerwiseLr",
    "lr_groups": "tlvision.hooks.setup.lr_groups:LrGroups",
    "warm_restart": "tlvision.hooks.setup.warm_restart:WarmRestart",
    "cyclic_lr": "tlvision.hooks.setup.cyclic_lr:CyclicLr",
    "prune": "tlvision.hooks.setup.prune:Prune",
    "l2_sp": "tlvision.hooks.objectives.l2_sp:L2Sp",
    "feature_distance": "tlvision.hooks.objectives.feature_distance:FeatureDistance",
    "distill": "tlvision.hooks.objectives.distill:Distill",
    "domain_adversarial": "tlvision.hooks.objectives.domain_adversarial:DomainAdversarial",
    "mmd": "tlvision.hooks.objectives.mmd:Mmd",
    "coral": "tlvision.hooks.objectives.coral:Coral",
    "entropy": "tlvision.hooks.objectives.entropy:Entropy",
    "fourier_style": "tlvision.hooks.data.fourier_style:FourierStyle",
    "colour_statistics": "tlvision.hooks.data.colour_statistics:ColourStatistics",
    "pseudo_labels": "tlvision.hooks.observers.pseudo_labels:PseudoLabels",
    "mean_teacher": "tlvision.hooks.objectives.mean_teacher:MeanTeacher",
    "masked_consistency": "tlvision.hooks.objectives.masked_consistency:MaskedConsistency",
    "class_mix": "tlvision.hooks.objectives.class_mix:ClassMix",
    "ema": "tlvision.hooks.observers.ema:Ema",
    "adabn": "tlvision.hooks.observers.adabn:Adabn",
    "early_stop": "tlvision.hooks.observers.early_stop:EarlyStop",
    "checkpoint": "tlvision.hooks.observers.checkpoint:Checkpoint",
    "log": "tlvision.hooks.observers.log:Log",
    "mlflow": "tlvision.hooks.observers.mlflow:Mlflow",
    "wandb": "tlvision.hooks.observers.wandb:Wandb",
}
KINDS: dict[str, type[Hook]] = {
    "model": ModelHook,
    "setup": SetupHook,
    "objective": ObjectiveHook,
    "data": DataHook,
    "observer": ObserverHook,
}
ALWAYS = ("log", "checkpoint")
"""Hooks that every run has; naming one in the config sets its parameters."""


@cache
def _third_party() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=GROUP)}


def clashes() -> dict[str, str]:
    """Return, for each name that several packages or a package and a built-in hook claim, a sentence about it."""
    origins: dict[str, set[str]] = {}
    for point in entry_points(group=GROUP):
        origins.setdefault(point.name, set()).add(point.value)
    sentences = {}
    for name, values in origins.items():
        where = listing(sorted(values))
        if name in BUILT_IN:
            sentences[name] = f"hook '{name}' ({where}): the name belongs to a built-in hook, which is used"
        elif len(values) > 1:
            sentences[name] = f"hook '{name}': several packages provide it ({where}); uninstall all but one"
    return sentences


def hook_names() -> tuple[str, ...]:
    """Return the names of all installed hooks, sorted, without importing any."""
    return tuple(sorted(BUILT_IN.keys() | _third_party().keys()))


def hook_class(name: str) -> type[Hook]:
    """Import the hook called `name` and check that it is one.

    Raises InputError if there is none (with the nearest name), several packages provide it, its module cannot be
    imported (with the cause), or the class breaks the rules of a hook (naming the hook, where it comes from, and the
    rule).
    """
    if name in BUILT_IN:
        origin = BUILT_IN[name]
        module, _, attribute = origin.partition(":")
        found = getattr(import_module(module), attribute)
    elif name in _third_party():
        if name in clashes():
            raise InputError(clashes()[name])
        origin = _third_party()[name].value
        found = _load(name, _third_party()[name])
    else:
        raise InputError(f"unknown hook '{name}'.{nearest(name, hook_names())}")
    try:
        _check(name, origin, found)
    except InputError:
        raise
    except Exception as error:  # the class of another package may do anything
        raise InputError(f"hook '{name}' ({origin}): {cause(error)}") from error
    return found  # type: ignore[no-any-return]


def kind_name(found: type[Hook]) -> str:
    """Return the kind of a hook: model, setup, objective, data or observer.

    >>> kind_name(hook_class("log"))
    'observer'
    """
    return next(kind for kind in KINDS if issubclass(found, KINDS[kind]))


def build_hook(name: str, parameters: BaseModel) -> Hook:
    """Build the hook called `name` with parameters that its `hook_schema` has checked.

    Raises InputError if a hook of another package cannot be built, with the cause.
    """
    found = hook_class(name)
    arguments = {field: getattr(parameters, field) for field in type(parameters).model_fields}
    if name in BUILT_IN:
        return found(**arguments)
    try:
        return found(**arguments)
    except TlvisionError:
        raise
    except Exception as error:
        raise InputError(f"hook '{name}' ({found.__module__}): it cannot be built ({cause(error)})") from error


def _load(name: str, point: EntryPoint) -> Any:
    try:
        return point.load()
    except (Exception, SystemExit) as error:  # a module of another package may do anything when it is imported
        raise InputError(
            f"hook '{name}': its entry point '{point.value}' cannot be imported ({cause(error)}). "
            "Update or uninstall the package that provides it."
        ) from error


def _check(name: str, origin: str, found: object) -> None:
    kinds = (ModelHook, SetupHook, ObjectiveHook, DataHook, ObserverHook)
    if not (isinstance(found, type) and issubclass(found, kinds)):
        raise InputError(
            f"hook '{name}' ({origin}): expected a class derived from ModelHook, SetupHook, ObjectiveHook, DataHook "
            "or ObserverHook"
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
    """Return a strict pydantic model of the parameters of a hook, the same one at every call.

    Raises InputError if the type of a parameter cannot be checked.
    """
    key: Any = found  # mypy does not know that classes are hashable
    return _hook_schema(key)


@cache
def _hook_schema(found: Any) -> type[BaseModel]:
    try:
        hints = get_type_hints(found.__init__, include_extras=True) if _parameters(found) else {}
        return _schema(found, hints)
    except (NameError, TypeError, AttributeError, PydanticUserError) as error:
        raise InputError(
            f"hook '{found.key()}' ({found.__module__}): a parameter of __init__ has a type that cannot be checked "
            f"({cause(error)})"
        ) from error


def _schema(found: type[Hook], hints: Mapping[str, Any]) -> type[BaseModel]:
    fields: dict[str, Any] = {
        parameter.name: (hints[parameter.name], ... if parameter.default is parameter.empty else parameter.default)
        for parameter in _parameters(found)
    }
    return create_model(found.key(), __config__=ConfigDict(extra="forbid", allow_inf_nan=False, strict=True), **fields)
