"""Read a config: compose its files, apply `--set`, and report all errors at once with their keys."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from tlvision.config.compose import UNLABELLED, compose
from tlvision.config.errors import sentences
from tlvision.config.hook_config import parameter_problems
from tlvision.config.renamed import upgrade
from tlvision.config.schema import Config
from tlvision.config.yaml_text import MAX_DEPTH, check_size, parse_yaml, write_yaml
from tlvision.hooks.registry import hook_class, hook_schema
from tlvision.plugin import HasOptions, Plugin
from tlvision.types import InputError, counted, nearest
from tlvision.types.shown import clip, shown


def load_config(
    source: str | Path | Mapping[str, Any],
    overrides: Sequence[str] = (),
    extra: Sequence[str] = (),
    *,
    beside: bool = True,
    earlier: bool = False,
) -> Config:
    """Return the config of a run.

    source:    the path of a YAML file, the name of a preset, several of these joined by "+", or a mapping of the form
               of a file; see `tlvision.config.compose`.
    overrides: "train.lr=2e-4" and so on; the value is YAML. "hooks.ema.decay=0.9" changes a hook that is there.
    extra:     paths or names that are added to the bases.
    beside:    whether relative paths in files may mean files next to them; not in the config of a run's folder.
    earlier:   whether hooks may have the parameters that earlier versions had; see `tlvision.config.renamed.upgrade`.

    Raises InputError that lists every wrong key with its path, and the nearest valid one.
    """
    return load_with_origins(source, overrides, extra, beside=beside, earlier=earlier)[0]


def load_with_origins(
    source: str | Path | Mapping[str, Any],
    overrides: Sequence[str] = (),
    extra: Sequence[str] = (),
    *,
    beside: bool = True,
    earlier: bool = False,
) -> tuple[Config, dict[str, str]]:
    """Return a config, and where its values come from: dotted key -> file, preset or "--set"; defaults are absent."""
    origin = "config" if isinstance(source, Mapping) else str(source)
    composed = compose(source, extra, beside=beside)
    values, origins = composed.values, composed.origins
    if earlier and isinstance(values.get("hooks"), list):
        values["hooks"] = upgrade(values["hooks"])
    for override in overrides:
        key = _apply(values, override)
        origins = {each: origin for each, origin in origins.items() if not f"{each}.".startswith(f"{key}.")}
        origins[key] = "--set"
    check_size(values, origin)
    problems = []
    config = None
    try:
        config = Config.model_validate(values)
    except ValidationError as error:
        problems = sentences(error, Config)
    for label, when in composed.when:
        problems += _when_problems(label, when)
    if problems or config is None:
        raise InputError(f"{origin}: {counted(len(problems), 'error')}:\n  {_lines(problems)}")
    return config, origins


def read_options(plugin: Plugin, given: Mapping[str, Any]) -> BaseModel | None:
    """Return `model.options` as the plugin's own type, or None if the plugin has none.

    Raises InputError that lists every wrong key, or if the plugin has no options.
    """
    if not isinstance(plugin, HasOptions):
        if given:
            raise InputError(
                f"model.options: the plugin '{plugin.name}' has no options, got {', '.join(map(str, given))}; "
                "remove model.options"
            )
        return None
    schema = plugin.options_type()
    try:
        return schema.model_validate(given, strict=True)
    except ValidationError as error:
        problems = sentences(error, schema, "model.options")
        raise InputError(f"config:\n  {_lines(problems)}") from error


def _lines(problems: Sequence[str]) -> str:
    """Return the problems one a line; of more than 30 the first, and a count."""
    more = [f"and {counted(len(problems) - _MOST_LINES, 'error')} more"] if len(problems) > _MOST_LINES else []
    return "\n  ".join([*problems[:_MOST_LINES], *more])


_MOST_LINES = 30


def dump_config(config: Config) -> str:
    """Return the resolved config as YAML, every default written out."""
    return write_yaml(config.model_dump(mode="json", by_alias=True))


def _apply(values: dict[str, Any], override: str) -> str:
    """Set one value and return its dotted key."""
    if not isinstance(override, str):
        raise InputError(f"--set: expected texts such as 'train.lr=2e-4', got {shown(override)}")
    path, equals, text = override.partition("=")
    keys = path.strip().split(".")
    path = clip(path)
    if not equals or not all(keys) or len(keys) > MAX_DEPTH:
        raise InputError(f"--set: expected key=value with a dotted key, such as train.lr=2e-4, got '{clip(override)}'")
    if keys[0] == "hooks" and len(keys) > 1:
        return _apply_to_hook(values, keys, parse_yaml(text, f"--set {path}"))
    target = values
    for depth, key in enumerate(keys[:-1]):
        below = target.get(key)
        if below is None:
            below = {}
        if not isinstance(below, dict):
            raise InputError(f"--set {path}: '{clip('.'.join(keys[: depth + 1]))}' is a value, not a section")
        target[key] = dict(below)
        target = target[key]
    target[keys[-1]] = parse_yaml(text, f"--set {path}")
    return ".".join(keys)


def _apply_to_hook(values: dict[str, Any], keys: Sequence[str], value: Any) -> str:
    """Set a parameter of a hook that the config has, such as hooks.ema.decay, and return its dotted key."""
    items = values.get("hooks")
    if not isinstance(items, list):
        items = []
    pairs = [{item: {}} if isinstance(item, str) else item for item in items]
    names = [name for pair in pairs if isinstance(pair, dict) for name in pair]
    path, name = clip(".".join(keys)), keys[1]
    if name not in names:
        known = nearest(name, names) if names else ""
        raise InputError(f"--set {path}: the config has no hook '{clip(name)}'.{known}")
    if len(keys) != 3:
        raise InputError(f"--set {path}: expected a parameter of the hook, such as hooks.{clip(name)}.weight")
    values["hooks"] = [
        {name: {**(pair[name] or {}), keys[2]: value}} if isinstance(pair, dict) and name in pair else pair
        for pair in pairs
    ]
    return ".".join(keys)


def _when_problems(label: str, when: Mapping[str, Any]) -> list[str]:
    """Check the values that a base holds for hooks, whether a run has them or not; a parameter may be missing."""
    problems = []
    for name, options in when.items():
        where = f"when.{name} ({label})"
        given = {key: value for key, value in options.items() if key != UNLABELLED}
        try:
            hook_schema(hook_class(str(name))).model_validate(given, strict=True)
        except InputError as error:
            problems.append(f"{where}: {error}")
        except ValidationError as error:
            problems += parameter_problems(error, str(name), where, partial=True)
        number = options.get(UNLABELLED, 1)
        if type(number) is not int or number < 1:
            problems.append(f"{where}.{UNLABELLED}: expected a number of images from 1 on, got {shown(number)}")
    return problems
