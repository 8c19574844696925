from __future__ import annotations

import pickle
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tlvision.data.batches import Batch, Views, collate_views, train_batches
from tlvision.data.geometry import paint
from tlvision.data.settings import AugmentSettings, InputSettings, StrongView
from tlvision.data.strong_view import strong_view
from tlvision.data.train_images import TrainImages
from tlvision.data.unlabelled import Styles, UnlabelledImages, samples_of
from tlvision.formats.coco import read_images
from tlvision.types import IGNORE_INDEX, InputSpec

OFF = StrongView(colour=0, grey=0, blur=0, erase=0)
RNG = np.random.default_rng


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for number in range(5):
        pixels = rng.integers(0, 256, (40, 50, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
    return tmp_path


def make(folder: Path, settings: AugmentSettings) -> UnlabelledImages:
    return UnlabelledImages(read_images(folder).images, InputSpec(), InputSettings(64, settings, seed=3))


def test_both_views_have_one_geometry(folder: Path) -> None:
    images = make(folder, AugmentSettings(strong_view=OFF))
    for position in range(10):
        weak, strong, _ = images.draw(position)
        assert (weak == strong).all()
        assert weak is not strong
    # And with colours alone each pixel still depends on the pixel at its place only.
    images = make(folder, AugmentSettings(strong_view=StrongView(colour=1, grey=0, blur=0, erase=0)))
    weak, strong, _ = images.draw(0)
    assert (weak != strong).any()
    looks: dict[tuple[int, ...], set[tuple[int, ...]]] = {}
    for before, after in zip(weak.reshape(-1, 3).tolist(), strong.reshape(-1, 3).tolist(), strict=True):
        looks.setdefault(tuple(before), set()).add(tuple(after))
    assert max(len(each) for each in looks.values()) == 1


def test_the_weak_view_keeps_the_colours(folder: Path) -> None:
    images = make(folder, AugmentSettings(scale=0, translate=0, flip=0, saturation=0.9, hue=0.5, value=0.9))
    originals = {image.image_id: np.asarray(Image.open(image.path)) for image in images.images}
    weak, _, meta = images.draw(0)
    # 50 pixels become 64: what is interpolated stays within the range of the original.
    original = originals[meta.image_id]
    inside = weak[10:50, 5:60].reshape(-1, 3).astype(float)
    assert np.abs(inside.mean(axis=0) - original.reshape(-1, 3).mean(axis=0)).max() < 6


def test_every_image_comes_equally_often_and_a_draw_depends_on_its_place_alone(folder: Path) -> None:
    images = make(folder, AugmentSettings())
    seen = Counter(images.draw(position)[2].image_id for position in range(15))
    assert set(seen.values()) == {3}
    again = pickle.loads(pickle.dumps(make(folder, AugmentSettings())))
    for position in (7, 2):
        one, other = images.draw(position), again.draw(position)
        assert (one[0] == other[0]).all()
        assert (one[1] == other[1]).all()


@pytest.mark.parametrize("kind", ["colour", "grey", "blur", "erase"])
def test_each_change_happens_when_it_is_on(kind: str) -> None:
    image = RNG(1).integers(0, 256, (48, 64, 3)).astype(np.uint8)
    kept = image.copy()
    changed = strong_view(RNG(0), OFF.model_copy(update={kind: 1.0}), image)
    assert (image == kept).all(), "the weak view must stay"
    assert (changed.shape, changed.dtype) == (image.shape, np.uint8)
    assert (changed != image).any()
    if kind == "grey":
        assert (changed[..., 0] == changed[..., 2]).all()
    if kind == "erase":
        same = (changed == image).all(axis=2).mean()
        assert 0.5 < same < 0.99


def test_nothing_on_changes_nothing() -> None:
    image = RNG(1).integers(0, 256, (48, 64, 3)).astype(np.uint8)
    assert (strong_view(RNG(0), OFF, image) == image).all()


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_hold_as_many_unlabelled_images_as_asked_for(folder: Path, workers: int) -> None:
    data = read_images(folder)
    settings = AugmentSettings(mosaic=0)
    labelled = TrainImages(samples_of(data.images), InputSpec(), InputSettings(64, settings), num_classes=1)
    others = make(folder, settings)

    def run(first: int) -> list[Batch]:
        return list(
            train_batches(
                labelled,
                batch_size=2,
                first_step=first,
                last_step=4,
                unlabelled=others,
                unlabelled_size=3,
                workers=workers,
            )
        )

    batches = run(0)
    position = 0
    for batch in batches:
        assert batch.unlabelled is not None
        assert len(batch.unlabelled) == 3
        for number in range(3):
            weak, strong, meta = others.draw(position)
            assert (batch.unlabelled.weak[number].permute(1, 2, 0).numpy() == weak).all()
            assert (batch.unlabelled.strong[number].permute(1, 2, 0).numpy() == strong).all()
            assert batch.unlabelled.image_ids[number] == meta.image_id
            position += 1
    assert position == 12
    later = run(3)[0].unlabelled
    assert later is not None
    assert torch.equal(later.weak, batches[3].unlabelled.weak)  # type: ignore[union-attr]


@pytest.mark.parametrize("crop", [0, 64])
@pytest.mark.parametrize("rotate", [0.0, 30.0])
def test_views_know_where_they_show_the_image_as_label_maps_do(folder: Path, crop: int, rotate: float) -> None:
    """The valid pixels are those of a label map of one class that goes through the same geometry."""
    settings = AugmentSettings(mosaic=0, scale=0.5, translate=0.3, crop=crop, rotate=rotate)
    images = make(folder, settings)
    padded = 0
    for position in range(8):
        drawn = images.draw(position)
        (valid,) = collate_views([drawn]).valid.numpy()  # type: ignore[union-attr]
        _, _, meta = drawn
        label_map = np.full(valid.shape, IGNORE_INDEX, np.uint8)
        paint(label_map, np.zeros(meta.size, np.uint8), meta.matrix, nearest=True)
        assert valid.dtype == np.bool_
        assert (valid == (label_map != IGNORE_INDEX)).all()
        padded += int((~valid).sum())
    assert padded > 0


def test_the_valid_pixels_go_wherever_the_views_go_and_are_not_normalised(folder: Path) -> None:
    views = collate_views([make(folder, AugmentSettings(mosaic=0)).draw(0)])
    assert views.with_images(lambda images: images.float() / 255).valid is views.valid
    moved = views.map(lambda tensor: tensor.clone())
    assert moved.valid is not views.valid
    assert torch.equal(moved.valid, views.valid)  # type: ignore[arg-type]
    bare = Views(weak=views.weak, strong=views.strong, image_ids=views.image_ids)
    assert bare.map(lambda tensor: tensor.clone()).valid is None


def test_without_unlabelled_images_the_labelled_ones_are_the_same(folder: Path) -> None:
    data = read_images(folder)
    labelled = TrainImages(samples_of(data.images), InputSpec(), InputSettings(64), num_classes=1)
    plain = list(train_batches(labelled, batch_size=2, first_step=0, last_step=3))
    both = list(
        train_batches(
            labelled,
            batch_size=2,
            first_step=0,
            last_step=3,
            unlabelled=make(folder, AugmentSettings()),
            unlabelled_size=1,
        )
    )
    assert all(torch.equal(one.images, other.images) for one, other in zip(plain, both, strict=True))


def test_a_style_changes_the_look_of_labelled_images_and_not_their_geometry(folder: Path) -> None:
    data = read_images(folder)
    samples = samples_of(data.images)
    others = make(folder, AugmentSettings())
    seen = []

    def change(image: Any, other: Any, rng: np.random.Generator) -> Any:
        seen.append(other.shape)
        return 255 - image

    def draw(restyle: Any) -> tuple[Any, Any]:
        images = TrainImages(
            samples,
            InputSpec(),
            InputSettings(64, AugmentSettings(hue=0, saturation=0, value=0)),
            num_classes=1,
            restyle=restyle,
        )  # fmt: skip
        pixels, _, meta = images.draw(1, mosaic=True)
        return pixels, meta.matrix

    (plain, matrix), (styled, same) = draw(None), draw(Styles((change,), others).apply)
    assert (matrix == same).all()
    assert seen
    inside = (plain != 114).any(axis=2) & (styled != 114).any(axis=2)
    assert inside.mean() > 0.2
    assert np.abs(255 - plain[inside].astype(int) - styled[inside]).max() <= 1


def test_labelled_images_may_look_strong_and_stay_where_they_are(folder: Path) -> None:
    samples = samples_of(read_images(folder).images)

    def draw(strong: float) -> np.ndarray:  # type: ignore[type-arg]
        settings = AugmentSettings(strong=strong, strong_view=StrongView(colour=0, grey=1, blur=0, erase=0))
        images = TrainImages(samples, InputSpec(), InputSettings(64, settings), num_classes=1)
        return images.draw(0, mosaic=True)[0]

    plain, strong = draw(0.0), draw(1.0)
    assert (plain != strong).any()
    assert (strong[..., 0] == strong[..., 1]).all()
    weights = np.array([0.299, 0.587, 0.114])
    assert np.abs(plain @ weights - strong[..., 0]).max() <= 1


def test_the_streams_of_both_sides_do_not_walk_in_step(folder: Path) -> None:
    data = read_images(folder)
    labelled = TrainImages(samples_of(data.images), InputSpec(), InputSettings(64, seed=3), num_classes=1)
    others = make(folder, AugmentSettings())
    pairs = [(labelled.draw(place, mosaic=False)[2].matrix, others.draw(place)[2].matrix) for place in range(10)]
    assert not any((one == other).all() for one, other in pairs), "one seed would give both the same geometry"
