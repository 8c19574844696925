"""Inputs made of two images: pixels, boxes, masks and label maps belong together afterwards."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tlvision.data.dataset import TargetParts
from tlvision.data.mixing import copy_paste, cut_mix, mix_up, seen
from tlvision.data.photometric import photometric
from tlvision.data.settings import AugmentSettings, InputSettings
from tlvision.data.train_images import TrainImages
from tlvision.types import InputError, InputSpec, Sample, Target

MakeSample = Callable[..., Sample]
SIZE = 40, 50
STILL = {"mosaic": 0, "scale": 0, "translate": 0, "flip": 0, "hue": 0, "saturation": 0, "value": 0}


def blobs(seed: int, count: int = 4) -> Target:
    """Random ellipses with the boxes around them, and a label map."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: SIZE[0], : SIZE[1]] + 0.5
    masks, boxes = [], []
    for _ in range(count):
        cx, cy, rx, ry = rng.uniform(8, 42), rng.uniform(8, 32), rng.uniform(4, 12), rng.uniform(4, 10)
        mask = ((x - cx) / rx) ** 2 + ((y - cy) / ry) ** 2 < 1
        masks.append(mask.astype(np.uint8))
        boxes.append(bounds(mask))
    return Target(
        boxes=np.array(boxes, np.float32),
        labels=rng.integers(0, 3, count),
        crowd=np.zeros(count, bool),
        masks=np.stack(masks),
        semantic=rng.integers(0, 3, SIZE),
    )


def bounds(mask: Any) -> list[float]:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]


def image(seed: int) -> Any:
    return np.random.default_rng(seed).integers(0, 256, (*SIZE, 3)).astype(np.uint8)


@pytest.mark.parametrize("seed", range(5))
def test_copied_objects_hide_what_is_behind_them(seed: int) -> None:
    one, other = blobs(seed), blobs(seed + 100)
    chosen = np.array([True, False, True, False])
    pixels, target = copy_paste((image(1), one), (image(2), other), chosen)
    expected, semantic = image(1), one.semantic.copy()  # type: ignore[union-attr]
    hidden = np.zeros(SIZE, bool)
    for index in np.flatnonzero(chosen):
        for row, column in np.argwhere(other.masks[index] > 0):  # type: ignore[index]
            expected[row, column] = image(2)[row, column]
            semantic[row, column] = other.labels[index]
            hidden[row, column] = True
    assert (pixels == expected).all()
    assert (target.semantic == semantic).all()
    left = [mask & ~hidden for mask in one.masks.astype(bool)]  # type: ignore[union-attr]
    kept = [n for n in range(4) if left[n].sum() >= 0.1 * one.masks[n].sum()]  # type: ignore[index]
    assert target.labels.tolist() == [*one.labels[kept], *other.labels[chosen]]
    assert (target.masks == np.stack([*(left[n] for n in kept), *other.masks[chosen]])).all()  # type: ignore[index]
    assert target.boxes.tolist() == [bounds(mask) for mask in target.masks]  # type: ignore[union-attr]


@pytest.mark.parametrize("seed", range(5))
def test_a_rectangle_brings_its_objects_and_takes_those_below(seed: int) -> None:
    one, other = blobs(seed), blobs(seed + 100)
    x0, y0, x1, y1 = 10, 5, 35, 30
    pixels, target = cut_mix((image(1), one), (image(2), other), (x0, y0, x1, y1))
    assert (pixels[y0:y1, x0:x1] == image(2)[y0:y1, x0:x1]).all()
    assert (pixels[:, :x0] == image(1)[:, :x0]).all()
    assert (target.semantic[y0:y1, x0:x1] == other.semantic[y0:y1, x0:x1]).all()  # type: ignore[index]
    assert (target.semantic[y1:] == one.semantic[y1:]).all()  # type: ignore[index]
    inside = np.zeros(SIZE, bool)
    inside[y0:y1, x0:x1] = True
    masks = [*(one.masks.astype(bool) & ~inside), *(other.masks.astype(bool) & inside)]  # type: ignore[union-attr]
    whole = [*one.masks, *other.masks]  # type: ignore[misc]
    kept = [n for n in range(8) if masks[n].sum() >= 0.1 * whole[n].sum()]
    assert target.labels.tolist() == [[*one.labels, *other.labels][n] for n in kept]
    assert (target.masks == np.stack([masks[n] for n in kept])).all()


def test_of_boxes_without_masks_the_visible_part_is_kept() -> None:
    boxes = np.array([[0, 0, 20, 10], [5, 5, 15, 15], [22, 22, 30, 30]], np.float32)
    target = Target(boxes=boxes, labels=np.arange(3), crowd=np.zeros(3, bool))
    hidden = np.zeros(SIZE, bool)
    hidden[:20, :15] = True
    found = seen(target, hidden)
    assert found.labels.tolist() == [0, 2]
    assert found.boxes.tolist() == [[15, 0, 20, 10], [22, 22, 30, 30]]
    wide = Target(boxes=np.array([[0, 0, 40, 30]], np.float32), labels=np.zeros(1, int), crowd=np.zeros(1, bool))
    hidden[:, :35] = True
    assert seen(wide, hidden).boxes.tolist() == [[35, 0, 40, 30]], "an eighth is left"
    hidden[:, :37] = True
    assert len(seen(wide, hidden)) == 0, "less than a tenth is left, though three pixels wide"
    hidden[:] = False
    hidden[6:9, 6:9] = True  # a hole in the middle shrinks no box
    assert seen(target, hidden).boxes.tolist() == boxes.tolist()


