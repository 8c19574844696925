from __future__ import annotations

import numpy as np
import pytest
from pycocotools import mask as reference

from tlvision.formats.coco.rle import mask_area, mask_to_rle, parse_segmentation, polygons_to_mask, rle_to_mask
from tlvision.types import InputError

# pycocotools 2.0.11 is not up to numpy 2.
pycocotools_warns = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def random_mask(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (rng.random((rng.integers(1, 40), rng.integers(1, 40))) < 0.4).astype(np.uint8)


def runs_of(mask: np.ndarray) -> list[int]:
    """COCO's uncompressed counts by a slow loop: lengths of alternating runs, zeros first, column by column."""
    counts, current, length = [], 0, 0
    for value in mask.T.ravel().tolist():
        if value != current:
            counts.append(length)
            current, length = value, 0
        length += 1
    return [*counts, length]


@pytest.mark.parametrize("seed", range(10))
def test_run_lengths_agree_with_pycocotools_and_with_a_slow_loop(seed: int) -> None:
    mask = random_mask(seed)
    ours = mask_to_rle(mask)
    assert ours == reference.encode(np.asfortranarray(mask))
    assert (rle_to_mask(ours) == mask).all()
    assert mask_area(ours) == mask.sum()
    for counts in (runs_of(mask), ours["counts"].decode("ascii")):
        parsed = parse_segmentation({"size": list(mask.shape), "counts": counts}, *mask.shape, "x")
        assert parsed == ours


@pycocotools_warns
@pytest.mark.parametrize("seed", range(10))
def test_polygons_rasterise_as_in_pycocotools_also_outside_the_image(seed: int) -> None:
    rng = np.random.default_rng(seed)
    parts = [rng.uniform(-10, 50, (rng.integers(3, 8), 2)).astype(np.float32) for _ in range(2)]
    flat = [part.astype(float).ravel().tolist() for part in parts]
    expected = reference.decode(reference.merge(reference.frPyObjects(flat, 30, 40)))
    assert (polygons_to_mask(parts, 30, 40) == expected).all()


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ([[1, 2, 3, 4]], "at least three points"),
        ([[1, 2, 3, 4, 5, 6, 7]], "at least three points"),
        ([1, 2, 3, 4, 5, 6], "flat list"),
        ([[0, 0, 1, 0, 1, float("nan")]], "not finite"),
        ({"size": [4, 5], "counts": [20]}, r"size \[4, 5\] but the image \[height, width\] \[5, 4\]"),
        ({"size": [5, 4], "counts": [7, 4]}, "covers 11 pixels"),
        ({"size": [5, 4], "counts": [7, 40]}, "cannot be read"),
        ({"size": [5, 4], "counts": "abc"}, "cannot be read"),
        ({"counts": "abc"}, "needs 'size'"),
        ("polygon", "must be a list of polygons or a run-length mask"),
    ],
)
def test_a_bad_segmentation_is_one_sentence_with_its_place(value: object, words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        parse_segmentation(value, 5, 4, "a.json, annotation 7")
    assert str(caught.value).startswith("a.json, annotation 7: ")


@pytest.mark.parametrize("value", [None, []])
def test_no_segmentation_is_none(value: object) -> None:
    assert parse_segmentation(value, 5, 4, "x") is None
