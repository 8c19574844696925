"""Compose one config from several files, so that shared values are written once.

Strength, from weak to strong: defaults of the schema and of hooks; the bases, in their order; values that a base holds
for a hook (`when`); the file itself; `--set`. Mappings are merged, other values replaced. Hooks are merged by name,
because a run has one of each: `- name: {key: value}` changes a key of a hook that a base has, `- name: null` removes
that hook. `data.batch.unlabelled` is the largest number that any of the bases asks for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tlvision.config.paths import resolve_paths
from tlvision.config.presets import presets
from tlvision.config.schema import Config
from tlvision.config.yaml_text import MAX_BYTES, check_size, parse_yaml
from tlvision.files.inputs import exists, read_text
from tlvision.hooks.registry import hook_class
from tlvision.types import InputError, leaves, nearest
from tlvision.types.shown import clip, shown

Values = dict[str, Any]
UNLABELLED = "unlabelled"


@dataclass(frozen=True, slots=True)
class Layer:
    """One file of a composition.

    label:  how it is named in messages and by `show --origin`.
    values: its content without `base` and `when`.
    when:   {hook: values for runs that have that hook}: parameters of the hook, and `unlabelled`, the images of
            data.target in a micro-batch.
    """

    label: str
    values: Values
    when: Mapping[str, Any]


@dataclass(slots=True)
class Composed:
    """A composed config.

    values:  values for the schema.
    origins: dotted key -> label of the file that it comes from; hooks are "hooks.<name>.<parameter>".
    when:    every `when` of the files, for the schema to check even if its hook is absent.
    """

    values: Values
    origins: dict[str, str] = field(default_factory=dict)
    when: list[tuple[str, Mapping[str, Any]]] = field(default_factory=list)


def compose(source: str | Path | Mapping[str, Any], extra: Sequence[str] = (), *, beside: bool = True) -> Composed:
    """Return the values of a config and of its bases.

    A relative path of an input (weights, labels, images) means a file next to the config that names it if there is
    one, else a file in the current folder.

    source: the path of a YAML file, the name of a preset, several of these joined by "+", or a mapping of the form of
            a file.
    extra:  paths or names that are added to the bases. Without a `base` of its own the config is the first of them.
    beside: False leaves relative paths as they are.

    Raises InputError if a file or a preset does not exist or has another form, a base has a base, two of the hooks of
    one file have one name, or a hook that is to be removed is not there.
    """
    layers = _layers(source, extra, beside=beside)
    when = [(layer.label, layer.when) for layer in layers if layer.when]
    broken = [layer for layer in layers if _hook_list(layer) is None]
    if broken:  # the schema says what is wrong with that list
        return Composed({**_merged_values(layers), "hooks": broken[0].values["hooks"]}, when=when)
    composed = Composed(_merged_values(layers), when=when)
    composed.values["hooks"] = _merged_hooks(layers, composed.origins)
    for layer in layers:
        _note_origins(layer.values, layer.label, composed.origins)
    _set_unlabelled(layers, composed)
    return composed


def _layers(source: str | Path | Mapping[str, Any], extra: Sequence[str], *, beside: bool) -> list[Layer]:
    if isinstance(source, Mapping):
        label, folder, values = "config", Path(), dict(source)
    else:
        first, *others = split_names(source)
        extra = [*others, *extra]
        path = find(first, Path())
        label, folder, values = _label(path), path.parent, _read(path, beside=beside)
    bases = values.pop("base", None)
    names = [bases] if isinstance(bases, str) else [] if bases is None else bases
    if not (isinstance(names, list) and all(isinstance(name, str) for name in names)):
        raise InputError(f"{label}: 'base' must be the name of a config or a list of names, got {shown(bases)}")
    top = _layer(label, values)
    lower = [_base(name, folder, beside=beside) for name in names]
    added = [_base(name, Path(), beside=beside) for name in extra]
    if lower:
        return [*lower, *added, top]
    return [top, *added, Layer(label, {}, {})] if added else [top]


def split_names(source: str | Path) -> list[str]:
    """Return the parts of "yolo+mean_teacher"; a path that exists is one part.

    >>> split_names("yolo+mean_teacher")
    ['yolo', 'mean_teacher']
    """
    text = str(source)
    return [text] if "+" not in text or exists(Path(text)) else [part.strip() for part in text.split("+")]


def find(name: str, folder: Path) -> Path:
    """Return the file that a name means: one of `folder`, with or without its ".yaml", then a preset.

    Raises InputError if there is none.
    """
    beside = folder / name
    with_suffix = beside.parent / f"{beside.name}.yaml"
    for path in (beside, with_suffix):
        if exists(path) and not path.is_dir():
            return path
    if name in presets():
        return presets()[name].path
    if exists(beside):
        return beside  # a folder: reading it says so
    missing = f"no config file '{clip(str(beside), 200)}'"
    if beside.suffix or len(Path(name).parts) != 1:
        raise InputError(missing)
    raise InputError(f"{missing}, and no preset of that name.{nearest(name, presets())}")


def _label(path: Path) -> str:
    preset = presets().get(path.stem)
    return path.stem if preset is not None and preset.path == path else str(path)


def _base(name: str, folder: Path, *, beside: bool) -> Layer:
    path = find(name, folder)
    values = _read(path, beside=beside)
    if "base" in values:
        raise InputError(f"{path}: a base cannot have a base of its own. Name both in 'base' of the config: [a, b].")
    return _layer(_label(path), values)


def _read(path: Path, *, beside: bool) -> Values:
    values = parse_yaml(read_text(path, "a config (YAML)", max_bytes=MAX_BYTES), str(path))
    if not isinstance(values, dict):
        raise InputError(f"{path}: expected a mapping with the keys {', '.join(Config.model_fields)}")
    check_size(values, str(path))
    return resolve_paths(values, path.parent) if beside else values


def _layer(label: str, values: Values) -> Layer:
    check_size(values, label)
    when = values.pop("when", {})
    if not (isinstance(when, dict) and all(isinstance(options, dict) for options in when.values())):
        raise InputError(f"{label}: 'when' must map names of hooks to parameters, got {shown(when)}")
    return Layer(label, values, when)


def _merged_values(layers: Sequence[Layer]) -> Values:
    merged: Values = {}
    for layer in layers:
        merged = merge(merged, {key: value for key, value in layer.values.items() if key != "hooks"})
    return merged


def merge(lower: Values, upper: Mapping[str, Any]) -> Values:
    """Return `lower` with the values of `upper`; mappings are merged, everything else is replaced.

    >>> merge({"a": {"b": 1, "c": 2}}, {"a": {"c": 3}})
    {'a': {'b': 1, 'c': 3}}
    """
    merged = dict(lower)
    for key, value in upper.items():
        below = merged.get(key)
        merged[key] = merge(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return merged


def _hook_list(layer: Layer) -> list[tuple[str, Any]] | None:
    """Return names and parameters of the hooks of a file; None if they are no list of hooks."""
    items = layer.values.get("hooks", [])
    if not isinstance(items, list):
        return None
    pairs = [{item: {}} if isinstance(item, str) else item for item in items]
    if not all(isinstance(pair, dict) and len(pair) == 1 for pair in pairs):
        return None
    found = [next(iter(pair.items())) for pair in pairs]
    if not all(isinstance(name, str) and isinstance(options, dict | None) for name, options in found):
        return None
    names = [name for name, _ in found]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise InputError(f"{layer.label}: hooks: '{twice[0]}' is given twice. A run has one hook of each name.")
    return found


def _merged_hooks(layers: Sequence[Layer], origins: dict[str, str]) -> list[Values]:
    """Return the hooks of all files by name, in the order in which they come up, and note where parameters are from."""
    hooks: dict[str, Values] = {}
    for number, layer in enumerate(layers):
        if number == len(layers) - 1:
            _apply_when(layers, hooks, layer, origins)
        for name, options in _hook_list(layer) or []:
            if options is None:
                if name not in hooks:
                    raise InputError(f"{layer.label}: hooks: '{name}: null' removes a hook that no base has.")
                del hooks[name]
                continue
            hooks[name] = merge(hooks.get(name, {}), options)
            _note_origins({"hooks": {name: options}}, layer.label, origins)
    return [{name: options} for name, options in hooks.items()]


def _apply_when(layers: Sequence[Layer], hooks: dict[str, Values], top: Layer, origins: dict[str, str]) -> None:
    """Give hooks that are there, or that the file itself brings, the values that bases hold for them."""
    for name in (name for name, options in _hook_list(top) or [] if options is not None):
        hooks.setdefault(name, {})
    for layer in layers:
        for name, tuned in layer.when.items():
            if name in hooks:
                options = {key: value for key, value in tuned.items() if key != UNLABELLED}
                hooks[name] = merge(hooks[name], options)
                _note_origins({"hooks": {name: options}}, f"{layer.label} (when {name})", origins)


def _note_origins(values: Mapping[str, Any], label: str, origins: dict[str, str]) -> None:
    named = {name: value for name, value in values.items() if name != "hooks" or isinstance(value, dict)}
    # An empty file sets nothing, and no leaf of its own.
    origins |= {key: label for key, _ in leaves(named) if key}


def _set_unlabelled(layers: Sequence[Layer], composed: Composed) -> None:
    """Set `data.batch.unlabelled` to the largest number of the bases, if the file itself has none.

    Of a base with hooks that learn from unlabelled images, those that are left count, each with the number that a
    `when` has for it, else with that of its file.
    """
    *bases, top = layers
    if not bases or _unlabelled(top.values) is not None:
        return
    tuned = {
        name: options[UNLABELLED] for each in layers for name, options in each.when.items() if UNLABELLED in options
    }
    numbers: list[tuple[Any, str]] = []
    kept = {name for item in composed.values["hooks"] for name in item}
    for layer in bases:
        number = _unlabelled(layer.values)
        brought = [name for name, options in _hook_list(layer) or [] if options is not None and _learns(name)]
        names = [name for name in brought if name in kept]
        if number is not None and (names or not brought):
            wanted = [tuned.get(name, number) for name in names]
            numbers.append((max(wanted, default=number), layer.label))
    if not numbers and _unlabelled(composed.values) is not None:  # of methods whose hooks are all removed
        numbers.append((0, top.label))
    if numbers and all(isinstance(number, int) for number, _ in numbers):
        largest, label = max(numbers)
        composed.values = merge(composed.values, {"data": {"batch": {UNLABELLED: largest}}})
        composed.origins[f"data.batch.{UNLABELLED}"] = label


def _learns(name: str) -> bool:
    """Return whether a hook learns from unlabelled images; False if there is no such hook, which the schema reports."""
    try:
        return hook_class(name).uses_unlabelled
    except InputError:
        return False


def _unlabelled(values: Mapping[str, Any]) -> Any:
    data = values.get("data")
    batch = data.get("batch") if isinstance(data, dict) else None
    return batch.get(UNLABELLED) if isinstance(batch, dict) else None
