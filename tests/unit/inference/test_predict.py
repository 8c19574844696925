from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from tlvision.data.geometry import letterbox
from tlvision.inference.predict import to_original, using_weights
from tlvision.types import Prediction


def predict(boxes: list[list[float]], **more: torch.Tensor) -> Prediction:
    count = len(boxes)
    return Prediction(
        boxes=torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        scores=torch.linspace(0.9, 0.1, count),
        labels=torch.arange(count),
        **more,
    )


def test_boxes_come_back_to_pixels_of_the_original_and_padding_is_left_behind() -> None:
    """An image of 200 x 100 in a canvas of 64 x 64: half of 64 wide is 32 high, with 16 of padding above and below."""
    matrix = letterbox((100, 200), (64, 64))
    found = to_original(
        predict([[0, 16, 64, 48], [32, 32, 48, 48], [-5, 20, 70, 90], [10, 50, 20, 60]]), matrix, 200, 100
    )
    expected = [[0, 0, 200, 100], [100, 50, 150, 100], [0, 12.5, 200, 100]]
    assert found.boxes == pytest.approx(np.array(expected), abs=1e-3)
    assert found.labels.tolist() == [0, 1, 2], "the last box lies in the padding alone"
    assert isinstance(found.boxes, np.ndarray)


def test_masks_and_scores_go_the_same_way() -> None:
    matrix = letterbox((100, 200), (64, 64))
    masks = torch.zeros(1, 64, 64, dtype=torch.uint8)
    masks[0, 32:48, 32:48] = 1
    found = to_original(predict([[32, 32, 48, 48]], masks=masks), matrix, 200, 100)
    scores = torch.zeros(4, 64, 64)
    scores[3, :32] = 1
    scores[1, 32:] = 1
    label_map = to_original(scores, matrix, 200, 100).semantic
    assert found.masks is not None
    assert label_map is not None
    assert found.masks.shape == (1, 100, 200)
    rows, columns = np.nonzero(found.masks[0])
    assert (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1) == (100, 50, 150, 100)
    assert label_map.shape == (100, 200)
    assert set(label_map[:50].ravel()) == {3}
    assert set(label_map[50:].ravel()) == {1}


def test_masks_stay_with_their_boxes_and_an_empty_one_takes_no_box_away() -> None:
    matrix = letterbox((100, 200), (64, 64))
    masks = torch.zeros(3, 64, 64, dtype=torch.uint8)
    masks[0, 50:60, 10:20] = 1  # in the padding alone, as is its box
    masks[2, 30:40, 20:30] = 1
    found = to_original(predict([[10, 50, 20, 60], [0, 20, 9, 30], [20, 30, 30, 40]], masks=masks), matrix, 200, 100)
    assert found.labels.tolist() == [1, 2]
    assert found.masks is not None
    assert found.masks.any(axis=(1, 2)).tolist() == [False, True]
    assert found.masks.dtype == np.uint8
    nothing = to_original(predict([], masks=masks[:0]), matrix, 200, 100)
    assert nothing.masks is not None
    assert nothing.masks.shape == (0, 100, 200)


def test_nothing_found_is_fine() -> None:
    found = to_original(predict([]), letterbox((10, 10), (32, 32)), 10, 10)
    assert found.boxes.shape == (0, 4)


def test_borrowed_weights_are_given_back_to_the_bit_even_after_an_error() -> None:
    module = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    own = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    other = {name: torch.full_like(tensor, 7) for name, tensor in own.items()}
    with using_weights(module, other):
        assert all(torch.equal(tensor, other[name]) for name, tensor in module.state_dict().items())
    assert all(torch.equal(tensor, own[name]) for name, tensor in module.state_dict().items())
    with pytest.raises(RuntimeError, match="inside"), using_weights(module, other):
        raise RuntimeError("inside")
    assert all(torch.equal(tensor, own[name]) for name, tensor in module.state_dict().items())
