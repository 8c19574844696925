"""Resolve tap selectors that no model family owns ("coarsest", "stride 16") to the taps of a model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tlvision.types import InputError, nearest

if TYPE_CHECKING:
    from tlvision.plugin import Adapter, Tap


def choose_taps(adapter: Adapter, words: Sequence[str], hook: str) -> tuple[Tap, ...]:
    """Return the taps that `words` mean, each once, from fine to coarse as the adapter lists them.

    words: names of taps ("c4"), or "coarsest" (the last of the largest stride), "finest" (the first of the smallest),
           "stride 16" (the last with that stride, which is the most processed one), "all".
    hook:  the hook's key, for messages.

    Raises InputError if a word means no tap of this model (with those that it has), or there is no word.
    """
    taps = adapter.taps
    if not taps:
        raise InputError(f"hooks: '{hook}' needs a tap, and this model has none")
    if not words:
        raise InputError(f"hooks: '{hook}' needs at least one tap; this model has {_listed(taps)}")
    chosen = {tap.name for word in words for tap in _meant(taps, word, hook)}
    return tuple(tap for tap in taps if tap.name in chosen)


def _meant(taps: Sequence[Tap], word: str, hook: str) -> Sequence[Tap]:
    if word == "all":
        return taps
    strides = [tap.stride for tap in taps]
    if word == "coarsest":
        return [tap for tap in taps if tap.stride == max(strides)][-1:]
    if word == "finest":
        return [tap for tap in taps if tap.stride == min(strides)][:1]
    found = [tap for tap in taps if word in {tap.name, f"stride {tap.stride}"}][-1:]
    if not found:
        raise InputError(
            f"hooks: '{hook}' needs the tap '{word}'.{nearest(word, [tap.name for tap in taps])} This model has "
            f"{_listed(taps)}; 'coarsest', 'finest', 'stride 16' and 'all' work on every model"
        )
    return found


def _listed(taps: Sequence[Tap]) -> str:
    return ", ".join(f"{tap.name} (stride {tap.stride})" for tap in taps)
