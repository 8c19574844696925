"""The hooks of a config: names and checked parameters, parsed once, when the config is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, PlainSerializer, PlainValidator, ValidationError

from tlvision.config.errors import HookError, sentences
from tlvision.config.renamed import where_now
from tlvision.hooks.registry import ALWAYS, hook_class, hook_schema
from tlvision.types import InputError
from tlvision.types.shown import shown


@dataclass(frozen=True, slots=True)
class HookConfig:
    """A hook of a run. Two are equal if their parameters are, written out or not.

    name:       its name in the config.
    parameters: all parameters of its `__init__`, checked.
    """

    name: str
    parameters: BaseModel

    @property
    def given(self) -> dict[str, Any]:
        """Return the parameters that the config states, as plain YAML values."""
        return self.parameters.model_dump(mode="json", exclude_unset=True)


def parse_hook(name: str, options: Mapping[str, Any] | None = None) -> HookConfig:
    """Return a hook with checked parameters.

    Raises InputError if there is no such hook or it is broken, and pydantic's ValidationError if a parameter is wrong.

    >>> parse_hook("ema", {"decay": 0.9}).parameters.decay
    0.9
    """
    return HookConfig(name, hook_schema(hook_class(name)).model_validate(options or {}, strict=True))


def all_hooks(hooks: Sequence[HookConfig]) -> tuple[HookConfig, ...]:
    """Return the hooks of a run: those of its config, then those that every run has and the config does not name."""
    named = {hook.name for hook in hooks}
    return (*hooks, *(parse_hook(name) for name in ALWAYS if name not in named))


def _parse_hooks(value: object) -> tuple[HookConfig, ...]:
    """Read `- ema` or `- ema: {decay: 0.9}`; null would remove a hook of a base, and none is left here."""
    if not isinstance(value, list | tuple):
        raise ValueError("expected a list of hooks")
    parsed, problems = [], []
    for number, item in enumerate(value):
        pair = {item: {}} if isinstance(item, str) else item
        if isinstance(item, HookConfig):
            parsed.append(item)
        elif isinstance(pair, dict) and len(pair) == 1 and all(isinstance(each, dict) for each in pair.values()):
            ((name, options),) = pair.items()
            try:
                parsed.append(parse_hook(str(name), options))
            except InputError as error:
                problems.append(f"hooks[{number}]: {error}")
            except ValidationError as error:
                problems += parameter_problems(error, str(name), f"hooks[{number}].{name}")
        else:
            problems.append(
                f"hooks[{number}]: expected one hook in each item, such as '- ema' or '- freeze: {{through: neck}}', "
                f"got {shown(item)}"
            )
    if problems:
        raise HookError(problems)
    return tuple(parsed)


def parameter_problems(error: ValidationError, name: str, path: str, *, partial: bool = False) -> list[str]:
    """Return a sentence for each wrong parameter of a hook; a parameter that has moved to another hook is named there.

    path:    dotted path of the parameters.
    partial: parameters may be missing.
    """
    found = []
    for item, sentence in zip(error.errors(), sentences(error, hook_schema(hook_class(name)), path), strict=True):
        now = where_now(name, str(item["loc"][-1])) if item["type"] == "extra_forbidden" else None
        if now is not None:
            found.append(f"{path}.{item['loc'][-1]}: unknown key. Set it as {now}.")
        elif not (partial and item["type"] == "missing"):
            found.append(sentence)
    return found


def _dump_hooks(hooks: Sequence[HookConfig]) -> list[dict[str, Any]]:
    return [{hook.name: hook.given} for hook in hooks]


Hooks = Annotated[tuple[HookConfig, ...], PlainValidator(_parse_hooks), PlainSerializer(_dump_hooks)]
"""The key `hooks` of a config: `[{ema: {decay: 0.9}}, …]`, in the order in which they act."""
