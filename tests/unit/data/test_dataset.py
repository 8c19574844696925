from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tlvision.data.dataset import EvalImages, TargetParts, fit_image
from tlvision.data.geometry import fitted_size, unwarp_boxes
from tlvision.data.settings import AugmentSettings, InputSettings
from tlvision.data.train_images import TrainImages
from tlvision.formats.coco.rle import mask_to_rle
from tlvision.types import IGNORE_INDEX, InputError, InputSpec, Sample

MakeSample = Callable[..., Sample]
STILL = AugmentSettings(
    mosaic=0, scale=0, translate=0, rotate=0, shear=0, flip=0, flip_vertical=0, hue=0, saturation=0, value=0
)
TURNED = AugmentSettings(rotate=25, shear=10, flip_vertical=0.5)


@pytest.fixture
def samples(make_sample: MakeSample) -> list[Sample]:
    sizes = [(30, 40), (64, 20), (200, 300), (33, 33), (48, 64)]
    return [
        make_sample(10 + n, size, [[2, 3, 15, 20], [4, 4, 19, 29]], labels=[n % 3, 1]) for n, size in enumerate(sizes)
    ]


def train_images(
    samples: list[Sample],
    augment: AugmentSettings = TURNED,
    *,
    spec: InputSpec = InputSpec(),  # noqa: B008
    seed: int = 0,
    cache_bytes: int | None = None,
    **options: Any,
) -> TrainImages:
    settings = InputSettings(64, augment, seed=seed, cache_bytes=cache_bytes)
    return TrainImages(samples, spec, settings, **{"num_classes": 3, **options})


def assert_same(one: Any, other: Any) -> None:
    assert (one[0] == other[0]).all()
    assert (one[1].boxes == other[1].boxes).all()
    assert (one[1].labels == other[1].labels).all()
    assert one[2].image_id == other[2].image_id
    assert (one[2].matrix == other[2].matrix).all()


def test_a_draw_depends_on_seed_and_position_alone(samples: list[Sample]) -> None:
    images, others = train_images(samples), train_images(samples, cache_bytes=0)
    forward = {position: images.draw(position, True) for position in range(12)}
    for position in (7, 3, 3, 11, 0):
        assert_same(others.draw(position, True), forward[position])  # another order, and nothing cached
    assert_same(pickle.loads(pickle.dumps(images)).draw(5, True), forward[5])
    assert not (train_images(samples, seed=1).draw(0, True)[0] == forward[0][0]).all()
    assert len({forward[position][0].tobytes() for position in forward}) == 12


def test_every_image_comes_equally_often_in_an_order_that_changes(samples: list[Sample]) -> None:
    images = train_images(samples)
    epochs = [[images.index(epoch * 5 + place) for place in range(5)] for epoch in range(20)]
    assert all(sorted(epoch) == [0, 1, 2, 3, 4] for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) > 10


def test_an_image_that_nothing_happens_to_is_letterboxed(samples: list[Sample]) -> None:
    images = train_images(samples[:1], STILL)
    image, target, meta = images.draw(0, True)
    assert (image.shape, image.dtype) == ((64, 64, 3), np.uint8)
    assert (image[:8] == 114).all()
    assert (image[56:] == 114).all()
    assert np.abs(target.boxes - (np.array([[2, 3, 15, 20], [4, 4, 19, 29]]) * 1.6 + [0, 8, 0, 8])).max() < 1e-4
    assert (meta.image_id, meta.size) == (10, (30, 40))
    assert np.abs(unwarp_boxes(target.boxes, meta.matrix, meta.size) - samples[0].target.boxes).max() < 1e-4
    stretched, target, _ = train_images(samples[:1], STILL, spec=InputSpec(resize="stretch")).draw(0, True)
    assert not (stretched == 114).all(axis=2).any()
    assert target.boxes[1, 3] == pytest.approx(29 * 64 / 30, abs=1e-4)


def test_mosaics_are_made_only_where_they_are_on(samples: list[Sample]) -> None:
    images = train_images(samples)
    assert len(images.draw(0, False)[1]) <= 2
    assert max(len(images.draw(position, True)[1]) for position in range(10)) > 2
    never = train_images(samples, AugmentSettings(mosaic=0))
    assert max(len(never.draw(position, True)[1]) for position in range(10)) <= 2


def test_boxes_sit_on_what_they_name(make_sample: MakeSample) -> None:
    # One saturated rectangle an image, the rest grey: after any geometry the box must be around the colour.
    found = 0
    samples = []
    for number in range(4):
        sample = make_sample(number, (90, 120), [[30, 20, 80, 60]])
        pixels = np.full((90, 120, 3), 128, np.uint8)
        pixels[20:60, 30:80] = (250, 20, 20)
        Image.fromarray(pixels).save(sample.path)
        samples.append(sample)
    for settings in (AugmentSettings(hue=0), AugmentSettings(hue=0, flip=1, flip_vertical=1, scale=0.2)):
        images = train_images(samples, settings)
        for position in range(30):
            image, target, _ = images.draw(position, True)
            red = image[:, :, 0].astype(int) - image[:, :, 2] > 30
            covered = np.zeros_like(red)
            for x0, y0, x1, y1 in target.boxes.round().astype(int).tolist():
                assert red[y0:y1, x0:x1].mean() > 0.85
                covered[max(y0 - 1, 0) : y1 + 1, max(x0 - 1, 0) : x1 + 1] = True
                found += 1
            assert (red & ~covered).sum() <= 12 * 10  # slivers of dropped objects
    assert found > 60


