"""Pictures of a page are JPEG files of a bounded size."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tlvision.report.thumbnails import jpeg, thumbnail


def opened(content: bytes) -> Image.Image:
    return Image.open(io.BytesIO(content))


@pytest.mark.parametrize("limit", [60_000, 20_000, 2_000])
def test_the_size_is_bounded_also_for_noise(limit: int) -> None:
    content = jpeg(np.random.default_rng(0).integers(0, 255, (400, 600, 3), np.uint8), limit)
    assert len(content) <= limit
    assert opened(content).format == "JPEG"


def test_a_picture_that_fits_keeps_its_size_and_content(tmp_path: Path) -> None:
    picture = np.full((300, 400, 3), 90, np.uint8)
    assert opened(jpeg(picture, 50_000)).size == (400, 300)
    (tmp_path / "a.jpg").write_bytes(jpeg(picture, 50_000))
    uri = thumbnail(tmp_path / "a.jpg", side=400, max_bytes=50_000)
    assert base64.b64decode(uri.removeprefix("data:image/jpeg;base64,")) == (tmp_path / "a.jpg").read_bytes()


@pytest.mark.parametrize("mode", ["RGBA", "L", "P", "I;16"])
def test_other_formats_become_small_jpeg_files(mode: str, tmp_path: Path) -> None:
    Image.new(mode, (900, 300)).save(tmp_path / "a.png")
    content = base64.b64decode(thumbnail(tmp_path / "a.png", side=300, max_bytes=50_000).partition(",")[2])
    assert opened(content).size == (300, 100)


def test_what_is_no_picture_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_text("no")
    with pytest.raises(OSError, match="cannot identify"):
        thumbnail(tmp_path / "a.jpg", side=9, max_bytes=9)
