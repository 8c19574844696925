from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

from tlvision.data.images import looks_whole, read_any_image, read_image, write_image
from tlvision.types import InputError, RunError

HEIGHT, WIDTH = 61, 83
ROWS, COLUMNS = np.mgrid[0:HEIGHT, 0:WIDTH]
COLOUR = np.stack([COLUMNS * 3, ROWS * 4, (COLUMNS + ROWS) * 1.7], axis=-1).clip(0, 255).astype(np.uint8)
NOISE = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)


def save(path: Path, image: Image.Image, **options: Any) -> Path:
    image.save(path, **options)
    return path


def rgb() -> Image.Image:
    return Image.fromarray(COLOUR)


KINDS: list[tuple[str, Image.Image, dict[str, Any], int]] = [
    ("colour.jpg", rgb(), {"quality": 95}, 0),
    ("grey.jpg", rgb().convert("L"), {"quality": 95}, 0),
    ("grey.png", rgb().convert("L"), {}, 0),
    ("cmyk.jpg", rgb().convert("CMYK"), {"quality": 95}, 1),
    ("palette.png", rgb().quantize(64), {}, 0),
    ("palette_with_alpha.png", rgb().quantize(64), {"transparency": 3}, 0),
    ("alpha.png", Image.fromarray(np.dstack([COLOUR, np.full((HEIGHT, WIDTH), 99, np.uint8)])), {}, 0),
    ("grey_alpha.png", rgb().convert("LA"), {}, 0),
    ("alpha.tif", Image.fromarray(np.dstack([COLOUR, np.full((HEIGHT, WIDTH), 99, np.uint8)])), {}, 0),
    ("grey_alpha.tif", Image.merge("LA", [rgb().convert("L"), rgb().convert("L")]), {}, 0),
    ("two_level.png", rgb().convert("1"), {}, 0),
    ("colour.bmp", rgb(), {}, 0),
    ("colour.tif", rgb(), {}, 0),
    ("colour.webp", rgb(), {"lossless": True}, 0),
    ("progressive.jpg", rgb(), {"progressive": True}, 0),
]


@pytest.mark.parametrize(("name", "image", "options", "tolerance"), KINDS, ids=[kind[0] for kind in KINDS])
def test_every_kind_of_file_equals_pillow(
    tmp_path: Path, name: str, image: Image.Image, options: dict[str, Any], tolerance: int
) -> None:
    path = save(tmp_path / name, image, **options)
    with Image.open(path) as stored:
        expected = np.asarray(stored.convert("RGB")).astype(int)
    found, reduction = read_image(path, WIDTH, HEIGHT, False)
    assert (found.dtype, found.shape, reduction) == (np.uint8, (HEIGHT, WIDTH, 3), 1)
    assert np.abs(found - expected).max() <= tolerance


