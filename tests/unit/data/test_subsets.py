"""Parts of a dataset: disjoint, complete, of the promised size, with whole groups and the share of every class."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from sklearn.model_selection import StratifiedKFold

from tlvision.data.settings import SubsetSettings
from tlvision.data.subsets import choose
from tlvision.types import InputError


def labels_of(seed: int, images: int, classes: int = 6) -> Any:
    """Return (N, C) bool with classes from frequent to rare, and images without any."""
    rng = np.random.default_rng(seed)
    return rng.random((images, classes)) < np.geomspace(0.5, 0.02, classes)


def fold(part: int, folds: int, **more: Any) -> SubsetSettings:
    return SubsetSettings(fold=[part, folds], **more)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(5, 80), st.integers(2, 5), st.booleans(), st.booleans())
def test_folds_are_disjoint_complete_and_equal(
    seed: int, images: int, folds: int, stratify: bool, grouped: bool
) -> None:
    present = labels_of(seed, images)
    groups = [f"g{number // 2}" for number in range(images)] if grouped else None
    if grouped and (images + 1) // 2 < folds:
        return
    parts = [
        choose(fold(part, folds, seed=seed, stratify=stratify), present, groups, held=True) for part in range(folds)
    ]
    assert sorted(position for part in parts for position in part) == list(range(images))
    sizes = [len(part) for part in parts]
    assert max(sizes) - min(sizes) <= (3 if grouped else 1)
    for number, part in enumerate(parts):
        rest = choose(fold(number, folds, seed=seed, stratify=stratify), present, groups, held=False)
        assert sorted(part + rest) == list(range(images))
        if groups is not None:
            assert not {groups[position] for position in part} & {groups[position] for position in rest}


@pytest.mark.parametrize("seed", range(5))
def test_single_labels_are_spread_as_scikit_learn_spreads_them(seed: int) -> None:
    label = np.random.default_rng(seed).choice(4, 203, p=[0.6, 0.25, 0.1, 0.05])
    present = np.eye(4, dtype=bool)[label]
    ours = [present[choose(fold(part, 5, seed=seed), present, held=True)].sum(axis=0) for part in range(5)]
    theirs = [present[held].sum(axis=0) for _, held in StratifiedKFold(5).split(present, label)]
    # One more than theirs: the sizes of our parts are fixed before the classes are divided.
    assert np.ptp(ours, axis=0).max() <= np.ptp(theirs, axis=0).max() + 1


def test_several_labels_are_spread_better_than_by_chance() -> None:
    """The rarest of six classes is in about 4 of 200 images."""
    spread = {True: 0, False: 0}
    for seed in range(10):
        present = labels_of(seed, 200)
        for stratify in spread:
            counts = [
                present[choose(fold(part, 4, seed=seed, stratify=stratify), present, held=True)].sum(axis=0)
                for part in range(4)
            ]
            spread[stratify] += int(np.ptp(counts, axis=0).sum())
    assert spread[True] < 0.35 * spread[False]


@pytest.mark.parametrize(
    ("asked", "expected"), [({"count": 25}, 25), ({"fraction": 0.1}, 14), ({"fraction": 0.001}, 1)]
)
def test_a_part_has_the_size_that_was_asked_for(asked: dict[str, Any], expected: int) -> None:
    present = labels_of(0, 137)
    chosen = [choose(SubsetSettings(**asked, seed=seed), present, held=False) for seed in range(3)]
    assert [len(part) for part in chosen] == [expected] * 3
    assert len({tuple(part) for part in chosen}) > 1
    assert choose(SubsetSettings(**asked), present, held=False) == chosen[0]


def test_every_class_has_so_many_images_or_all_it_has() -> None:
    present = labels_of(3, 150)
    present[:, 5] = False
    present[[7, 9], 5] = True
    chosen = choose(SubsetSettings(per_class=5), present, held=False)
    have = present[chosen].sum(axis=0)
    assert have[5] == 2
    assert (have[:5] >= 5).all()
    assert len(chosen) <= 5 * 6
    assert present[chosen].any(axis=1).all()


def test_groups_of_different_sizes_fill_a_part_nearly() -> None:
    present = labels_of(0, 4000)
    groups = [f"patient {number % 1500}" for number in range(4000)]
    chosen = choose(SubsetSettings(fraction=0.25), present, groups, held=False)
    assert abs(len(chosen) - 1000) < 4


@pytest.mark.parametrize(
    ("settings_", "images", "message"),
    [({"count": 9}, 8, "9 images of 8"), ({"fold": [0, 9]}, 8, "9 folds need as many images, there are 8")],
)
def test_too_few_images_are_refused(settings_: dict[str, Any], images: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        choose(SubsetSettings(**settings_), np.ones((images, 1), bool), held=False)
    with pytest.raises(InputError, match="no image has an object"):
        choose(SubsetSettings(per_class=1), np.zeros((images, 1), bool), held=False)


@pytest.mark.parametrize(
    "wrong",
    [
        {}, {"count": 3, "fraction": 0.5}, {"fold": [3, 3]}, {"fold": [-1, 3]}, {"fold": [1]}, {"fraction": 0.0},
        {"fraction": 1.5}, {"count": 0}, {"per_class": 2, "group_by": "patient"}, {"count": 2, "group_by": "(a)(b)"},
        {"count": 2, "group_by": "(a"}, {"count": 2, "group_by": ""}, {"count": 2, "seed": -1},
    ],
)  # fmt: skip
def test_settings_that_mean_nothing_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        SubsetSettings(**wrong)
