"""A model with finer classes than ours, seen through ours."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch

from tlvision.inference.merged_classes import merge_classes
from tlvision.plugin import HasDenseLogits, score_kind
from tlvision.types import Prediction

OURS = (0, 0, 1)  # car and truck are vehicles, person is itself


class Finds:
    """Predicts what it was given."""

    groups, taps = (), ()

    def __init__(self, found: Prediction) -> None:
        self.module = torch.nn.Identity()
        self.input_spec, self._found = "as the model's", found

    def predict(self, images: Any) -> Sequence[Prediction]:
        return [self._found]


class Scores(Finds):
    score_kind = "probabilities"

    def dense_logits(self, images: torch.Tensor) -> torch.Tensor:
        return images


def prediction() -> Prediction:
    boxes = torch.tensor([[0, 0, 10, 10], [0, 0, 10, 11], [50, 50, 60, 60], [0, 0, 10, 10]], dtype=torch.float32)
    return Prediction(
        boxes=boxes,
        scores=torch.tensor([0.6, 0.9, 0.5, 0.8]),
        labels=torch.tensor([0, 1, 1, 2]),
        masks=torch.arange(4, dtype=torch.uint8)[:, None, None].repeat(1, 3, 3),
    )


def test_labels_are_ours_and_all_else_is_the_models() -> None:
    theirs = prediction()
    adapter: Any = merge_classes(Finds(theirs), OURS)  # type: ignore[arg-type]
    (found,) = adapter.predict(torch.zeros(1, 3, 64, 64))
    assert found.labels.tolist() == [0, 0, 0, 1]
    assert all(getattr(found, name) is getattr(theirs, name) for name in ("boxes", "scores", "masks"))
    assert not isinstance(adapter, HasDenseLogits)


def test_nothing_found_is_nothing_merged() -> None:
    empty = Prediction(boxes=torch.zeros(0, 4), scores=torch.zeros(0), labels=torch.zeros(0, dtype=torch.int64))
    adapter: Any = merge_classes(Finds(empty), OURS)  # type: ignore[arg-type]
    assert len(adapter.predict(torch.zeros(1, 3, 8, 8))[0]) == 0


def test_a_pixel_has_the_highest_score_of_the_classes_that_ours_is_made_of() -> None:
    adapter: Any = merge_classes(Scores(prediction()), OURS)  # type: ignore[arg-type]
    assert isinstance(adapter, HasDenseLogits)
    scores = torch.rand(2, 3, 4, 5)
    assert score_kind(adapter) == "probabilities", "as the model's"
    merged = adapter.dense_logits(scores)
    assert merged.shape == (2, 2, 4, 5)
    # A slow loop: the class with the highest score, then which of ours that is.
    for image in range(2):
        for row in range(4):
            for column in range(5):
                theirs = int(scores[image, :, row, column].argmax())
                assert int(merged[image, :, row, column].argmax()) == OURS[theirs]


def test_it_is_for_evaluation_alone() -> None:
    adapter = merge_classes(Finds(prediction()), OURS)  # type: ignore[arg-type]
    assert adapter.input_spec == "as the model's"
    with pytest.raises(NotImplementedError, match="evaluation"):
        adapter.loss(torch.zeros(1, 3, 8, 8), [])