@pytest.mark.parametrize("name", ["sixteen.png", "sixteen.tif"])
def test_sixteen_bits_keep_their_upper_half(tmp_path: Path, name: str) -> None:
    deep = (COLUMNS * 700).astype(np.uint16)
    found, _ = read_image(save(tmp_path / name, Image.fromarray(deep)), WIDTH, HEIGHT, False)
    assert (found == (deep >> 8)[:, :, None]).all()


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotation_is_applied_or_not_as_told(tmp_path: Path, suffix: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if suffix == "webp" else {}
    path = save(tmp_path / f"a.{suffix}", rgb(), exif=exif, **options)
    with Image.open(path) as stored:
        expected = np.asarray(ImageOps.exif_transpose(stored).convert("RGB"))
    assert (read_any_image(path) == expected).all()
    if orientation != 1:
        found, _ = read_image(path, expected.shape[1], expected.shape[0], suffix != "tif")
        assert (found == expected).all()
    if suffix != "tif":  # whose decoders always rotate
        with Image.open(path) as stored:
            assert (read_image(path, WIDTH, HEIGHT, False)[0] == np.asarray(stored.convert("RGB"))).all()


@pytest.mark.parametrize(
    ("min_size", "expected"), [((62, 83), 1), ((31, 42), 2), ((31, 43), 1), ((16, 21), 4), ((8, 11), 8), ((1, 1), 8)]
)
def test_a_jpeg_is_reduced_as_far_as_is_enough(tmp_path: Path, min_size: tuple[int, int], expected: int) -> None:
    path = save(tmp_path / "a.jpg", rgb(), quality=95)
    found, k = read_image(path, WIDTH, HEIGHT, False, min_size=min_size)
    assert k == expected
    assert found.shape == (-(-HEIGHT // k), -(-WIDTH // k), 3)
    full = read_image(path, WIDTH, HEIGHT, False)[0][: HEIGHT // k * k, : WIDTH // k * k]
    blocks = full.reshape(HEIGHT // k, k, WIDTH // k, k, 3).mean(axis=(1, 3))
    difference = np.abs(found[: HEIGHT // k, : WIDTH // k] - blocks)
    assert difference.mean() < 1.5  # each reduced pixel stands for exactly k x k pixels


def test_reduction_waits_for_whole_blocks_where_the_image_is_rotated(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 3
    for size, expected in (((83, 61), 1), ((80, 64), 8)):
        path = save(tmp_path / "a.jpg", rgb().resize(size), exif=exif)
        assert read_image(path, *size, True, min_size=(4, 4))[1] == expected


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "bmp", "gif", "tif"])
@pytest.mark.parametrize("part", [0.5, 0.98])
def test_a_truncated_file_is_an_error_that_names_it(tmp_path: Path, suffix: str, part: float) -> None:
    whole = io.BytesIO()
    Image.fromarray(NOISE).save(whole, {"jpg": "JPEG", "tif": "TIFF"}.get(suffix, suffix))
    data = whole.getvalue()
    path = tmp_path / f"cut.{suffix}"
    path.write_bytes(data[: int(len(data) * part)])
    with pytest.raises(InputError, match=rf"cut\.{suffix}' is truncated or damaged"):
        read_image(path, WIDTH, HEIGHT, False)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_the_end_of_a_file_tells_whether_it_is_whole(kind: str) -> None:
    # Some versions of OpenCV fill what is missing with grey, so this must not be left to them.
    whole = io.BytesIO()
    Image.fromarray(NOISE).save(whole, kind)
    assert looks_whole(whole.getvalue())
    assert not any(looks_whole(whole.getvalue()[:-cut]) for cut in (2, 20, 200, 2000))


def test_truncation_is_noticed_also_where_opencv_says_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(tmp_path / "cut.jpg", Image.fromarray(NOISE))
    path.write_bytes(path.read_bytes()[:-100])
    monkeypatch.setattr("cv2.imdecode", lambda *_: np.full((HEIGHT, WIDTH, 3), 128, np.uint8))
    with pytest.raises(InputError, match="is truncated"):
        read_image(path, WIDTH, HEIGHT, False)


def test_data_after_the_end_of_a_jpeg_is_no_damage(tmp_path: Path) -> None:
    path = save(tmp_path / "a.jpg", rgb())
    path.write_bytes(path.read_bytes() + b"a trailer of some camera")
    assert not looks_whole(path.read_bytes())
    assert read_image(path, WIDTH, HEIGHT, False)[0].shape == (HEIGHT, WIDTH, 3)


def test_other_failures_name_the_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"gone\.png' cannot be read"):
        read_image(tmp_path / "gone.png", 1, 1, False)
    with pytest.raises(InputError, match=r"gone\.png' does not exist"):
        read_any_image(tmp_path / "gone.png")
    path = save(tmp_path / "a.png", rgb())
    with pytest.raises(InputError, match=r"a\.png' is 83 x 61 pixels but 61 x 83 was expected"):
        read_image(path, HEIGHT, WIDTH, False)
    path.write_text("text")
    with pytest.raises(InputError, match=r"a\.png' is truncated or damaged"):
        read_image(path, WIDTH, HEIGHT, False)


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    write_image(tmp_path / "new" / "a.png", COLOUR)
    assert (read_any_image(tmp_path / "new" / "a.png") == COLOUR).all()
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot be written"):
        write_image(tmp_path / "file" / "a.png", COLOUR)
