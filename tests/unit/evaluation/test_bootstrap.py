"""Intervals cover what was planted, pairs are pairs, seeds widen an interval."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from tlvision.evaluation.average_precision import average_precision
from tlvision.evaluation.bootstrap import bootstrap
from tlvision.evaluation.matching import Matches
from tlvision.evaluation.per_image import LabelMapsPerImage, ObjectsPerImage

IMAGES, OBJECTS = 60, 3


def world(rng: np.random.Generator, images: int, rates: tuple[float, ...]) -> list[Matches]:
    """Return matches of models that find each object with a probability of `rates`, harder in hard images.

    The models see the same objects: one draw decides for all, so that their results belong together in pairs.
    """
    image = np.repeat(np.arange(images), OBJECTS)
    draw = np.clip(rng.random(images * OBJECTS) + 0.15 * np.repeat(rng.normal(size=images), OBJECTS), 0, 1)
    noise = rng.integers(0, images, images * 2)
    made = []
    for rate in rates:
        hit = draw < rate
        places = np.concatenate([image[hit], noise])
        score = np.concatenate([rng.beta(4, 2, hit.sum()), rng.beta(2, 4, len(noise))])
        order = np.lexsort((-score, places))
        found = np.concatenate([np.flatnonzero(hit), np.full(len(noise), -1)])[order].astype(np.int32)[:, None]
        made.append(matches_from(places[order], score[order], found, image))
    return made


def matches_from(
    image: npt.NDArray[np.int64],
    score: npt.NDArray[np.float64],
    found: npt.NDArray[np.int32],
    object_image: npt.NDArray[np.int64],
) -> Matches:
    nothing = np.zeros(0, np.int64)
    return Matches(
        names=("cat",),
        image_ids=np.arange(object_image.max() + 1),
        thresholds=np.array([0.5]),
        image=image,
        label=np.zeros(len(image), np.int64),
        score=score,
        row=np.arange(len(image)),
        found=found,
        outcome=(found >= 0).astype(np.int8),
        object_image=object_image,
        object_label=np.zeros(len(object_image), np.int64),
        object_area=np.ones(len(object_image)),
        object_crowd=np.zeros(len(object_image), bool),
        object_row=np.arange(len(object_image)),
        pair_detection=nothing,
        pair_object=nothing,
        pair_iou=np.zeros(0),
    )


def per_image(matches: Matches) -> ObjectsPerImage:
    return ObjectsPerImage({"bbox": matches}, "the same")


def test_the_interval_covers_a_planted_difference_in_90_to_99_of_100_worlds() -> None:
    rates = (0.55, 0.65)
    large = world(np.random.default_rng(1), 20_000, rates)
    one, other = (float(np.nanmean(average_precision(matches))) for matches in large)
    assert other - one > 0.05
    covered = wrong = 0
    for seed in range(100):
        models = [per_image(matches) for matches in world(np.random.default_rng(seed + 10), IMAGES, rates)]
        row = bootstrap(models, repeats=300, seed=seed).difference("bbox/AP", [0], [1])
        assert row.low is not None
        assert row.high is not None
        covered += row.low <= other - one <= row.high
        wrong += row.verdict == "worse"
    assert 90 <= covered <= 99, covered
    assert wrong == 0


def test_a_permuted_copy_is_no_evidence() -> None:
    matches = world(np.random.default_rng(0), IMAGES, (0.6,))[0]
    result = bootstrap([per_image(matches), per_image(matches)], repeats=100)
    row = result.difference("bbox/AP", [0], [1])
    assert (row.low, row.high, row.verdict) == (0.0, 0.0, "no evidence")


def test_the_sign_follows_the_direction_of_the_metric() -> None:
    models = [per_image(matches) for matches in world(np.random.default_rng(0), IMAGES, (0.3, 0.9))]
    result = bootstrap(models, repeats=100)
    assert result.difference("bbox/AP", [0], [1]).verdict == "better"
    assert result.difference("bbox/AP", [1], [0]).verdict == "worse"
    assert result.difference("bbox/AP", [0], [1], higher_is_better=False).verdict == "worse"


def test_images_are_drawn_in_pairs() -> None:
    """The difference of two models that fail on the same images varies less than each of them."""
    models = [per_image(matches) for matches in world(np.random.default_rng(3), IMAGES, (0.60, 0.62))]
    result = bootstrap(models, repeats=300)
    row, alone = result.difference("bbox/AP", [0], [1]), result.interval("bbox/AP", [0])
    assert row.low is not None
    assert row.high is not None
    assert alone is not None
    assert row.high - row.low < alone[1] - alone[0]


def test_seeds_that_differ_widen_the_interval() -> None:
    rng = np.random.default_rng(0)
    low, high = (per_image(world(rng, IMAGES, (rate,))[0]) for rate in (0.4, 0.8))
    result = bootstrap([low, high], repeats=300)
    both, one = result.interval("bbox/AP", [0, 1]), result.interval("bbox/AP", [0])
    assert both is not None
    assert one is not None
    assert both[1] - both[0] > 1.5 * (one[1] - one[0])


def test_the_spread_of_seeds_is_not_too_small() -> None:
    """Of k runs without any noise of images, the variance of the drawn mean is the squared standard error."""
    values = (0.2, 0.5, 0.6)
    pixels = np.zeros((3, 1, 3, 2), np.int64)
    for run, value in enumerate(values):  # IoU of the first class: value; of the second: 1
        pixels[run, 0] = [[int(1000 * value), 500], [1000, 500], [int(1000 * value), 500]]
    runs = [LabelMapsPerImage(("road", "car"), ["a"], each) for each in pixels]
    result = bootstrap(runs, repeats=20_000)
    drawn = result._with_seeds(result.values["semantic/iou road"][:, 1:], 0)
    assert drawn.std() == pytest.approx(np.std(values, ddof=1) / np.sqrt(3), rel=0.03)


def test_a_class_of_one_image_is_not_measured() -> None:
    pixels = np.zeros((20, 3, 2), np.int64)
    pixels[:, :, 0] = 10
    pixels[0, :, 1] = 5
    run = LabelMapsPerImage(("road", "car"), [str(n) for n in range(20)], pixels)
    row = bootstrap([run, run], repeats=200).difference("semantic/iou car", [0], [1])
    assert (row.reference, row.low, row.verdict) == (1.0, None, "not measured")


def test_other_images_are_refused() -> None:
    pixels = np.ones((2, 3, 2), np.int64)
    runs = [LabelMapsPerImage(("road", "car"), names, pixels) for names in (["a", "b"], ["a", "c"])]
    with pytest.raises(ValueError, match="same images"):
        bootstrap(runs)
