"""Random windows: inside the image, of the size asked for, and worth learning from."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tlvision.data.crop import place_crop
from tlvision.data.dataset import TargetParts
from tlvision.data.geometry import apply, warp_mask
from tlvision.data.settings import AugmentSettings, InputSettings
from tlvision.data.train_images import TrainImages
from tlvision.formats.label_maps import read_label_maps, write_label_map
from tlvision.types import ClassMap, InputSpec

MAP = np.zeros((60, 80), np.uint8)
MAP[30:45, 60:75] = 1
MAP[:, :10] = 255


def settings(**chosen: Any) -> AugmentSettings:
    return AugmentSettings(mosaic=0, hue=0, saturation=0, value=0, **chosen)


def windows(chosen: AugmentSettings, count: int, crop: int = 32) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    found = []
    for _ in range(count):
        placement = place_crop(rng, chosen, (60, 80), (80, 80), (crop, crop), InputSpec(), lambda: MAP)
        found.append(warp_mask(MAP, placement.matrix, (crop, crop), pad_value=200))
    return found


def test_a_window_lies_in_the_image_and_an_unscaled_image_is_copied() -> None:
    found = windows(settings(scale=0, flip=0, crop_limit=1), 200)
    assert not any((window == 200).any() for window in found)
    pieces = {MAP[y : y + 32, x : x + 32].tobytes() for y in range(29) for x in range(49)}
    assert all(window.tobytes() in pieces for window in found)
    assert len({window.tobytes() for window in found}) > 30


def test_a_small_image_lies_in_the_window_whole() -> None:
    for window in windows(settings(scale=0, crop_limit=1), 20, crop=96):
        assert (window != 200).sum() == MAP.size


def test_scale_flip_and_rotation_stay_in_their_ranges() -> None:
    rng = np.random.default_rng(0)
    matrices = [
        place_crop(rng, settings(scale=0.5, flip=0.5), (60, 80), (160, 160), (32, 32), InputSpec(), None).matrix
        for _ in range(500)
    ]
    gains = np.array([abs(matrix[0, 0]) for matrix in matrices])
    assert 1.0 <= gains.min() < 1.05
    assert 2.95 < gains.max() <= 3.0
    assert np.mean([matrix[0, 0] < 0 for matrix in matrices]) == pytest.approx(0.5, abs=0.07)
    turned = place_crop(rng, settings(rotate=90), (60, 80), (160, 160), (32, 32), InputSpec(), None).matrix
    assert turned[0, 1] != 0


def test_a_class_can_be_asked_for() -> None:
    share = {
        aware: np.mean([(window == 1).any() for window in windows(settings(crop_class_aware=aware, crop_limit=1), 200)])
        for aware in (0.0, 1.0)
    }
    assert share[1.0] > share[0.0] + 0.2  # in half of the windows it is the class drawn


def test_one_class_fills_no_more_than_the_limit_where_that_can_be() -> None:
    def one_sided(limit: float) -> float:
        known = [window[window != 255] for window in windows(settings(crop_limit=limit), 200)]
        return float(np.mean([np.bincount(labels).max() > 0.95 * labels.size for labels in known]))

    assert one_sided(1.0) > 0.4
    assert one_sided(0.9) < one_sided(1.0) / 2  # not always: after ten tries the last is taken


def test_training_images_are_windows_and_labels_follow(tmp_path: Path) -> None:
    from PIL import Image

    (tmp_path / "images").mkdir()
    (tmp_path / "masks").mkdir()
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, (60, 80)).astype(np.uint8)
    Image.fromarray(np.repeat(labels[..., None] * np.uint8(255), 3, axis=2)).save(tmp_path / "images" / "a.png")
    write_label_map(tmp_path / "masks" / "a.png", labels)
    data = read_label_maps(tmp_path / "images", tmp_path / "masks", ClassMap(("black", "white"), (0, 1)))
    images = TrainImages(
        data.samples,
        InputSpec(multiple_of=16),
        InputSettings(80, settings(crop=40, scale=0)),
        num_classes=2,
        parts=TargetParts(label_map=True),
    )
    assert images.canvas(0, True) == (48, 48)
    for position in range(10):
        image, target, meta = images.draw(position, True)
        assert image.shape == (48, 48, 3)
        assert target.semantic is not None
        assert ((image[..., 0] > 127) == (target.semantic == 1)).all()
        corner = apply(meta.matrix, np.array([[0.0, 0.0], [80.0, 60.0]]))
        assert corner.min() <= 0
        assert corner.max() >= 48


def test_boxes_follow_windows_too(make_sample: Callable[..., Any]) -> None:
    images = TrainImages(
        [make_sample(1, (60, 80), [[10, 10, 40, 40]])],
        InputSpec(multiple_of=16),
        InputSettings(80, settings(crop=48, scale=0, flip=0)),
        num_classes=1,
    )
    image, target, meta = images.draw(0, True)
    assert image.shape == (48, 48, 3)
    expected = apply(meta.matrix, np.array([[10.0, 10.0], [40.0, 40.0]])).clip(0, 48).ravel()
    assert target.boxes[0].tolist() == expected.tolist()
