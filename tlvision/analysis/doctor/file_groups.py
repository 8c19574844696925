"""Groups that file names suggest, such as drives, boards or patients, with images in training and in validation."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import pairwise

import numpy as np

from tlvision.analysis.doctor.findings import Finding, Part
from tlvision.types import counted, listing

_NUMBERED = re.compile(r"^(.*?)(\d+)\D*$")
GAP = 50
"""A gap between numbers of so many times the median one starts another group."""
MEMBERS = 3
"""Images of a group on average; with fewer, names say nothing."""
_PLACES = 500


def shared_groups(parts: Sequence[Part]) -> list[Finding]:
    """Return groups of file names of which both training and validation have images."""
    by_name = {part.name: part for part in parts}
    findings = []
    for other in ("val", "source_val"):
        if "train" not in by_name or other not in by_name:
            continue
        train, held = by_name["train"], by_name[other]
        groups = file_groups({sample.path.stem for part in (train, held) for sample in part.data.samples})
        mine = {groups.get(sample.path.stem) for sample in train.data.samples}
        shared = [sample for sample in held.data.samples if groups.get(sample.path.stem) in mine - {None}]
        if not shared:
            continue
        names = sorted({groups[sample.path.stem] for sample in shared})
        sentence = (
            f"{len(shared)} of {counted(len(held.data.samples), 'image')} of data.{other} belong by their file names "
            f"to groups that data.train has too ({listing(names, 4)}). If these are drives, boards or patients, "
            "metrics are too good; tlvision split --group-by divides by group"
        )
        places = tuple(held.place(sample) for sample in shared[:_PLACES])
        findings.append(Finding("note", "groups", sentence, places))
    return findings


def file_groups(stems: Iterable[str]) -> dict[str, str]:
    """Return the group of each file name without suffix: what precedes its last number, or numbers that are close.

    Numbers decide if all names are equal apart from them. Empty if the names form one group, or groups of few images.

    >>> found = file_groups([f"{board}{number:03}" for board in (12, 92) for number in range(9)])
    >>> sorted(set(found.values()))
    ['12000-12008', '92000-92008']
    >>> file_groups([f"{number:03}" for number in range(9)])
    {}
    """
    numbered: dict[str, list[tuple[int, str]]] = defaultdict(list)
    for stem in stems:
        found = _NUMBERED.match(stem)
        if found is None:
            return {}
        numbered[found[1]].append((int(found[2]), stem))
    if len(numbered) > 1:
        groups = {stem: prefix.rstrip("_-. ") for prefix, members in numbered.items() for _, stem in members}
    else:
        groups = {stem: name for members in numbered.values() for stem, name in _by_gaps(members).items()}
    count = len(set(groups.values()))
    return groups if count > 1 and len(groups) >= MEMBERS * count else {}


def _by_gaps(members: Sequence[tuple[int, str]]) -> dict[str, str]:
    """Return the group of each name, by the numbers in them."""
    members = sorted(members)
    gaps = np.diff([number for number, _ in members])
    apart = np.flatnonzero(gaps > GAP * max(float(np.median(gaps)), 1)) if len(gaps) > 1 else np.zeros(0, np.int64)
    found: dict[str, str] = {}
    for start, end in pairwise([0, *(apart + 1).tolist(), len(members)]):
        group = [stem for _, stem in members[start:end]]
        found |= dict.fromkeys(group, f"{group[0]}-{group[-1]}")
    return found