def test_a_mean_of_two_images_has_the_objects_of_both() -> None:
    one, other = blobs(1), blobs(2)
    pixels, target = mix_up((image(1), one), (image(2), other), 0.25)
    assert np.abs(pixels - (0.25 * image(1) + 0.75 * image(2))).max() <= 0.5
    assert target.labels.tolist() == [*one.labels, *other.labels]


@pytest.fixture
def samples(make_sample: MakeSample) -> list[Sample]:
    found = []
    for n in range(1, 6):
        x = 4.0 + 5 * n
        boxes = [[x, 4, x + 8, 20], [36 - x, 8, 44 - x, 18]]
        outlines = [np.array([[a, b], [c, b], [c, d], [a, d]], np.float32) for a, b, c, d in boxes]
        segments = tuple((outline,) for outline in outlines)
        found.append(make_sample(n, (32, 40), boxes, labels=[n % 3, 1], segments=segments))
    return found


def stream(samples: list[Sample], parts: TargetParts = TargetParts(), **augment: Any) -> TrainImages:  # noqa: B008
    settings = InputSettings(64, AugmentSettings(**augment), seed=3)
    return TrainImages(samples, InputSpec(), settings, num_classes=3, parts=parts)


@pytest.mark.parametrize("kind", ["copy_paste", "cutmix", "mixup"])
def test_mixing_is_a_function_of_the_position_and_ends_with_the_mosaics(kind: str, samples: list[Sample]) -> None:
    images, plain = stream(samples, **{kind: 1.0}), stream(samples)
    again = pickle.loads(pickle.dumps(images))
    changed = 0
    for position in range(8):
        one, other = images.draw(position, True), again.draw(position, True)
        assert (one[0] == other[0]).all()
        assert (one[1].boxes == other[1].boxes).all()
        assert (images.draw(position, False)[0] == plain.draw(position, False)[0]).all()
        changed += not (one[0] == plain.draw(position, True)[0]).all()
    assert changed >= 6


def test_a_probability_of_zero_changes_no_bit(samples: list[Sample]) -> None:
    parts = TargetParts(masks=True)
    mixed, plain = stream(samples, parts, copy_paste=1e-12, blur=1e-12), stream(samples, parts)
    for position in range(6):
        one, other = mixed.draw(position, True), plain.draw(position, True)
        assert (one[0] == other[0]).all()
        assert (one[1].masks == other[1].masks).all()


def test_boxes_alone_are_pasted_by_masks_that_the_task_does_not_see(samples: list[Sample]) -> None:
    images = stream(samples, copy_paste=1.0, **STILL)
    found = [images.draw(position, True)[1] for position in range(20)]
    assert all(target.masks is None for target in found)
    assert {len(target) for target in found} >= {3, 4}


def test_label_maps_are_pasted_and_cut(samples: list[Sample]) -> None:
    parts = TargetParts(label_map=True, background=0)
    images, plain = stream(samples, parts, copy_paste=1.0, **STILL), stream(samples, parts, **STILL)
    assert any(
        (images.draw(position, True)[1].semantic != plain.draw(position, True)[1].semantic).any()
        for position in range(8)
    )
    with pytest.raises(InputError, match=r"data\.augment\.mixup: label maps cannot be mixed; use cutmix"):
        stream(samples, parts, mixup=0.5)


def test_copying_needs_masks(make_sample: MakeSample) -> None:
    with pytest.raises(InputError, match=r"data\.augment\.copy_paste: objects are cut out by their masks"):
        stream([make_sample(1, (32, 40), [[4, 4, 16, 20]])], copy_paste=0.5)


@pytest.mark.parametrize("kind", ["gamma", "clahe", "blur", "noise", "jpeg", "cutout"])
def test_each_photometric_change_is_seeded_and_leaves_the_others_alone(kind: str) -> None:
    picture = image(7)
    before = picture.copy()
    settings = AugmentSettings(**{kind: 1.0})
    found = photometric(np.random.default_rng(1), settings, picture)
    assert (picture == before).all(), "the cached image stays as it is"
    assert (found.shape, found.dtype) == (picture.shape, np.uint8)
    assert (found != picture).mean() > 0.01
    assert (found == photometric(np.random.default_rng(1), settings, picture)).all()
    after = np.random.default_rng(1), np.random.default_rng(1)
    photometric(after[0], settings, picture)
    photometric(after[1], AugmentSettings(gamma=0.5, jpeg=0.5), picture)
    assert after[0].random() == after[1].random()


def test_jpeg_keeps_red_red() -> None:
    red = np.zeros((32, 32, 3), np.uint8)
    red[..., 0] = 200
    assert np.abs(photometric(np.random.default_rng(0), AugmentSettings(jpeg=1.0), red).astype(int) - red).max() < 8


def test_flips_have_names() -> None:
    flips = {
        name: AugmentSettings.model_validate({"flip": name}) for name in ("none", "horizontal", "vertical", "both")
    }
    assert {name: (each.flip, each.flip_vertical) for name, each in flips.items()} == {
        "none": (0.0, 0.0),
        "horizontal": (0.5, 0.0),
        "vertical": (0.0, 0.5),
        "both": (0.5, 0.5),
    }
    assert AugmentSettings.model_validate({"flip": "none", "flip_vertical": 0.2}).flip_vertical == 0.2
    with pytest.raises(ValueError, match="expected a probability, or one of none, horizontal"):
        AugmentSettings.model_validate({"flip": "left"})
    safe = AugmentSettings()
    assert (safe.rotate, safe.shear, safe.flip_vertical, safe.mixup, safe.cutmix, safe.copy_paste) == (0,) * 6
