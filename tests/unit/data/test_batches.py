from __future__ import annotations

import pickle
from collections import Counter
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tlvision.data.batches import Batch, collate, eval_batches, normalise, train_batches, train_positions
from tlvision.data.dataset import EvalImages, TargetParts
from tlvision.data.settings import AugmentSettings, InputSettings
from tlvision.data.train_images import TrainImages
from tlvision.types import InputError, InputSpec, Sample

MakeSample = Callable[..., Sample]


@pytest.fixture
def images(make_sample: MakeSample) -> TrainImages:
    segment = (np.array([[2, 3], [15, 3], [15, 20]], np.float32),)
    samples = [make_sample(n, (40, 50), [[2, 3, 15, 20]] * (n % 3), segments=[segment] * (n % 3)) for n in range(7)]
    return TrainImages(
        samples,
        InputSpec(),
        InputSettings(64),
        num_classes=1,
        parts=TargetParts(masks=True, label_map=True),
    )


def run(images: TrainImages, **options: Any) -> list[Batch]:
    chosen = {"batch_size": 3, "first_step": 0, "last_step": 5, **options}
    return list(train_batches(images, **chosen))


def assert_equal(one: Batch, other: Batch) -> None:
    for field in fields(Batch):
        a, b = getattr(one, field.name), getattr(other, field.name)
        assert torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b, field.name


def test_shapes_and_views(images: TrainImages) -> None:
    batch = run(images)[0]
    assert (batch.images.shape, batch.images.dtype) == ((3, 3, 64, 64), torch.uint8)
    assert (batch.boxes.dtype, batch.labels.dtype, batch.matrices.dtype) == (
        torch.float32,
        torch.int64,
        torch.float64,
    )
    assert len(batch) == 3
    assert sum(batch.counts) == len(batch.boxes) == len(batch.labels) == len(batch.masks)
    assert sum(batch.counts) > 0
    assert batch.matrices.shape == (3, 3, 3)
    assert batch.sizes == ((40, 50),) * 3
    targets = batch.targets
    assert [len(target) for target in targets] == list(batch.counts)
    start = 0
    for number, target in enumerate(targets):
        image, own, meta = images.draw(number, True)
        assert (batch.images[number].permute(1, 2, 0).numpy() == image).all()
        assert batch.image_ids[number] == meta.image_id
        for name in ("boxes", "labels", "crowd", "masks", "semantic"):
            assert (getattr(target, name).numpy() == getattr(own, name)).all()
        assert target.boxes.data_ptr() == batch.boxes[start:].data_ptr() or len(target) == 0
        start += len(target)


def test_nothing_depends_on_workers(images: TrainImages) -> None:
    alone, helped = run(images, workers=0), run(images, workers=2)
    assert len(alone) == len(helped) == 5
    for one, other in zip(alone, helped, strict=True):
        assert_equal(one, other)


def test_a_later_start_continues_the_same_stream(images: TrainImages) -> None:
    whole = run(images, accumulate=2)
    rest = run(images, accumulate=2, first_step=3)
    assert len(rest) == 4
    for one, other in zip(whole[6:], rest, strict=True):
        assert_equal(one, other)


def test_mosaic_switches_off_by_step(images: TrainImages) -> None:
    batches = run(images, mosaic=lambda step: step < 2)
    plain = run(images, mosaic=lambda step: False)
    assert [torch.equal(a.images, b.images) for a, b in zip(batches, plain, strict=True)] == [False] * 2 + [True] * 3


@pytest.mark.parametrize(("world", "accumulate", "batch_size"), [(1, 1, 4), (2, 1, 3), (1, 3, 5), (3, 2, 2)])
def test_processes_and_steps_walk_the_stream_without_gap_or_overlap(
    world: int, accumulate: int, batch_size: int
) -> None:
    seen: Counter[int] = Counter()
    for step in range(7):
        for rank in range(world):
            micro = train_positions(step, batch_size=batch_size, accumulate=accumulate, rank=rank, world=world)
            assert [len(positions) for positions in micro] == [batch_size] * accumulate
            seen.update(position for positions in micro for position in positions)
    assert seen == Counter(range(7 * world * accumulate * batch_size))


