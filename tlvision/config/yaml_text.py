"""Read and write YAML as configs have it: the core schema of YAML 1.2, plain values only, of limited size."""

from __future__ import annotations

import re
from typing import Any

import yaml

from tlvision.types import InputError
from tlvision.types.shown import clip

MAX_BYTES = 1 << 18
MAX_VALUES = 10_000
MAX_DEPTH = 50


class _Loader(yaml.SafeLoader):
    """YAML 1.2: `off`, `on`, `yes`, `no`, dates and 1:30 are texts, 1e-3 is a number; a key may be given once."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012


class _Dumper(yaml.SafeDumper):
    """Quotes each text that `_Loader` would take for something else."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012


_SCALARS = {
    "bool": (r"true|True|TRUE|false|False|FALSE", "tTfF"),
    "null": (r"~|null|Null|NULL|", "~nN\0"),
    "int": (r"[-+]?(?:0|[1-9][0-9]*)", "-+0123456789"),
    "float": (
        r"[-+]?(?:\.[0-9]+|[0-9]+\.[0-9]*|[0-9]+(?=[eE]))(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        "-+.0123456789",
    ),
    "merge": (r"<<", "<"),
}
for _kind, (_pattern, _first) in _SCALARS.items():
    for _class in (_Loader, _Dumper):
        _class.add_implicit_resolver(
            f"tag:yaml.org,2002:{_kind}", re.compile(rf"^(?:{_pattern})$"), [c if c != "\0" else "" for c in _first]
        )
# SafeDumper quotes what YAML 1.1 takes for booleans, dates and so on: other readers see the same as this one.
for _key, _rules in yaml.SafeDumper.yaml_implicit_resolvers.items():
    _Dumper.yaml_implicit_resolvers.setdefault(_key, []).extend(_rules)


def _unique_mapping(loader: yaml.SafeLoader, node: yaml.MappingNode) -> dict[Any, Any]:
    line = f"{node.start_mark.name}, line {node.start_mark.line + 1}"
    known = set()
    for key_node, _ in node.value:
        key = loader.construct_object(key_node, deep=True)
        if isinstance(key, dict | list | set):
            raise InputError(f"{line}: a key of the mapping is a list or a mapping. Use a plain word as key.")
        if key in known:
            raise InputError(f"{line}: the key '{clip(str(key))}' is given twice. Keep one of them.")
        known.add(key)
    return loader.construct_mapping(node, deep=True)


_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _unique_mapping)


def _text(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> str:
    r"""Return a text; JSON's escapes of one character by two, such as "\ud83d\ude00", become that character."""
    text = str(loader.construct_scalar(node))
    if text.isascii():
        return text
    try:
        return text.encode("utf-16", "surrogatepass").decode("utf-16")
    except UnicodeDecodeError:
        line = f"{node.start_mark.name}, line {node.start_mark.line + 1}"
        raise InputError(f"{line}: half of a surrogate pair in {clip(text)!a}. Write the character itself.") from None


_Loader.add_constructor("tag:yaml.org,2002:str", _text)


def parse_yaml(text: str, origin: str) -> Any:
    """Return the value of a YAML text.

    origin: the file or the option, for messages.

    Raises InputError with line and column: not YAML, larger than 256 KiB, more than 10,000 values after aliases are
    expanded, nested more than 50 deep, a key that is given twice.
    """
    if len(text) > MAX_BYTES:
        raise InputError(f"{origin}: the text has {len(text):,} characters. A config has at most {MAX_BYTES:,}.")
    try:
        loader = _Loader(text)
        loader.name = origin
        value = loader.get_single_data()
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        problem = getattr(error, "problem", None) or str(error).partition("\n")[0]
        raise InputError(f"{origin}{where}: not YAML ({clip(problem, 200)})") from error
    except RecursionError:
        raise InputError(f"{origin}: nested too deeply. A config is nested at most {MAX_DEPTH} deep.") from None
    except InputError:
        raise
    except Exception as error:  # explicit tags such as `!!int x` make PyYAML fail in many ways
        raise InputError(f"{origin}: not YAML ({type(error).__name__}: {clip(str(error), 200)})") from error
    check_size(value, origin)
    return value


def write_yaml(value: Any) -> str:
    """Return a value as YAML text that `parse_yaml` reads back as the same value."""
    text: str = yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True)
    return text


def check_size(value: Any, origin: str) -> None:
    """Raise InputError if a structure of dicts and lists is deeper than 50, or holds more than 10,000 values.

    A part that several places share (by aliases in YAML) counts once for each place, without being walked again.
    """
    counts: dict[int, int] = {}

    def count(part: Any, depth: int) -> int:
        if not isinstance(part, dict | list | tuple):
            return 1
        if depth > MAX_DEPTH:
            raise InputError(f"{origin}: nested too deeply. A config is nested at most {MAX_DEPTH} deep.")
        if id(part) not in counts:
            counts[id(part)] = 0
            inner = part.values() if isinstance(part, dict) else part
            counts[id(part)] = 1 + sum(count(item, depth + 1) for item in inner)
            if counts[id(part)] > MAX_VALUES:
                raise InputError(
                    f"{origin}: more than {MAX_VALUES:,} values, after aliases are expanded. Write a smaller config."
                )
        elif counts[id(part)] == 0:
            raise InputError(f"{origin}: a part of the config contains itself. Remove the alias (*name) that does.")
        return counts[id(part)]

    count(value, 0)
