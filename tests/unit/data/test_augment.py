from __future__ import annotations

import cv2
import numpy as np
import pytest
from pydantic import ValidationError

from tlvision.data import geometry as g
from tlvision.data.augment import jitter_colour, place_mosaic, place_one, random_affine
from tlvision.data.settings import AugmentSettings, StrongView
from tlvision.types import InputSpec

STILL = AugmentSettings(
    mosaic=0, scale=0, translate=0, rotate=0, shear=0, flip=0, flip_vertical=0, hue=0, saturation=0, value=0
)
SIZES = [(40, 64), (64, 30), (64, 64), (20, 64)]


def smooth(size: tuple[int, int], seed: int) -> np.ndarray:
    coarse = np.random.default_rng(seed).integers(60, 256, (4, 4, 3), dtype=np.uint8)
    return cv2.resize(coarse, size[::-1], interpolation=cv2.INTER_CUBIC).clip(60, 255)


def mosaic_by_hand(
    images: list[np.ndarray], seed: int, settings: AugmentSettings, side: int
) -> tuple[np.ndarray, np.ndarray]:
    """The common way: tiles copied onto a canvas of twice the size, then the whole warped down.

    Returns the image, and which tile (1..4, 0 for none) each pixel shows.
    """
    rng = np.random.default_rng(seed)
    centre_x, centre_y = (int(value) for value in rng.uniform(0.25, 0.75, 2) * 2 * side)
    affine = random_affine(rng, settings, (2 * side, 2 * side), (side, side))
    canvas = np.zeros((2 * side, 2 * side, 3), np.uint8)
    tiles = np.zeros((2 * side, 2 * side), np.uint8)
    for number, image in enumerate(images):
        height, width = image.shape[:2]
        x = centre_x - (width if number % 2 == 0 else 0)
        y = centre_y - (height if number < 2 else 0)
        rows = np.arange(max(y, 0), min(y + height, 2 * side))[:, None]
        columns = np.arange(max(x, 0), min(x + width, 2 * side))
        canvas[rows, columns] = image[rows - y, columns - x]
        tiles[rows, columns] = number + 1
    centred = (g.translate(-0.5, -0.5) @ affine @ g.translate(0.5, 0.5))[:2]
    warped = cv2.warpAffine(canvas, centred, (side, side), flags=cv2.INTER_LINEAR)
    return warped, cv2.warpAffine(tiles, centred, (side, side), flags=cv2.INTER_NEAREST)


class WholeCentre(np.random.Generator):
    """Draws whole pixels for the centre of the mosaic, which is what copying tiles by hand can do."""

    side = 64

    def uniform(self, low: float, high: float, size: int) -> np.ndarray:  # type: ignore[override]
        values = super().uniform(low, high, size)
        return np.floor(values * 2 * self.side) / (2 * self.side) if (low, high) == (0.25, 0.75) else values


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("turned", [False, True])
def test_the_mosaic_equals_one_composed_by_hand(seed: int, turned: bool) -> None:
    settings = AugmentSettings(rotate=30 if turned else 0, shear=10 if turned else 0, flip_vertical=0.5)
    images = [smooth(size, number) for number, size in enumerate(SIZES)]
    rng = WholeCentre(np.random.PCG64(np.random.SeedSequence(seed)))
    placements = place_mosaic(rng, settings, SIZES, (64, 64), InputSpec())
    canvas = np.zeros((64, 64, 3), np.uint8)
    for image, placement in zip(images, placements, strict=True):
        g.paint(canvas, image, placement.matrix, placement.region)
    expected, tiles = mosaic_by_hand(images, seed, settings, 64)
    # At seams the common way blends neighbours, and here each tile ends sharply: compare inside the tiles.
    square = np.ones((5, 5), np.uint8)
    calm = cv2.erode(tiles, square) == cv2.dilate(tiles, square)
    calm[:2] = calm[-2:] = calm[:, :2] = calm[:, -2:] = False  # a seam may lie just outside
    assert calm.mean() > 0.5
    assert len(np.unique(tiles[calm])) >= 2
    difference = np.abs(canvas.astype(int) - expected)[calm]
    assert difference.max() <= 6
    assert difference.mean() < 0.5


def test_the_tiles_touch_the_centre_and_are_cut_at_the_canvas() -> None:
    rng = np.random.default_rng(0)
    cut = 0
    for _ in range(200):
        placements = place_mosaic(rng, STILL, SIZES, (64, 64), InputSpec())
        corners = []
        for number, (placement, size) in enumerate(zip(placements, SIZES, strict=True)):
            corner = [size[1] if number % 2 == 0 else 0, size[0] if number < 2 else 0]
            corners.append(g.apply(placement.matrix, np.array([corner], float))[0])
            assert placement.matrix[0, 0] == 1  # no second scaling for what fills the canvas already
            region = placement.region
            assert region is not None
            assert 0 <= region[0] < region[2] <= size[1]
            cut += region != (0, 0, size[1], size[0])
            seen = g.apply(placement.matrix, np.array([region[:2], region[2:]]))
            assert (seen >= -32 - 1e-9).all()  # the canvas of 128 lies around the output of 64
            assert (seen <= 96 + 1e-9).all()
        assert np.ptp(np.array(corners), axis=0).max() < 1e-9
        assert (np.abs(corners[0] - 32) <= 32).all()  # the centre lies in the middle half of the canvas
    assert cut > 50


