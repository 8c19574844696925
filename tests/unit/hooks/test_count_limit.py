"""The score that lets no more objects through than labelled images have, against sorting all scores."""

from __future__ import annotations

from itertools import chain
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from tlvision.hooks.pseudo_labels import count_limit
from tlvision.hooks.pseudo_labels.count_limit import CountLimit
from tlvision.types import Prediction


def found(scores: list[float], labels: list[int]) -> Prediction:
    boxes = torch.tensor([[3.0, 4.0, 12.0, 13.0]] * len(scores)).reshape(-1, 4)
    return Prediction(boxes=boxes, scores=torch.tensor(scores), labels=torch.tensor(labels, dtype=torch.int64))


def labelled(*classes: list[int]) -> Any:
    return SimpleNamespace(labels=torch.tensor(list(chain(*classes))), counts=tuple(len(each) for each in classes))


def make_cap(max_ratio: float, classes: int) -> CountLimit:
    cap = CountLimit(max_ratio)
    cap.bind(classes)
    return cap


@pytest.mark.parametrize("max_ratio", [0.5, 1.0, 2.0])
def test_so_many_objects_pass_as_labelled_images_have(monkeypatch: pytest.MonkeyPatch, max_ratio: float) -> None:
    monkeypatch.setattr(count_limit, "_KEEP", 1.0)
    torch.manual_seed(0)
    cap = make_cap(max_ratio, 3)
    scores: list[float] = []
    labels: list[int] = []
    for _ in range(5):
        # Scores in the middle of their bins, so that the order of two is never lost in one bin.
        said = [((torch.randperm(1000)[:30] + 0.5) / 1000).tolist() for _ in range(2)]
        classes = [torch.randint(0, 3, (30,)).tolist() for _ in range(2)]
        cap.learn([found(*pair) for pair in zip(said, classes, strict=True)], labelled([0, 0, 0, 0], [0, 1]))
        scores += chain(*said)
        labels += chain(*classes)
    # A labelled image has 2.5 objects of class 0, 0.5 of class 1, none of class 2; there are ten unlabelled ones.
    for index, allowed in enumerate([25 * max_ratio, 5 * max_ratio, 0]):
        own = sorted((s for s, label in zip(scores, labels, strict=True) if label == index), reverse=True)
        least = cap.values()[index]
        passing = sum(score >= least for score in own)
        assert passing <= max(allowed, sum(score >= 0.999 for score in own))
        if allowed and passing < len(own):
            tied = sum(int(score * 1000) == int(own[passing] * 1000) for score in own)
            assert passing + tied > allowed, "one more bin would have been too many"


def test_few_objects_pass_whatever_their_score() -> None:
    cap = make_cap(1.0, 1)
    cap.learn([found([0.3, 0.1], [0, 0])], labelled([0, 0]))
    assert cap.values() == [0.0]
    cap.learn([found([0.9999] * 9, [0] * 9)], labelled([0]))
    assert cap.values() == [0.999], "the highest scores of all always count"


def test_what_was_found_long_ago_fades() -> None:
    cap = make_cap(1.0, 1)
    for _ in range(50):
        cap.learn([found([0.9] * 9, [0] * 9)], labelled([0]))
    high = cap.values()[0]
    for _ in range(400):
        cap.learn([found([0.5], [0])], labelled([0]))
    assert (high, cap.values()[0] < 0.9) == (pytest.approx(0.901), True)


def test_a_resumed_run_goes_on_as_it_was() -> None:
    cap = make_cap(1.0, 2)
    cap.learn([found([0.3, 0.8, 0.7], [0, 1, 1])], labelled([0, 1]))
    again = CountLimit(1.0)
    again.load(cap.state())
    again.bind(2)
    assert again.values() == cap.values() != [0.0, 0.0]
    before = [value.clone() for value in cap.state().values()]
    again.learn([found([0.6], [1])], labelled([0]))
    assert all(map(torch.equal, before, cap.state().values())), "nothing is shared"
