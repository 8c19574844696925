"""Corruptions of images: strength by severity, repeatable draws, and the numbers that they are named after."""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from torchvision.ops import box_iou

from tlvision.analysis.robustness.blur import disc, line
from tlvision.analysis.robustness.corruptions import CHANGES, VIEWS, corrupt
from tlvision.analysis.robustness.severities import SCALES, SEVERITIES
from tlvision.data.images import read_any_image
from tlvision.data.targets import move_sample
from tlvision.formats.coco import read_coco
from tlvision.types import InputError, Pixels, Sample

RANDOM = {"motion_blur", "gaussian_noise", "shot_noise", "fog", "occlusion", "rotation"}


def photograph(seed: int, size: tuple[int, int] = (120, 160)) -> Pixels:
    """An image with the statistics of photographs: the amplitude falls with the frequency, and edges of shapes."""
    rng = np.random.default_rng(seed)
    image = np.full((*size, 3), 120.0)
    for side in (2, 4, 8, 16, 32, 64):
        image += cv2.resize(rng.normal(0, 60 / side**0.7, (side, side, 3)), size[::-1], interpolation=cv2.INTER_CUBIC)
    for _ in range(6):
        x, y = rng.integers(0, size[1]), rng.integers(0, size[0])
        cv2.circle(image, (int(x), int(y)), int(rng.integers(6, 25)), rng.integers(20, 235, 3).tolist(), -1)
    return np.clip(image, 0, 255).astype(np.uint8)


def distances(images: list[Pixels], name: str) -> list[float]:
    """Return the mean distance to the clean images at severities 1 to 5, with checks of shape and input."""
    result = []
    for severity in SEVERITIES:
        apart = []
        for number, image in enumerate(images):
            before = image.copy()
            changed = corrupt(image, name, severity, name=f"{number}.png")
            assert changed.shape == image.shape
            assert changed.dtype == np.uint8
            assert (image == before).all()
            apart.append(float(np.abs(changed.astype(float) - image).mean()))
        result.append(float(np.mean(apart)))
    return result


def test_every_corruption_has_strengths_and_a_function() -> None:
    assert len(SCALES) >= 10
    assert {*CHANGES, *VIEWS} == {*SCALES}
    assert not {*CHANGES} & {*VIEWS}


@pytest.mark.parametrize("name", SCALES)
def test_distance_to_the_clean_image_grows_with_severity(name: str) -> None:
    # White, because a smaller picture on grey may be nearer to a grey photograph than a larger one.
    images = [np.full((120, 160, 3), 255, np.uint8)] if name == "scale" else [photograph(seed) for seed in range(4)]
    found = distances(images, name)
    assert found == sorted(found)
    assert len(set(found)) == 5
    assert found[0] > 0.5


@pytest.mark.shared
def test_distance_grows_on_photographs(shared: Path) -> None:
    paths = sorted((shared / "data" / "coco128" / "images").glob("*.jpg"))[:4]
    images = [np.asarray(cv2.resize(read_any_image(path), (320, 240)), np.uint8) for path in paths]
    assert len(images) == 4
    for name in SCALES:
        found = distances(images, name)
        assert found == sorted(found), name
        assert len(set(found)) == 5, name


@pytest.mark.parametrize("name", SCALES)
def test_draws_depend_on_seed_and_image_only(name: str) -> None:
    image = photograph(0)
    first = corrupt(image, name, 3, seed=1, name="a.png")
    for other in SCALES:  # whatever ran in between
        corrupt(image, other, 2, seed=1, name="b.png")
    assert (corrupt(image, name, 3, seed=1, name="a.png") == first).all()
    seeds = [corrupt(image, name, 3, seed=seed, name="a.png") for seed in range(2, 10)]
    names = [corrupt(image, name, 3, seed=1, name=f"{number}.png") for number in range(8)]
    for others in (seeds, names):
        assert any((each != first).any() for each in others) == (name in RANDOM)


@pytest.mark.parametrize("name", SCALES)
@pytest.mark.parametrize("size", [(1, 1), (1, 40), (37, 3)])
def test_small_images_keep_their_shape(name: str, size: tuple[int, int]) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*size, 3)).astype(np.uint8)
    for severity in (1, 5):
        assert corrupt(image, name, severity).shape == image.shape


def test_severities_share_their_draws() -> None:
    """A larger patch covers the smaller one, and motion goes along the same path."""
    black = np.zeros((120, 160, 3), np.uint8)
    covered = [corrupt(black, "occlusion", severity, name="a").max(axis=2) > 0 for severity in SEVERITIES]
    for smaller, larger in pairwise(covered):
        assert larger[smaller].all()
        assert larger.sum() > smaller.sum()
    point = np.zeros((301, 301, 3), np.uint8)
    point[150, 150] = 255
    angles = []
    for severity in (3, 5):
        rows, columns = np.nonzero(corrupt(point, "motion_blur", severity, name="a")[..., 0] > 4)
        slope = np.linalg.eigh(np.cov(columns, rows))[1][:, 1]
        angles.append(np.degrees(np.arctan2(slope[1], slope[0])) % 180)
    assert angles[0] == pytest.approx(angles[1], abs=4)