def test_two_processes_with_half_batches_see_what_one_sees(images: TrainImages) -> None:
    alone = run(images, batch_size=4, last_step=3)
    shares = [run(images, batch_size=2, last_step=3, rank=rank, world=2) for rank in (0, 1)]
    for step, batch in enumerate(alone):
        both = torch.cat([shares[0][step].images, shares[1][step].images])
        assert torch.equal(both, batch.images)


def test_every_image_comes_equally_often(images: TrainImages) -> None:
    counts = Counter(images.index(p) for step in range(7) for row in train_positions(step, batch_size=4) for p in row)
    assert counts == dict.fromkeys(range(7), 4)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_broken_image_arrives_as_its_own_sentence(images: TrainImages, workers: int) -> None:
    broken = images.samples[3].path
    broken.write_bytes(broken.read_bytes()[:-40])
    with pytest.raises(InputError, match=r"^'.*3\.png' is truncated or damaged \(.*\); replace or remove it") as caught:
        run(images, workers=workers)
    assert "Traceback" not in str(caught.value)


def test_batches_can_be_pickled_and_moved(images: TrainImages) -> None:
    batch = run(images)[0]
    assert_equal(pickle.loads(pickle.dumps(batch)), batch)
    assert batch.to("cpu") is batch
    moved = batch.to("meta")
    assert moved.images.device.type == moved.boxes.device.type == moved.masks.device.type == "meta"
    assert moved.matrices.device.type == "cpu"


def test_images_of_two_shapes_do_not_make_a_batch(images: TrainImages) -> None:
    image, target, meta = images.draw(0, False)
    with pytest.raises(ValueError, match="same shape"):
        collate([(image, target, meta), (image[:32], target, meta)])


SPECS = [
    InputSpec(),
    InputSpec(value_range=255.0),
    InputSpec(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)),
    InputSpec(value_range=255.0, mean=(103.5, 116.3, 123.7), std=(57.4, 57.1, 58.4), channel_order="bgr"),
]


@pytest.mark.parametrize("spec", SPECS)
def test_normalise_equals_the_formula(spec: InputSpec) -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (2, 5, 7, 3), dtype=np.uint8)
    found = normalise(torch.from_numpy(pixels).permute(0, 3, 1, 2), spec)
    expected = pixels.astype(np.float64) / 255 * spec.value_range
    if spec.channel_order == "bgr":
        expected = expected[..., ::-1]
    expected = ((expected - spec.mean) / spec.std).transpose(0, 3, 1, 2)
    assert np.abs(found.numpy() - expected).max() < 1e-5
    assert found.dtype == torch.float32
    assert found.is_contiguous()


@pytest.mark.parametrize("workers", [0, 2])
def test_evaluation_sees_every_image_once_in_batches_of_one_shape(make_sample: MakeSample, workers: int) -> None:
    samples = [make_sample(n, size) for n, size in enumerate([(30, 40), (40, 30), (30, 40), (20, 40), (40, 30)])]
    images = EvalImages(samples, InputSpec(multiple_of=8), 40)
    batches = list(eval_batches(images, batch_size=2, workers=workers))
    assert [(batch.image_ids, tuple(batch.images.shape[2:])) for batch in batches] == [
        ((3,), (24, 40)),
        ((0, 2), (32, 40)),
        ((1, 4), (40, 32)),
    ]
    assert all(batch.counts == (0,) * len(batch) and batch.boxes.shape == (0, 4) for batch in batches)
    shares = [list(eval_batches(images, batch_size=2, rank=rank, world=2)) for rank in (0, 1)]
    assert sorted(i for share in shares for batch in share for i in batch.image_ids) == [0, 1, 2, 3, 4]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_pinned_batches_reach_the_gpu(images: TrainImages) -> None:
    plain = run(images, last_step=2)
    for one, other in zip(run(images, last_step=2, pin=True), plain, strict=True):
        assert one.images.is_pinned()
        assert_equal(replace(one.to("cuda").to("cpu"), matrices=one.matrices), other)


