"""The image that is learnt by heart, its score by the real path, and the checks that judge label maps by it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from tlvision.conformance.case import Case
from tlvision.conformance.check import Check
from tlvision.conformance.checks.classes import head_by_class_name
from tlvision.conformance.checks.predictions import overfits_one_image, predictions_stand_alone, predictions_valid
from tlvision.conformance.overfit import (
    ENOUGH,
    MASK_ENOUGH,
    SIZE,
    best_of,
    find,
    mask_overlaps,
    mirrored,
    one_image,
    overfitted,
    score,
)
from tlvision.plugin import get_plugin
from tlvision.plugin.weights.files import read_tensors
from tlvision.synthetic.shapes import Shape, draw
from tlvision.types import ClassMap, Prediction
from tlvision_toy.adapter import SegmenterAdapter
from tlvision_toy.plugin import ToyPlugin


def test_the_image_is_off_centre_and_has_the_first_and_the_last_class() -> None:
    case = Case(get_plugin("toy"), "tiny_detector", classes=ClassMap.from_names("abcdef"))
    adapter, _ = case.build()
    one = one_image(case, adapter)
    assert one.drawing.labels.tolist() == [0, 5]
    assert one.drawing.image.shape == (*SIZE, 3)
    assert SIZE[0] != SIZE[1]
    assert one.images.shape == (1, 3, 64, 96)
    height, width = SIZE
    for turned in ([width, 0, width, 0], [0, height, 0, height], [width, height, width, height]):
        # Mirrored about either axis or both, no box falls on one of the two.
        other = np.sort(np.abs(np.array(turned) - one.drawing.boxes).reshape(-1, 2, 2), axis=1).reshape(-1, 4)
        assert all(_iou(a, b) < 0.5 for a in one.drawing.boxes for b in other)
    assert all(_iou(box, box[[1, 0, 3, 2]]) < 0.5 for box in one.drawing.boxes)


def _iou(a: Any, b: Any) -> float:
    sides = np.clip(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0, None)
    both = float(np.prod(sides))
    return both / (float(np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2])) - both)


@pytest.mark.parametrize("arch", ["tiny_detector", "tiny_segmenter", "toy-instance"])
def test_mirrored_targets_lie_on_the_mirrored_image(arch: str) -> None:
    case = Case(get_plugin("toy"), arch)
    adapter, _ = case.build()
    one = one_image(case, adapter)
    images, targets = mirrored(one.images, one.targets)
    assert torch.equal(images[1], one.images[0].flip(2))
    for image, target in zip(images, targets, strict=True):
        x0, y0, x1, y1 = target.boxes[0].round().long().tolist()  # the first class is a red rectangle
        red = (image[0] - image[1]) > 1
        assert red[y0 + 1 : y1 - 1, x0 + 1 : x1 - 1].float().mean() > 0.95
        assert red[y0 + 1 : y1 - 1, x0 + 1 : x1 - 1].sum() > 0.8 * red.sum()
        if target.semantic is not None:
            assert ((target.semantic == 0) == red).float().mean() > 0.95
        assert (target.masks is None) == (arch != "toy-instance")
        if target.masks is not None:
            assert ((target.masks[0] > 0) == red).float().mean() > 0.95


class _Told:
    """An adapter that predicts what it is told to, in pixels of the network input."""

    def __init__(self, adapter: Any, prediction: Prediction) -> None:
        self.module, self.input_spec, self.prediction = adapter.module, adapter.input_spec, prediction

    def predict(self, images: torch.Tensor) -> list[Prediction]:
        return [self.prediction]


def test_the_score_of_the_truth_is_one_and_falls_with_a_class_or_a_place_that_is_wrong() -> None:
    case = Case(get_plugin("toy"), "tiny_detector")
    adapter, _ = case.build()
    one = one_image(case, adapter)
    target = one.targets[0]
    truth = Prediction(boxes=target.boxes, scores=torch.tensor([0.9, 0.8]), labels=target.labels)
    told: list[tuple[Prediction, float]] = [
        (truth, 1.0),
        (replace(truth, labels=2 - target.labels), 0.0),
        (replace(truth, labels=torch.zeros(2, dtype=torch.int64)), 0.5),
        (replace(truth, boxes=target.boxes[:, [1, 0, 3, 2]]), 0.0),
    ]
    for prediction, expected in told:
        assert score(case, _Told(adapter, prediction), one) == pytest.approx(expected, abs=0.01)  # type: ignore[arg-type]


def test_a_mask_is_compared_with_that_of_the_best_object_of_its_class() -> None:
    drawn = draw((40, 80), [Shape(0, (0.0, 0.0, 0.25, 0.5)), Shape(3, (0.5, 0.0, 0.75, 1.0))])
    masks = drawn.masks[[0, 1, 1, 0]].copy()
    masks[1, 20:] = 0  # half of the second object
    found = Prediction(
        boxes=drawn.boxes[[0, 1, 1, 0]],
        scores=np.array([0.3, 0.9, 0.2, 0.1], np.float32),
        labels=np.array([0, 3, 3, 3]),
        masks=masks,
    )
    assert mask_overlaps(found, drawn) == [1.0, 0.5]
    assert mask_overlaps(replace(found, labels=np.array([1, 1, 1, 3])), drawn) == [0.0, 0.0]
    assert mask_overlaps(replace(found, masks=None), drawn) == [0.0, 0.0]
    assert mask_overlaps(replace(found, masks=masks * 0), drawn) == [0.0, 0.0]
    assert best_of(found, 3) == 1
    assert best_of(found, 2) is None


@pytest.mark.slow  # the contract of toy-instance, and half of its steps in test_twins, are in the fast suite
def test_an_instance_segmenter_is_trained_until_it_knows_its_masks() -> None:
    case = Case(get_plugin("toy"), "toy-instance")
    adapter = overfitted(case)
    one = one_image(case, adapter)
    assert score(case, adapter, one) >= ENOUGH
    assert min(mask_overlaps(find(case, adapter, one), one.drawing)) >= MASK_ENOUGH


def _broken(
    change: Callable[[list[Prediction]], list[Prediction]],
    scores: Callable[[torch.Tensor], torch.Tensor] = lambda scores: scores,
) -> ToyPlugin:
    class Adapter(SegmenterAdapter):
        def dense_logits(self, images: torch.Tensor) -> torch.Tensor:
            return scores(super().dense_logits(images))

        def predict(self, images: torch.Tensor) -> list[Prediction]:
            return change(list(super().predict(images)))

    class Plugin(ToyPlugin):
        def build(self, spec: Any) -> Any:
            adapter, report = super().build(spec)
            adapter.__class__ = Adapter
            return adapter, report

    return Plugin()


def _maps(change: Callable[[Any], Any]) -> Callable[[list[Prediction]], list[Prediction]]:
    return lambda found: [replace(each, semantic=change(each.semantic)) for each in found]


FAULTS: list[tuple[Check, Callable[[list[Prediction]], list[Prediction]], str]] = [
    (predictions_valid, _maps(lambda labels: labels + 1), "expected 0..2"),
    (predictions_valid, _maps(lambda labels: labels[::4, ::4]), r"a label map of \(24, 24\)"),
    (predictions_valid, _maps(lambda labels: None), "no label map"),
    (predictions_stand_alone, lambda found: [found[-1]] * len(found), "image 0 of 2 is not predicted as it is"),
]


@pytest.fixture(scope="module")
def sound() -> Case:
    """A segmenter that learns its image once for all tests."""
    return Case(get_plugin("toy"), "tiny_segmenter")


def _taught_by(sound: Case, plugin: ToyPlugin) -> Case:
    """Return the case of a broken segmenter with what the sound one has learnt: its faults do not touch training."""
    broken = Case(plugin, "tiny_segmenter")
    adapter, _ = broken.build()
    adapter.module.load_state_dict(overfitted(sound).module.state_dict())
    broken.trained = adapter
    return broken


@pytest.mark.parametrize(("check", "change", "told"), FAULTS)
def test_faults_of_label_maps_are_caught(
    sound: Case, check: Check, change: Callable[[list[Prediction]], list[Prediction]], told: str
) -> None:
    broken = _taught_by(sound, _broken(change))
    check.run(sound)
    with pytest.raises(AssertionError, match=told):
        check.run(broken)


@pytest.mark.parametrize(("axis", "told"), [(1, "mean class IoU on that image is 0.3"), (3, "on that image is 0")])
def test_scores_of_other_classes_or_places_are_caught(sound: Case, axis: int, told: str) -> None:
    broken = _taught_by(sound, _broken(list, lambda scores: scores.flip(axis)))
    with pytest.raises(AssertionError, match=told):
        overfits_one_image.run(broken)


def test_a_segmenter_that_loads_its_head_by_position_is_caught(sound: Case) -> None:
    class ByPosition(ToyPlugin):
        def build(self, spec: Any) -> Any:
            adapter, report = super().build(spec)
            if spec.weights != "none":
                tensors = read_tensors(spec.weights).tensors
                adapter.module.load_state_dict(tensors)
            return adapter, report

    head_by_class_name.run(sound)
    with pytest.raises(AssertionError, match=r"have another class|have lost their name"):
        head_by_class_name.run(_taught_by(sound, ByPosition()))