def polygon(*points: float) -> tuple[np.ndarray, ...]:
    return (np.array(points, np.float32).reshape(-1, 2),)


def test_masks_of_outlines_and_run_lengths_agree_and_fill_their_boxes(make_sample: MakeSample) -> None:
    mask = np.zeros((90, 120), np.uint8)
    mask[20:60, 30:80] = 1
    box = [30, 20, 80, 60]
    outlines = [make_sample(n, (90, 120), [box], segments=[polygon(30, 20, 80, 20, 80, 60, 30, 60)]) for n in range(4)]
    runs = [make_sample(n, (90, 120), [box], segments=[mask_to_rle(mask)]) for n in range(4)]
    seen = 0
    for settings in (AugmentSettings(), TURNED):
        one, two = (train_images(samples, settings, parts=TargetParts(masks=True)) for samples in (outlines, runs))
        for position in range(12):
            first, second = one.draw(position, True)[1], two.draw(position, True)[1]
            assert first.masks.shape == (len(first), 64, 64)
            assert set(np.unique(first.masks)) <= {0, 1}
            for target in (first, second):
                for (x0, y0, x1, y1), drawn in zip(target.boxes, target.masks, strict=True):
                    rows, columns = np.nonzero(drawn)
                    bounds = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
                    assert np.abs(np.array(bounds) - [x0, y0, x1, y1]).max() <= 1.5
            if len(first) == len(second):
                both = zip(first.masks.astype(int), second.masks, strict=True)
                # Two rules for border pixels, so at most about one pixel along the outline.
                assert all(np.abs(a - b).sum() <= 0.08 * a.sum() + 80 for a, b in both)
                seen += len(first)
    assert seen > 30


def test_crowd_objects_are_not_learnt(make_sample: MakeSample) -> None:
    sample = make_sample(1, (60, 60), [[5, 5, 30, 30], [10, 10, 50, 50]], labels=[2, 1], crowd=[False, True])
    target = train_images([sample], STILL).draw(0, True)[1]
    assert target.labels.tolist() == [2]
    assert target.crowd.tolist() == [False]


def test_images_without_objects_stay(make_sample: MakeSample) -> None:
    _, target, _ = train_images([make_sample(1, (60, 60))], parts=TargetParts(masks=True)).draw(0, True)
    assert (len(target), target.boxes.shape, target.masks.shape) == (0, (0, 4), (0, 64, 64))


def test_label_maps(make_sample: MakeSample) -> None:
    sample = make_sample(
        1,
        (64, 64),
        [[0, 0, 40, 40], [20, 20, 60, 60], [50, 0, 60, 10]],
        labels=[1, 2, 1],
        crowd=[False, False, True],
        segments=[
            polygon(0, 0, 40, 0, 40, 40, 0, 40),
            polygon(20, 20, 60, 20, 60, 60, 20, 60),
            polygon(50, 0, 60, 0, 60, 10, 50, 10),
        ],
    )
    for background, outside in ((None, IGNORE_INDEX), (0, 0)):
        labels = (
            train_images([sample], STILL, parts=TargetParts(label_map=True, background=background))
            .draw(0, True)[1]
            .semantic
        )
        expected = np.full((64, 64), outside)
        expected[0:40, 0:40] = 1
        expected[20:60, 20:60] = 2  # the later annotation wins
        expected[0:10, 50:60] = IGNORE_INDEX  # crowd
        assert (labels == expected).all()
        assert labels.dtype == np.int64
    # Padding of a letterbox, and what a mosaic leaves empty, is never background.
    wide = make_sample(2, (32, 64), [[0, 0, 9, 9]], segments=[polygon(0, 0, 9, 0, 9, 9, 0, 9)])
    labels = train_images([wide], STILL, parts=TargetParts(label_map=True, background=0)).draw(0, True)[1].semantic
    assert (labels[:16] == IGNORE_INDEX).all()
    assert (labels[48:] == IGNORE_INDEX).all()
    assert (labels[16:48] != IGNORE_INDEX).all()


def test_label_maps_follow_the_image(make_sample: MakeSample) -> None:
    samples = []
    for number in range(4):
        sample = make_sample(number, (90, 120), [[30, 20, 80, 60]], segments=[polygon(30, 20, 80, 20, 80, 60, 30, 60)])
        pixels = np.full((90, 120, 3), 128, np.uint8)
        pixels[20:60, 30:80] = (250, 20, 20)
        Image.fromarray(pixels).save(sample.path)
        samples.append(sample)
    settings = AugmentSettings(rotate=25, shear=10, flip_vertical=0.5, hue=0, saturation=0, value=0)
    images = train_images(samples, settings, num_classes=2, parts=TargetParts(label_map=True, background=1))
    for position in range(10):
        image, target, _ = images.draw(position, True)
        red = image[:, :, 0] > 190
        assert (red == (target.semantic == 0)).mean() > 0.95
        assert (target.semantic == 0).sum() > 0


