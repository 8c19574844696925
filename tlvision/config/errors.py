"""Turn pydantic's errors into sentences: the path of the key, its value, and what to write instead."""

from __future__ import annotations

from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from tlvision.types import nearest
from tlvision.types.shown import clip, shown

_CHANNEL_KEYS = {"in_channels", "in_chans", "channels"}
"""What users of other libraries write for images of one or many channels."""


class HookError(ValueError):
    """Sentences about wrong hooks, each complete; raised by the validator of the key `hooks`."""

    def __init__(self, sentences: list[str]) -> None:
        super().__init__("; ".join(sentences))
        self.sentences = sentences


def sentences(error: ValidationError, root: type[BaseModel], prefix: str = "") -> list[str]:
    """Return a sentence for each problem of a failed validation.

    root:   the model that was validated, for the names of its keys.
    prefix: dotted path of the value that was validated.
    """
    found = []
    for item in error.errors():
        cause = item.get("ctx", {}).get("error")
        found += cause.sentences if isinstance(cause, HookError) else [_sentence(dict(item), root, prefix)]
    return found


def _sentence(error: dict[str, Any], root: type[BaseModel], prefix: str) -> str:
    location = tuple(part for part in error["loc"] if not _is_union_tag(part))
    path = _dotted(prefix, location)
    kind, given = error["type"], error["input"]
    if kind == "extra_forbidden" and location[-1] in _CHANNEL_KEYS:
        return f"{path}: models see three channels, red, green and blue; remove it (docs/data-checks.md)"
    if kind == "extra_forbidden":
        return f"{path}: unknown key.{nearest(clip(str(location[-1])), _fields_at(root, location[:-1]))}"
    if kind == "missing":
        return f"{path}: missing; it has to be given"
    message = str(error["msg"]).removeprefix("Value error, ")
    remedy = ""
    if kind.startswith("bool") and str(given).lower() in {"yes", "no", "on", "off"}:
        remedy = ". Write true or false; yes, no, on and off are texts"
    elif kind in {"int_type", "float_type"} and isinstance(given, str) and _is_number(given):
        remedy = f". Write the number without quotes: {given.strip()}"
    return f"{path}: {message[0].lower() + message[1:]}, got {shown(given)}{remedy}"


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return len(text) < 30


# What pydantic puts into a location for the branch of a union; these are no keys.
_UNION_TAGS = {"int", "float", "str", "bool"}
_UNION_TAG_STARTS = ("list[", "dict[", "literal[", "constrained-", "function-")


def _is_union_tag(part: object) -> bool:
    return isinstance(part, str) and (part in _UNION_TAGS or part.startswith(_UNION_TAG_STARTS))


def _dotted(prefix: str, location: tuple[Any, ...]) -> str:
    path = prefix
    for part in location:
        text = clip(str(part))
        path += f"[{text}]" if isinstance(part, int) else f".{text}" if path else text
    return path or "(top level)"


def _fields_at(root: type[BaseModel], location: tuple[Any, ...]) -> list[str]:
    kinds: list[Any] = [root]  # the branches of a union side by side
    for part in location:
        kinds = [branch for kind in kinds for branch in _below(kind, str(part))]
    models = [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)]
    return [field.alias or name for model in models for name, field in model.model_fields.items()]


def _below(kind: Any, key: str) -> list[Any]:
    """Return the types, unions taken apart, of what lies at `key` in a value of the type `kind`."""
    if get_origin(kind) in {dict, list}:
        inner = get_args(kind)[-1]
    elif isinstance(kind, type) and issubclass(kind, BaseModel) and key in kind.model_fields:
        inner = kind.model_fields[key].annotation
    else:
        return []
    return _branches(inner)


def _branches(kind: Any) -> list[Any]:
    """Return the branches of a union, or the type itself, without annotations."""
    if get_origin(kind) is Annotated:
        return _branches(get_args(kind)[0])
    if get_origin(kind) in {Union, UnionType}:
        return [branch for each in get_args(kind) for branch in _branches(each)]
    return [kind]