@pytest.mark.parametrize("severity", SEVERITIES)
def test_strengths_are_what_they_are_named_after(severity: int) -> None:
    def strength(name: str) -> float:
        return SCALES[name].values[severity - 1]

    grey = np.full((256, 256, 3), 128, np.uint8)
    noise = corrupt(np.full_like(grey, 128), "gaussian_noise", severity).astype(float) / 255
    inside = (noise > 0) & (noise < 1)  # the rest is clipped
    assert abs(noise - 128 / 255)[inside].std() > 0
    assert np.quantile(np.abs(noise - 128 / 255), 0.5) == pytest.approx(0.6745 * strength("gaussian_noise"), rel=0.04)
    shot = corrupt(np.full_like(grey, 40), "shot_noise", severity).astype(float) / 255
    assert shot.var() == pytest.approx(40 / 255 / strength("shot_noise"), rel=0.04)
    dark = corrupt(np.full_like(grey, 200), "darkness", severity)
    assert dark[0, 0, 0] == pytest.approx(200 * strength("darkness"), abs=0.5)
    bright = corrupt(np.full_like(grey, 60), "brightness", severity)
    assert bright[0, 0, 0] == pytest.approx(60 + 255 * strength("brightness"), abs=0.6)
    halves = grey.copy()
    halves[:128], halves[128:] = 28, 228
    levels = np.unique(corrupt(halves, "contrast", severity))
    assert np.ptp(levels) == pytest.approx(200 * strength("contrast"), abs=1)
    assert levels.mean() == pytest.approx(128, abs=1)
    shade = corrupt(np.zeros_like(grey), "occlusion", severity)[..., 0] > 0
    assert shade.mean() == pytest.approx(strength("occlusion"), abs=0.035)
    black, white = (corrupt(np.full_like(grey, level), "fog", severity).astype(float) for level in (0, 255))
    opacity = 1 - (white - black) / 255
    assert opacity.mean() == pytest.approx(strength("fog"), abs=0.03)
    assert opacity.std() > 0.04


def test_kernels_have_their_length_and_keep_the_mean() -> None:
    for radius in (0.1, 0.7, 1.0, 2.6, 7.3):
        kernel = disc(radius)
        assert kernel.shape[0] == kernel.shape[1]
        assert kernel.shape[0] % 2 == 1
        assert kernel.sum() == pytest.approx(1, abs=1e-5)
        steps = np.arange(len(kernel)) - len(kernel) // 2
        second = float((kernel * (steps[:, None] ** 2 + steps[None] ** 2)).sum())
        assert second == pytest.approx(radius**2 / 2, abs=0.25 + 0.06 * radius**2)
    for length in (0.5, 3, 9.4):
        for angle in (0.0, 0.6, 1.6, 2.9):
            kernel = line(length, angle)
            steps = np.arange(len(kernel)) - len(kernel) // 2
            assert kernel.sum() == pytest.approx(1, abs=1e-5)
            assert float((kernel * steps[None]).sum()) == pytest.approx(0, abs=1e-5)
            along = steps[None] * np.cos(angle) + steps[:, None] * np.sin(angle)
            assert float((kernel * along**2).sum()) == pytest.approx(length**2 / 12, abs=0.27)


def test_a_wrong_name_or_severity_is_an_error() -> None:
    image = photograph(0)
    with pytest.raises(InputError, match=r"unknown corruption 'motion_blurr'\. Did you mean 'motion_blur'\?"):
        corrupt(image, "motion_blurr", 1)
    for severity in (0, 6, -1):
        with pytest.raises(InputError, match=f"severities from 1 to 5, got {severity}"):
            corrupt(image, "fog", severity)


def test_the_page_has_the_strengths(repository: Path) -> None:
    text = (repository / "docs" / "robustness.md").read_text("utf-8")
    rows = re.findall(r"^\| `(\w+)` \|.*\| ([\d., ]+) \|$", text, re.MULTILINE)
    assert {name: tuple(map(float, values.split(", "))) for name, values in rows} == {
        name: scale.values for name, scale in SCALES.items()
    }


def turned(sample: Sample, degrees: float) -> tuple[Any, Any, Any]:
    """Return boxes of the objects of a turned image: around the masks, around ellipses, around corners."""
    plain = replace(sample, segments=(None,) * len(sample.segments))
    matrix = np.vstack([cv2.getRotationMatrix2D((sample.width / 2, sample.height / 2), degrees, 0.6), [0, 0, 1]])
    boxes = [move_sample(each, matrix, min_visible=0.0).target.boxes for each in (sample, plain)]
    x0, y0, x1, y1 = sample.target.boxes.T
    corners = np.stack([[x0, y0], [x1, y0], [x1, y1], [x0, y1]])  # (4, 2, K)
    mapped = np.einsum("ij,cjk->cik", matrix[:2, :2], corners) + matrix[:2, 2, None]
    return boxes[0], boxes[1], np.concatenate([mapped.min(axis=0), mapped.max(axis=0)]).T


@pytest.mark.shared
@pytest.mark.slow
def test_the_ellipse_is_a_better_box_of_a_turned_object_than_its_corners(shared: Path, repository: Path) -> None:
    """The table of docs/robustness.md: mean IoU with the box around the turned mask."""
    folder = shared / "data" / "coco128"
    data = read_coco(folder / "train_seg.json", folder / "images", require_masks=True)
    rows: dict[str, list[str]] = {"ellipse (used)": [], "corners of the box": []}
    count = 0
    for degrees in (5, 10, 15, 20, 30):
        found = [turned(sample, degrees) for sample in data.samples if len(sample.target)]
        whole = [each for each in found if len({len(boxes) for boxes in each}) == 1]
        masks, ellipses, corners = (
            torch.from_numpy(np.concatenate(part)).double() for part in zip(*whole, strict=True)
        )
        count = count or len(masks)
        for name, boxes in zip(rows, (ellipses, corners), strict=True):
            rows[name].append(f"{float(box_iou(masks, boxes).diagonal().mean()):.2f}")
    text = (repository / "docs" / "robustness.md").read_text("utf-8")
    assert f"On {count} objects" in text
    for name, values in rows.items():
        assert f"| {name} | {' | '.join(values)} |" in text
    assert all(float(e) > float(c) + 0.05 for e, c in zip(*rows.values(), strict=True))