@pytest.mark.shared
def test_real_images_load(shared: Path) -> None:
    from tlvision.formats.coco import read_coco

    data = read_coco(shared / "data/bccd/val.json", shared / "data/bccd/images")
    images = TrainImages(data.samples, InputSpec(), InputSettings(160), num_classes=3)
    (batch,) = train_batches(images, batch_size=8, first_step=0, last_step=1)
    assert sum(batch.counts) > 40
    assert (batch.boxes[:, 2:] - batch.boxes[:, :2]).min() > 2


@pytest.mark.parametrize("place", ["centre", "corner"])
def test_a_fitted_batch_is_no_larger_than_its_images_need(make_sample: MakeSample, place: str) -> None:
    still = AugmentSettings(mosaic=0, scale=0, translate=0, flip=0, hue=0, saturation=0, value=0)
    sizes = [(40, 50), (30, 64), (64, 20)]
    samples = [make_sample(n, size, [[2, 3, 15, 20]]) for n, size in enumerate(sizes)]
    spec = InputSpec(place=place, multiple_of=16)
    square_settings = InputSettings(64, still, cache_bytes=0)
    fitted = TrainImages(samples, spec, replace(square_settings, canvas="fitted"), num_classes=1)
    square = TrainImages(samples, spec, square_settings, num_classes=1)
    own = {(40, 50): (64, 64), (30, 64): (32, 64), (64, 20): (64, 32)}  # 40 x 50 becomes 51 x 64
    for position in range(3):
        (batch,) = train_batches(fitted, batch_size=1, first_step=position, last_step=position + 1)
        assert batch.images.shape[2:] == own[batch.sizes[0]]
        alone, target, _ = fitted.draw(position, True)
        assert (batch.images[0].permute(1, 2, 0).numpy() == alone).all()
        wide, wide_target, _ = square.draw(position, True)
        height, width = alone.shape[:2]
        top, left = ((64 - height) // 2, (64 - width) // 2) if place == "centre" else (0, 0)
        assert (wide[top : top + height, left : left + width] == alone).all()
        assert (wide_target.boxes == target.boxes + np.array([left, top, left, top], np.float32)).all()
        again, again_target, _ = fitted.draw(position, True, (64, 64))
        assert (again == wide).all()
        assert (again_target.boxes == wide_target.boxes).all()
    assert run(fitted)[0].images.shape[2:] == (64, 64)


def test_a_fitted_window_is_no_larger_than_its_image(make_sample: MakeSample) -> None:
    samples = [make_sample(n, size, [[2, 3, 15, 20]]) for n, size in enumerate([(64, 64), (25, 64)])]
    spec = InputSpec(multiple_of=16)
    window = InputSettings(64, AugmentSettings(mosaic=0, scale=0, translate=0, crop=48))
    fitted = TrainImages(samples, spec, replace(window, canvas="fitted"), num_classes=1)
    square = TrainImages(samples, spec, window, num_classes=1)
    heights = {(64, 64): 48, (25, 64): 32}
    for position in range(8):
        pixels, _, meta = fitted.draw(position, False)
        assert pixels.shape == (heights[meta.size], 48, 3)
        assert square.draw(position, False)[0].shape == (48, 48, 3)
    assert {meta.size for _, _, meta in (fitted.draw(position, False) for position in range(8))} == set(heights)


def test_mosaics_are_square_whatever_the_images_ask_for(make_sample: MakeSample) -> None:
    samples = [make_sample(n, (30, 64), [[2, 3, 15, 20]]) for n in range(3)]
    settings = InputSettings(64, AugmentSettings(mosaic=0.5), "fitted")
    images = TrainImages(samples, InputSpec(), settings, num_classes=1)
    assert {images.canvas(position, True) for position in range(3)} == {(64, 64)}
    assert {images.canvas(position, False) for position in range(3)} == {(32, 64)}