def test_ranges_of_the_affine_map() -> None:
    rng = np.random.default_rng(0)
    settings = AugmentSettings(scale=0.5, translate=0.1, flip=0.25, flip_vertical=0)
    drawn = [random_affine(rng, settings, (200, 200), (100, 100)) for _ in range(2000)]
    gains = np.abs([matrix[0, 0] for matrix in drawn])
    assert 0.5 <= gains.min() < 0.52
    assert 1.48 < gains.max() <= 1.5
    middles = np.array([matrix @ [100, 100, 1] for matrix in drawn])[:, :2]
    assert 40 <= middles.min() < 41
    assert 59 < middles.max() <= 60
    assert np.mean([matrix[0, 0] < 0 for matrix in drawn]) == pytest.approx(0.25, abs=0.04)
    assert all(matrix[1, 1] > 0 and matrix[0, 1] == matrix[1, 0] == 0 for matrix in drawn)


@pytest.mark.parametrize("resize", ["letterbox", "stretch"])
def test_without_augmentation_one_image_is_only_fitted(resize: str) -> None:
    placement = place_one(np.random.default_rng(0), STILL, (30, 60), (32, 32), InputSpec(resize=resize))
    expected = g.letterbox((30, 60), (32, 32)) if resize == "letterbox" else g.stretch((30, 60), (32, 32))
    assert np.abs(placement.matrix - expected).max() < 1e-12


def test_one_switch_leaves_the_other_draws_as_they_were() -> None:
    one = random_affine(np.random.default_rng(3), AugmentSettings(rotate=0, flip=0), (64, 64), (64, 64))
    two = random_affine(np.random.default_rng(3), AugmentSettings(rotate=30, flip=0), (64, 64), (64, 64))
    assert np.linalg.det(one[:2, :2]) == pytest.approx(np.linalg.det(two[:2, :2]))
    assert np.abs(one @ [32, 32, 1] - two @ [32, 32, 1]).max() < 1e-9


def test_colour_jitter_changes_what_it_says() -> None:
    colour = np.full((2, 2, 3), (200, 100, 50), np.uint8)
    same = colour.copy()
    jitter_colour(np.random.default_rng(0), STILL, same)
    assert (same == colour).all()
    darkest, palest, hues = 255, 255, set()
    for seed in range(200):
        image = colour.copy()
        jitter_colour(np.random.default_rng(seed), AugmentSettings(hue=0, saturation=0, value=0.4), image)
        assert image[0, 0, 0] / 255 == pytest.approx(200 / 255 * image[0, 0, 0] / 200, abs=0.01)
        assert image[0, 0, 1] / image[0, 0, 0] == pytest.approx(0.5, abs=0.02)  # hue and saturation stay
        darkest = min(darkest, int(image[0, 0, 0]))
        image = colour.copy()
        jitter_colour(np.random.default_rng(seed), AugmentSettings(hue=0, saturation=0.7, value=0), image)
        assert abs(int(image[0, 0, 0]) - 200) <= 1  # brightness is the largest channel
        palest = min(palest, int(image[0, 0, 0]) - int(image[0, 0, 2]))
        image = colour.copy()
        jitter_colour(np.random.default_rng(seed), AugmentSettings(hue=0.5, saturation=0, value=0), image)
        hues.add(int(image[0, 0].argmax()))
    assert 115 <= darkest <= 130  # 200 * 0.6
    assert 40 <= palest <= 60  # 150 * 0.3
    assert hues == {0, 1, 2}


def test_black_white_and_grey_survive_a_change_of_hue_and_saturation() -> None:
    image = np.array([[[0, 0, 0], [255, 255, 255], [99, 99, 99]]], np.uint8)
    before = image.copy()
    for seed in range(20):
        jitter_colour(np.random.default_rng(seed), AugmentSettings(value=0), image)
    assert (image == before).all()


@pytest.mark.parametrize(
    "wrong", [{"mosaic": 1.5}, {"scale": 1.0}, {"hue": -0.1}, {"rotate": 200}, {"mosaik": 1.0}, {"flip": "often"}]
)
def test_settings_refuse_what_is_out_of_range_or_unknown(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        AugmentSettings(**wrong)  # type: ignore[arg-type]


def test_every_setting_is_described_and_frozen() -> None:
    assert all(field.description for field in AugmentSettings.model_fields.values())
    assert len(AugmentSettings.model_fields) == 25
    assert all(field.description for field in StrongView.model_fields.values())
    with pytest.raises(ValidationError):
        STILL.scale = 0.1  # type: ignore[misc]
