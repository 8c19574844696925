"""What the runtime does with the outputs of graphs in numpy is what torch's own functions do."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional
from torchvision.models.detection.roi_heads import paste_masks_in_image
from torchvision.ops import batched_nms
from torchvision.ops.poolers import LevelMapper

from tlvision.data.batches import normalise
from tlvision.plugin.export import Candidates, Pooling
from tlvision.runtime.candidates import read_candidates
from tlvision.runtime.dense import dense_scores, label_map_of, resize
from tlvision.runtime.model import prepare
from tlvision.runtime.paste import paste_masks
from tlvision.runtime.suppress import best_first, suppress
from tlvision.runtime.two_stage import level_of_region
from tlvision.types import InputSpec


def boxes_of(rng: np.random.Generator, count: int, side: float = 100.0) -> np.ndarray:
    corner = rng.uniform(-5, side, (count, 2))
    return np.concatenate([corner, corner + rng.uniform(3, 40, (count, 2))], axis=1).astype(np.float32)


@pytest.mark.parametrize("iou", [0.3, 0.7])
@pytest.mark.parametrize("most", [5, 1000])
def test_suppression_is_torchvisions(iou: float, most: int) -> None:
    rng = np.random.default_rng(0)
    boxes, scores, labels = boxes_of(rng, 400), rng.random(400).astype(np.float32), rng.integers(0, 3, 400)
    order = best_first(scores, 400)
    mine = order[suppress(boxes[order], labels[order], iou, most)]
    wanted = batched_nms(*map(torch.from_numpy, (boxes, scores, labels)), iou)[:most]
    assert 3 < len(mine) < 400
    assert mine.tolist() == wanted.tolist()


def test_nothing_is_suppressed_where_nothing_is_found() -> None:
    assert suppress(np.zeros((0, 4), np.float32), np.zeros(0, np.int64), 0.5, 10).tolist() == []


def test_the_best_are_taken_by_score_and_then_by_place() -> None:
    rng = np.random.default_rng(0)
    scores = rng.integers(0, 9, 200).astype(np.float32)  # many are equal
    for most in (1, 50, 199, 200, 500):
        assert best_first(scores, most).tolist() == np.argsort(-scores, kind="stable")[:most].tolist()


def test_a_higher_floor_gives_the_same_objects_without_the_worse_ones() -> None:
    rng = np.random.default_rng(0)
    outputs = {"boxes": boxes_of(rng, 600)[None], "scores": rng.random((1, 600, 2)).astype(np.float32)}
    settings = Candidates(score_floor=0.1, nms_iou=0.5, most=5000)
    (every,) = read_candidates(outputs, (100, 100), settings, 0.0)
    (some,) = read_candidates(outputs, (100, 100), settings, 0.6)
    best = every.above(0.6)
    assert 0 < len(best) < len(every)
    assert (some.boxes.tolist(), some.labels.tolist()) == (best.boxes.tolist(), best.labels.tolist())
    assert every.boxes.min() >= 0
    assert every.boxes.max() <= 100


def test_masks_are_pasted_as_torchvision_pastes_them() -> None:
    rng = np.random.default_rng(0)
    boxes = boxes_of(rng, 40)
    boxes[0] = [90, 90, 130, 120]  # beyond the image
    masks = rng.random((40, 28, 28)).astype(np.float32)
    pasted = paste_masks_in_image(torch.from_numpy(masks)[:, None], torch.from_numpy(boxes), (100, 110))[:, 0]
    mine = paste_masks(masks, boxes, (100, 110), whole_pixels=True)
    assert mine.any(axis=(1, 2)).sum() > 30
    assert (mine != (pasted > 0.5).numpy()).sum() <= 1e-5 * mine.size


def test_masks_are_sampled_as_torch_samples_them() -> None:
    """The rule of mmdet: `grid_sample` at the centres of the pixels, zero outside."""
    rng = np.random.default_rng(0)
    boxes, masks = boxes_of(rng, 40), rng.random((40, 28, 28)).astype(np.float32)
    masks[1] = 1.0
    x, y = torch.arange(110) + 0.5, torch.arange(100) + 0.5
    mine = paste_masks(masks, boxes, (100, 110), whole_pixels=False)
    wrong = 0
    for mask, box, found in zip(masks, torch.from_numpy(boxes), mine, strict=True):
        across, down = (x - box[0]) / (box[2] - box[0]) * 2 - 1, (y - box[1]) / (box[3] - box[1]) * 2 - 1
        grid = torch.stack(torch.meshgrid(down, across, indexing="ij")[::-1], dim=-1)[None]  # (1, 100, 110, 2)
        sampled = functional.grid_sample(torch.from_numpy(mask)[None, None], grid, align_corners=False)[0, 0]
        wrong += int((found != (sampled >= 0.5).numpy()).sum())
    assert mine.any(axis=(1, 2)).sum() > 30
    assert wrong <= 1e-5 * mine.size


def test_regions_come_from_torchvisions_levels() -> None:
    rng = np.random.default_rng(0)
    corner = rng.uniform(0, 100, (500, 2))
    boxes = np.concatenate([corner, corner + np.exp(rng.uniform(0, 7, (500, 2)))], axis=1).astype(np.float32)
    pooling = Pooling(strides=(4, 8, 16, 32), size=7, finest=56.0, sampling_ratio=2, aligned=False)
    mine = level_of_region(boxes, pooling)
    assert set(mine) == {0, 1, 2, 3}
    assert mine.tolist() == LevelMapper(2, 5)([torch.from_numpy(boxes)]).tolist()


@pytest.mark.parametrize("align", [False, True])
@pytest.mark.parametrize("size", [(40, 60), (7, 5), (20, 30), (1, 1)])
def test_scores_are_resized_as_torch_resizes_them(size: tuple[int, int], align: bool) -> None:
    scores = np.random.default_rng(0).normal(size=(19, 20, 30)).astype(np.float32)
    wanted = functional.interpolate(torch.from_numpy(scores)[None], size, mode="bilinear", align_corners=align)[0]
    assert np.abs(resize(scores, size, align_corners=align) - wanted.numpy()).max() < 1e-5


def test_a_label_map_takes_the_best_of_many_classes_and_windows() -> None:
    """The same as `tlvision.inference.dense`, for more classes than are resized at a time."""
    from tlvision.inference import dense

    class Model:
        def dense_logits(self, images: torch.Tensor) -> torch.Tensor:
            return functional.conv2d(images, weights, stride=4)

    rng = np.random.default_rng(0)
    weights = torch.from_numpy(rng.normal(size=(37, 3, 4, 4)).astype(np.float32))
    images = rng.random((2, 3, 64, 96)).astype(np.float32)
    matrix = np.array([[0.5, 0, 8], [0, 0.5, 4], [0, 0, 1]], np.float64)
    for window in (0, 32):
        wanted = dense.dense_scores(Model(), torch.from_numpy(images), window)
        found = dense_scores(
            lambda part: functional.conv2d(torch.from_numpy(part), weights, stride=4).numpy(),
            images,
            window,
            align_corners=False,
        )
        for mine, other in zip(found, wanted, strict=True):
            assert np.abs(mine - other.numpy()).max() < 1e-5
            labels = label_map_of(mine, matrix, (100, 150))
            assert labels.min() < 16 < labels.max()
            assert (labels != dense.label_map_of(other, matrix, (100, 150))).mean() < 1e-3


@pytest.mark.parametrize(
    "spec",
    [
        InputSpec(),
        InputSpec(mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.25), channel_order="bgr"),
        InputSpec(mean=(103.5, 116.3, 123.7), value_range=255.0),
    ],
)
def test_inputs_have_the_bits_of_training(spec: InputSpec) -> None:
    images = np.random.default_rng(0).integers(0, 256, (2, 24, 32, 3), np.uint8)
    wanted = normalise(torch.from_numpy(images).permute(0, 3, 1, 2), spec)
    found = prepare(list(images), spec)
    assert found.tobytes() == wanted.numpy().tobytes()
