"""Models see three channels: other channels of a TIFF are not read, and that is said before anything is trained."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from poison.pictures import tiff_of_channels
from tlvision.data.images import read_any_image
from tlvision.formats.image_headers import parse_header, read_header
from tlvision.types import InputError


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA", "CMYK", "P"])
def test_colours_and_alpha_are_no_extra_channels(tmp_path: Path, mode: str) -> None:
    Image.new(mode, (20, 10)).save(tmp_path / "a.tif")
    assert not read_header(tmp_path / "a.tif").extra


def test_a_fourth_channel_leaves_the_colours_as_they_are(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (10, 20, 4), dtype=np.uint8)
    Image.fromarray(pixels).convert("RGBX").save(tmp_path / "nir.tif")
    data = (tmp_path / "nir.tif").read_bytes()
    assert read_header(tmp_path / "nir.tif").extra
    assert parse_header(data, "nir.tif", max_pixels=1000).extra
    np.testing.assert_array_equal(read_any_image(tmp_path / "nir.tif"), pixels[..., :3])


@pytest.mark.parametrize("count", [5, 9])  # Pillow opens five, and no more than six
def test_more_channels_are_an_error_on_disk_and_in_memory(tmp_path: Path, count: int) -> None:
    (tmp_path / "many.tif").write_bytes(tiff_of_channels(count))
    with pytest.raises(InputError, match=f"many.tif' has {count} channels, and models see three. Save the channels"):
        read_header(tmp_path / "many.tif")
    with pytest.raises(InputError, match=f"^'sent' has {count} channels"):
        parse_header(tiff_of_channels(count), "sent", max_pixels=10**6)
