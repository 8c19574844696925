"""Write types, limits and defaults of settings as text, for `tlvision hooks` and `tlvision config-reference`."""

from __future__ import annotations

import inspect
import json
from collections.abc import Sequence
from types import NoneType, UnionType
from typing import Annotated, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

_SYMBOLS = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<"}


def docstring_text(described: type) -> str:
    """Return the docstring of a class without its example, which is for readers of the code."""
    return inspect.cleandoc(described.__doc__ or "").partition("\n>>>")[0].rstrip()


def field_text(field: FieldInfo) -> str:
    """Return type and limits of a setting.

    >>> from pydantic import Field
    >>> field_text(FieldInfo.from_annotation(Annotated[float, Field(ge=0, lt=1)]))
    'float, >= 0, < 1'
    """
    return ", ".join([type_text(field.annotation), *limits(field.metadata)])


def default_text(field: FieldInfo) -> str:
    """Return "required", or the default as a config writes it.

    >>> default_text(FieldInfo(default=None)), default_text(FieldInfo())
    ('default null', 'required')
    """
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True, validated_data={})
    return f"default {value if isinstance(value, str) else json.dumps(value, default=str)}"


def type_text(annotation: object) -> str:
    """Return a type, with the values of a config in place of Python's.

    >>> type_text(int | None), type_text(Literal["auto", "off"])
    ('int | null', 'auto | off')
    """
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        bounds = [bound for item in inner[1:] for bound in limits(getattr(item, "metadata", [item]))]
        return f"{type_text(inner[0])} {', '.join(bounds)}".rstrip()
    if origin in {Union, UnionType}:
        return " | ".join(type_text(item) for item in inner)
    if origin is Literal:
        return " | ".join(map(str, inner))
    if origin is not None:
        kind, items = (list, inner[:1]) if origin is tuple and inner[-1] is Ellipsis else (origin, inner)
        return f"{type_text(kind)}[{', '.join(type_text(item) for item in items)}]"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return f"{{{', '.join(annotation.model_fields)}}}"
    return "null" if annotation is NoneType else getattr(annotation, "__name__", str(annotation))


def limits(metadata: Sequence[object]) -> list[str]:
    """Return the bounds in the metadata of a type, such as [">= 0", "< 1"]."""
    return [
        f"{sign} {getattr(bound, key)}" for bound in metadata for key, sign in _SYMBOLS.items() if hasattr(bound, key)
    ]
