"""Prepared images give what `predict` gives for their files, in as few batches as their shapes allow."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import tlvision.runtime
from hand_made_bundles import SIZE, write_detector
from tlvision.data.settings import TileSettings
from tlvision.formats.coco import read_unlabelled
from tlvision.formats.image_headers import ImageTooLargeError, parse_header, read_header
from tlvision.runtime.bundle import read_bundle, write_bundle
from tlvision.types import InputError


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    """JPEG files of two shapes in turn, large enough to be decoded at reduced scale."""
    rng = np.random.default_rng(0)
    found = []
    for number in range(5):
        pixels = rng.integers(80, 256, (96, 128, 3) if number % 2 else (128, 96, 3)).astype(np.uint8)
        found.append(tmp_path / f"{number}.jpg")
        Image.fromarray(pixels).save(found[-1])
    return found


@pytest.mark.parametrize(
    ("change", "batches"),
    [
        ({}, [2, 3]),
        ({"fixed": (SIZE, SIZE)}, [1, 1, 1, 1, 1]),
        ({"tiles": TileSettings(size=64)}, None),
    ],
    ids=["whole", "fixed", "tiles"],
)
def test_prepared_images_are_predicted_as_their_files(
    change: dict[str, Any],
    batches: list[int] | None,
    paths: list[Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = write_detector(tmp_path / "bundle")
    write_bundle(folder, replace(read_bundle(folder), **change))
    model = tlvision.runtime.load(folder, threads=1)
    wanted = [model.predict(path) for path in paths]
    assert all(len(each) for each in wanted)
    prepared = [
        model.prepare_image(sample, path.read_bytes())
        for sample, path in zip(read_unlabelled(paths), paths, strict=True)
    ]
    sizes = []
    run = model.run
    monkeypatch.setattr(
        model, "run", lambda inputs, least, taps=None: [sizes.append(len(inputs)), *run(inputs, least, taps=taps)][1:]
    )
    found = {index: one for index, one, _ in model.predict_prepared(prepared, least=model.selection.least())}
    assert sorted(found) == [0, 1, 2, 3, 4]
    if batches is not None:
        assert sorted(sizes) == batches
    for index, one in enumerate(wanted):
        mine = model.selection.select(found[index])
        for name in ("boxes", "scores", "labels"):
            assert np.array_equal(getattr(mine, name), getattr(one, name)), (index, name)


def test_the_header_of_a_file_in_memory_is_that_of_the_file(paths: list[Path]) -> None:
    data = paths[0].read_bytes()
    assert parse_header(data, "a", max_pixels=96 * 128) == read_header(paths[0])
    with pytest.raises(ImageTooLargeError, match="'a' has 96 x 128 pixels, more than 12,287"):
        parse_header(data, "a", max_pixels=96 * 128 - 1)
    with pytest.raises(InputError, match="'a' is not an image"):
        parse_header(b"GIF89a\x08\x00\x08\x00\x00\x00\x00", "a", max_pixels=99)  # of no format that is read
