"""Parameters of hooks that earlier versions kept elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

_LABELS = "pseudo_labels"
_MOVED = {
    name: f"{_LABELS}.{name}" for name in ("thresholds", "adaptive", "background", "burn_in", "ramp", "patience")
} | {"at_most": f"{_LABELS}.max_pseudo_label_ratio"}
_STUDENTS = {"mean_teacher": 0.8, "masked_consistency": 0.8, "class_mix": 0.9}
"""Hooks that had pseudo-labels of their own until version 0.2, with the default of their threshold."""


def where_now(hook: str, parameter: str) -> str | None:
    """Return the dotted key that a parameter of an earlier version has now, or None if it has not moved.

    >>> where_now("mean_teacher", "at_most"), where_now("ema", "decay")
    ('hooks.pseudo_labels.max_pseudo_label_ratio', None)
    """
    return f"hooks.{_MOVED[parameter]}" if hook in _STUDENTS and parameter in _MOVED else None


def upgrade(hooks: Sequence[Any]) -> list[Any]:
    """Return the hooks of a finished run of an earlier version in their form of today.

    hooks: items of the list `hooks` of its config.yaml: names or `{name: parameters}`.

    The pseudo-labels of such a run become one hook with the values of the first hook that learns from them; the others
    keep their threshold. A model that is only used does not depend on them.

    >>> upgrade([{"mean_teacher": {"burn_in": 0.3}}])
    [{'pseudo_labels': {'burn_in': 0.3, 'threshold': 0.8}}, {'mean_teacher': {}}]
    """
    pairs = [{item: {}} if isinstance(item, str) else item for item in hooks]
    named = {name: options for pair in pairs if isinstance(pair, dict) for name, options in pair.items()}
    students = [name for name in named if name in _STUDENTS and isinstance(named[name], dict)]
    if _LABELS in named or not students:
        return list(hooks)
    first = named[students[0]]
    labels = {_MOVED[key].rpartition(".")[2]: value for key, value in first.items() if key in _MOVED}
    labels["threshold"] = first.get("threshold", _STUDENTS[students[0]])
    upgraded: list[Any] = []
    for pair in pairs:
        name = next(iter(pair)) if isinstance(pair, dict) and len(pair) == 1 else ""
        if name not in students:
            upgraded.append(pair)
            continue
        options = {key: value for key, value in pair[name].items() if key not in _MOVED and key != "threshold"}
        if name == students[0]:
            upgraded.append({_LABELS: labels})
        else:
            options["threshold"] = pair[name].get("threshold", _STUDENTS[name])
        upgraded.append({name: options})
    return upgraded
