"""What the checks are given: models, drawn images at network size, plans and training steps."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
import torch

from tlvision.conformance.case import BatchName, Case, capability_protocols
from tlvision.conformance.checks.tools import changed, restore, same, snapshot
from tlvision.plugin import get_plugin
from tlvision.synthetic.shapes import COLOURS, Shape, draw
from tlvision.types import IGNORE_INDEX, ClassMap

NAMES: tuple[BatchName, ...] = get_args(BatchName)


@pytest.fixture
def case() -> Case:
    return Case(get_plugin("toy"), "tiny_detector")


def test_a_drawing_shows_its_objects_where_it_says() -> None:
    shapes = [Shape(label, (0.1 + 0.3 * label, 0.2, 0.3 + 0.3 * label, 0.9)) for label in range(3)]
    drawing = draw((80, 160), shapes, background=7)
    assert drawing.image.shape == (80, 160, 3)
    assert drawing.labels.tolist() == [0, 1, 2]
    for label, box in zip(drawing.labels, drawing.boxes, strict=True):
        rows, columns = np.nonzero(drawing.semantic == label)
        assert (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1) == tuple(box)
        mean = drawing.image[drawing.semantic == label].mean(axis=0)
        assert np.abs(mean - np.array(COLOURS[label])).max() < 15
        assert np.array_equal(drawing.masks[label] > 0, drawing.semantic == label)
    assert (drawing.semantic[:10] == 7).all()
    assert not np.array_equal(drawing.image, draw((80, 160), shapes, seed=1).image)
    assert np.array_equal(drawing.image, draw((80, 160), shapes, background=7).image)


def test_what_a_later_object_covers_is_not_in_the_mask_of_an_earlier() -> None:
    drawing = draw((40, 80), [Shape(0, (0.0, 0.0, 0.5, 1.0)), Shape(3, (0.25, 0.5, 0.75, 1.0))])
    assert drawing.masks.dtype == np.uint8
    assert drawing.masks.shape == (2, 40, 80)
    assert drawing.masks.sum(axis=0).max() == 1
    assert drawing.masks[1].sum() == 20 * 40
    assert drawing.masks[0].sum() == 40 * 40 - 20 * 20
    assert drawing.boxes[0].tolist() == [0, 0, 40, 40], "the box is of the whole object"


def test_building_twice_gives_the_same_model_in_train_mode(case: Case) -> None:
    (first, _), (second, _) = case.build(), case.build()
    first.module.eval()
    third, _ = case.build(seed=1)
    assert second.module.training
    assert same(first.module.state_dict(), second.module.state_dict())
    assert not same(first.module.state_dict(), third.module.state_dict())


@pytest.mark.parametrize("name", NAMES)
def test_batches_have_what_their_name_says(case: Case, name: BatchName) -> None:
    adapter, _ = case.build()
    images, targets = case.batch(adapter, name)
    assert images.dtype == torch.float32
    assert images.shape == (2, 3, 64 if name == "wide" else 96, 96)
    found = [sorted(target.labels.tolist()) for target in targets]
    every = [0, 1, 2]
    expected = {
        "square": [every, every],
        "wide": [every, every],
        "mixed_empty": [every, []],
        "all_empty": [[], []],
        "one_object_each": [[0], [2]],
    }
    assert found == expected[name]
    height, width = images.shape[2:]
    for target in targets:
        assert target.semantic is None
        assert target.masks is None
        assert bool((target.boxes >= 0).all())
        assert bool((target.boxes <= torch.tensor([width, height, width, height])).all())


@pytest.mark.parametrize("name", ["square", "wide"])
def test_boxes_and_label_maps_lie_on_the_shapes_at_network_size(name: BatchName) -> None:
    segmenter = Case(get_plugin("toy"), "tiny_segmenter")
    adapter, _ = segmenter.build()
    images, targets = segmenter.batch(adapter, name)
    spec = adapter.input_spec
    pixels = (images * torch.tensor(spec.std).view(1, 3, 1, 1) + torch.tensor(spec.mean).view(1, 3, 1, 1)) * 255
    for image, target in zip(pixels, targets, strict=True):
        assert target.semantic is not None
        for label, box in zip(target.labels.tolist(), target.boxes, strict=True):
            inside = target.semantic == label
            rows, columns = inside.nonzero(as_tuple=True)
            seen = torch.stack([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]).float()
            assert (seen - box).abs().max() <= 1.5
            assert (image[:, inside].mean(dim=1) - torch.tensor(COLOURS[label])).abs().max() < 25


@pytest.mark.parametrize("name", NAMES)
def test_masks_lie_in_their_boxes_on_the_shapes_at_network_size(name: BatchName) -> None:
    segmenter = Case(get_plugin("toy"), "toy-instance")
    adapter, _ = segmenter.build()
    images, targets = segmenter.batch(adapter, name)
    spec = adapter.input_spec
    pixels = (images * torch.tensor(spec.std).view(1, 3, 1, 1) + torch.tensor(spec.mean).view(1, 3, 1, 1)) * 255
    for image, target in zip(pixels, targets, strict=True):
        assert target.masks.shape == (len(target), *images.shape[2:])
        assert target.masks.dtype == torch.uint8
        for mask, label, box in zip(target.masks, target.labels.tolist(), target.boxes, strict=True):
            rows, columns = mask.nonzero(as_tuple=True)
            seen = torch.stack([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]).float()
            assert (seen - box).abs().max() <= 1.5
            assert (image[:, mask > 0].mean(dim=1) - torch.tensor(COLOURS[label])).abs().max() < 25


def test_what_is_not_drawn_is_ignored_unless_a_class_is_called_background() -> None:
    for names, expected in ((("ant", "bee"), IGNORE_INDEX), (("ant", "background"), 1)):
        segmenter = Case(get_plugin("toy"), "tiny_segmenter", classes=ClassMap.from_names(names))
        adapter, _ = segmenter.build()
        _, targets = segmenter.batch(adapter, "all_empty")
        assert set(targets[0].semantic.unique().tolist()) == {expected}


def test_practice_trains_what_the_plan_trains() -> None:
    case = Case(get_plugin("toy"), "tiny_segmenter")
    adapter, _ = case.build()
    batch = case.batch(adapter, "square")
    practice = case.trainer(adapter, case.prefix_plan(adapter, 3), optimizer="adamw", lr=1e-3)
    before = snapshot(adapter.module)
    first = sum(practice.take_step(*batch).values())
    moved = changed(adapter.module, before)
    groups = case.groups(adapter)
    assert {(groups.parameters | groups.buffers)[name] for name in moved} == {3, 4, 5, 6}
    for _ in range(10):
        last = sum(practice.take_step(*batch).values())
    assert last < first
    assert practice.step == 11
    restore(adapter.module, before)
    assert not changed(adapter.module, before)


def test_practice_stops_at_a_loss_that_is_not_finite(case: Case) -> None:
    adapter, _ = case.build()
    images, targets = case.batch(adapter, "square")
    practice = case.trainer(adapter, case.plan(adapter))
    with pytest.raises(AssertionError, match="'loss_class' is nan after 0 steps"):
        practice.take_step(images * torch.nan, targets)


def test_bits_are_compared_with_shape_dtype_and_nan() -> None:
    nan = torch.tensor([float("nan"), 1.0])
    assert same([nan], (nan.clone(),))
    assert not same(torch.zeros(2), torch.zeros(2, 1))
    assert not same(torch.zeros(2), torch.zeros(2, dtype=torch.float64))
    assert not same([torch.zeros(2)], [])


def test_capabilities_are_found_in_the_contract() -> None:
    assert set(capability_protocols()) >= {"HasTrainingProgress"}
    assert not {"Adapter", "Plugin"} & set(capability_protocols())
    assert Case(get_plugin("toy"), "tiny_detector").capabilities == {"Exportable", "HasScoreGradients"}
    assert Case(get_plugin("toy"), "tiny_segmenter").capabilities == {"Exportable"}
