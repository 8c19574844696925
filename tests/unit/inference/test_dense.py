"""Scores of every pixel: window by window, and back to the original image before the best class is taken."""

from __future__ import annotations

from types import SimpleNamespace
from typing import get_args

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from tlvision.data.dataset import place_whole
from tlvision.inference.dense import confident_label_map, dense_scores, label_map_of
from tlvision.plugin import ScoreKind, class_log_probabilities, class_probabilities, score_kind
from tlvision.types import InputError, InputSpec


class Squares:
    """Scores that are the channels, squared, at a stride of 4; it keeps the sizes that it was asked for."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, int]] = []

    def dense_logits(self, images: Tensor) -> Tensor:
        self.asked.append((images.shape[-2], images.shape[-1]))
        return functional.avg_pool2d(images**2, 4)


def test_windows_cover_the_image_and_overlap_by_a_third() -> None:
    model = Squares()
    images = torch.rand(2, 3, 96, 160)
    whole = dense_scores(model, images)
    assert whole.shape == (2, 3, 96, 160)
    windows = Squares()
    found = dense_scores(windows, images, 64)
    assert set(windows.asked) == {(64, 64)}
    assert len(windows.asked) == 2 * 4  # 160: 0, 32, 64, 96; 96: 0, 32
    # Away from the borders of windows a local model gives what it gives for all at once.
    inside = torch.full((160,), True)
    for border in (32, 64, 96, 128):
        inside[border - 4 : border + 4] = False
    rows = inside[:96] & (torch.arange(96) > 4)
    assert torch.allclose(found[:, :, rows][..., inside], whole[:, :, rows][..., inside], atol=1e-5)
    assert dense_scores(Squares(), images, 512).equal(whole)


def slow_label_map(scores: Tensor, part: tuple[int, int, int, int], size: tuple[int, int]) -> np.ndarray:
    top, left, bottom, right = part
    seen = scores[None, :, top:bottom, left:right]
    return functional.interpolate(seen, size=size, mode="bilinear", align_corners=False)[0].argmax(0).numpy()


@pytest.mark.parametrize("place", ["centre", "corner"])
@pytest.mark.parametrize("size", [(60, 90), (200, 120), (33, 33)])
@pytest.mark.parametrize("classes", [3, 40])
def test_the_image_alone_is_brought_to_its_size(place: str, size: tuple[int, int], classes: int) -> None:
    spec = InputSpec(place=place, multiple_of=32)
    canvas, matrix = place_whole(size, spec, 96)
    scores = torch.rand(classes, *canvas)
    gain = 96 / max(size)
    height, width = round(size[0] * gain), round(size[1] * gain)
    top, left = ((canvas[0] - height) // 2, (canvas[1] - width) // 2) if place == "centre" else (0, 0)
    found = label_map_of(scores, matrix, size)
    assert found.dtype == np.int64
    assert (found == slow_label_map(scores, (top, left, top + height, left + width), size)).all()
    labels, confidence = confident_label_map(scores, matrix, size)
    seen = scores[None, :, top : top + height, left : left + width]
    shares = functional.interpolate(seen, size=size, mode="bilinear", align_corners=False)[0].softmax(0)
    assert (labels == found).all()
    assert confidence.dtype == np.float32
    np.testing.assert_allclose(confidence, shares.amax(0).numpy(), rtol=1e-5)


@pytest.mark.parametrize("classes", [3, 40])
@pytest.mark.parametrize("kind", get_args(ScoreKind))
def test_confidence_is_the_probability_of_what_the_scores_are(kind: ScoreKind, classes: int) -> None:
    scores = torch.randn(classes, 6, 8) if kind != "probabilities" else 3 * torch.rand(classes, 6, 8) / classes
    labels, confidence = confident_label_map(scores, np.eye(3), (6, 8), kind)
    chances = class_probabilities(scores, kind, dim=0)
    assert torch.allclose(chances.sum(0), torch.ones(6, 8))
    assert (labels == chances.argmax(0).numpy()).all()
    assert (labels == scores.argmax(0).numpy()).all()
    np.testing.assert_allclose(confidence, chances.amax(0).numpy(), rtol=1e-5)
    logs = class_log_probabilities(scores, kind, dim=0)
    assert torch.allclose(logs.exp(), chances, atol=1e-6)


def test_of_a_pixel_that_no_query_claims_nothing_is_known() -> None:
    scores = torch.tensor([[1.0, 0.0, 0.02, 2.0], [0.0, 0.0, 0.0, 2.0]])  # (2, pixels)
    chances = class_probabilities(scores, "probabilities", dim=0)
    assert chances[0].tolist() == pytest.approx([1.0, 0.5, 0.51, 0.5])


def test_scores_of_an_unknown_kind_are_an_error() -> None:
    with pytest.raises(InputError, match=r"score_kind is 'logit'\. Set it to one of logits, sigmoid, probabilities"):
        score_kind(SimpleNamespace(score_kind="logit"))


def test_what_an_image_shows_comes_back_where_it_was() -> None:
    from tlvision.data.dataset import fit_image

    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, (5, 7)).repeat(24, 0).repeat(24, 1)
    image = np.zeros((*labels.shape, 3), np.uint8)
    for index in range(3):
        image[labels == index, index] = 255
    for spec in (InputSpec(multiple_of=32), InputSpec(multiple_of=32, place="corner"), InputSpec(resize="stretch")):
        canvas, matrix = fit_image(image, spec, 320)
        scores = torch.from_numpy(canvas).permute(2, 0, 1).float()
        found = label_map_of(scores, matrix, labels.shape)
        assert (found != labels).mean() < 0.005