def test_what_is_missing_is_named(make_sample: MakeSample) -> None:
    sample = make_sample(7, (60, 60), [[5, 5, 30, 30]], labels=[3])
    with pytest.raises(InputError, match="class index 3, but there are 3 classes"):
        train_images([sample])
    for parts in (TargetParts(masks=True), TargetParts(label_map=True)):
        with pytest.raises(InputError, match=r"image 7 \(7\.png\): its object number 1 has no segmentation"):
            train_images([sample], STILL, num_classes=4, parts=parts).draw(0, False)
    with pytest.raises(InputError, match="a label map has room for 255 classes, got 256"):
        train_images([sample], STILL, num_classes=256, parts=TargetParts(label_map=True))
    with pytest.raises(InputError, match="there are no images"):
        train_images([])


def test_evaluation_canvases_are_rectangles_of_whole_multiples(make_sample: MakeSample) -> None:
    samples = [make_sample(n, size) for n, size in enumerate([(30, 40), (40, 30), (300, 400), (400, 100), (60, 80)])]
    images = EvalImages(samples, InputSpec(multiple_of=32), 120)
    assert [images.canvas(index) for index in range(5)] == [(96, 128), (128, 96), (96, 128), (128, 32), (96, 128)]
    assert images.groups(2) == [[0, 2], [4], [3], [1]]
    for index in range(5):
        image, target, meta = images.draw(index)
        sample = samples[index]
        assert image.shape == (*images.canvas(index), 3)
        assert len(target) == 0
        assert meta.image_id == sample.image_id
        corners = np.array([[0, 0, sample.width, sample.height]], np.float32)
        assert (unwarp_boxes(corners * 1e4, meta.matrix, meta.size)[0, 2:] == corners[0, 2:]).all()
        assert max(fitted_size(meta.size, images.canvas(index))) == 128
    square = EvalImages(samples, InputSpec(resize="stretch"), 120)
    assert {square.canvas(index) for index in range(5)} == {(128, 128)}
    assert square.groups(3) == [[0, 1, 2], [3, 4]]


def test_a_large_photograph_is_decoded_at_reduced_scale_and_stays_in_place(make_sample: MakeSample) -> None:
    # 1021 is no multiple of 8: the last blocks of the reduced JPEG are partly padding.
    sample = make_sample(1, (811, 1021))
    rows, columns = np.mgrid[0:811, 0:1021]
    ramp = np.stack([columns * 250 / 1021, rows * 250 / 811, columns * 0], axis=2).round().astype(np.uint8)
    path = sample.path.with_suffix(".jpg")
    Image.fromarray(ramp).save(path, quality=98, subsampling=0)
    large = Sample(
        image_id=1, path=path, width=1021, height=811, exif=False, target=sample.target, segments=sample.segments
    )
    images = EvalImages([large], InputSpec(multiple_of=1), 100)
    image, _, meta = images.draw(0)
    assert images.loader.image(0, images.canvas(0))[0].shape[1] <= 128
    x = (np.arange(100) + 0.5 - meta.matrix[0, 2]) / meta.matrix[0, 0]
    expected = (x - 0.5) * 250 / 1021
    assert np.abs(image[40, 2:-2, 0] - expected[2:-2]).max() < 1.5  # 2.5 a pixel: half a pixel of shift shows
    y = (np.arange(image.shape[0]) + 0.5 - meta.matrix[1, 2]) / meta.matrix[1, 1]
    assert np.abs(image[2:-2, 50, 1] - ((y - 0.5) * 250 / 811)[2:-2]).max() < 1.5


def test_a_margin_puts_padding_around_an_image_of_the_same_size(make_sample: MakeSample) -> None:
    sample = make_sample(0, (90, 128))
    plain, wide = (EvalImages([sample], InputSpec(multiple_of=32, margin=margin), 128) for margin in (0, 16))
    assert plain.canvas(0) == (96, 128)
    assert wide.canvas(0) == (128, 160), "90 + 16 and 128 + 16, rounded up"
    (small, _, before), (large, _, after) = plain.draw(0), wide.draw(0)
    assert np.array_equal(small[3:93], large[19:109, 16:144]), "the same pixels, in the middle"
    outside = np.ones(large.shape[:2], bool)
    outside[19:109, 16:144] = False
    assert (large[outside] == 114).all()
    box = np.array([[10, 20, 50, 60]], np.float32)
    shift = np.array([16, 16, 16, 16], np.float32)
    assert np.array_equal(
        unwarp_boxes(box + shift, after.matrix, after.size), unwarp_boxes(box, before.matrix, before.size)
    )
    canvas, matrix = fit_image(small[3:93], InputSpec(multiple_of=32, margin=16), 128)
    assert np.array_equal(canvas, large)
    assert np.array_equal(matrix, after.matrix)
    assert EvalImages([sample], InputSpec(resize="stretch", margin=16), 128).canvas(0) == (128, 128)
