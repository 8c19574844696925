"""Bit depth and EXIF rotation: decided for the whole dataset, by what its images tell, with a note."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from tlvision.data.images import as_rgb, read_any_image, read_image
from tlvision.formats.bit_depth import choose_bits
from tlvision.formats.coco import read_coco, read_images
from tlvision.formats.image_headers import Header, read_header
from tlvision.formats.orientation import decide
from tlvision.types import InputError

RAMP = np.tile(np.linspace(0, 4095, 96).astype(np.uint16), (64, 1))


@pytest.mark.parametrize("suffix", ["png", "tif"])
@pytest.mark.parametrize("colour", [False, True])
def test_twelve_bits_keep_256_grey_levels(tmp_path: Path, suffix: str, colour: bool) -> None:
    path = tmp_path / f"deep.{suffix}"
    deep = np.dstack([RAMP, RAMP // 2, RAMP // 3]) if colour else RAMP
    cv2.imwrite(str(path), deep[..., ::-1] if colour else deep)  # OpenCV writes BGR
    assert read_header(path).bits == 16
    plain, _ = read_image(path, 96, 64, False)
    assert len(np.unique(plain)) <= 17  # the upper half of 16 bits: what was wrong
    image, _ = read_image(path, 96, 64, False, bits=12)
    expected = (deep >> 4).astype(np.uint8)
    assert (image == (expected if colour else expected[..., None])).all()
    assert (as_rgb(deep, bits=12) == image).all()
    assert (read_any_image(path, bits=12) == image).all()


def test_one_depth_holds_for_the_whole_dataset_and_is_noted(tmp_path: Path) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    for number, scale in enumerate((1, 4)):
        cv2.imwrite(str(folder / f"{number}.png"), RAMP // scale)
    content = {
        "images": [{"id": k, "file_name": f"{k}.png", "width": 96, "height": 64} for k in range(2)],
        "annotations": [{"id": 1, "image_id": 0, "category_id": 1, "bbox": [1, 1, 9, 9], "area": 81, "iscrowd": 0}],
        "categories": [{"id": 1, "name": "thing"}],
    }
    (tmp_path / "train.json").write_text(json.dumps(content))
    data = read_coco(tmp_path / "train.json", folder)
    assert data.bits == 12
    assert [sample.bits for sample in data.samples] == [12, 12]
    assert data.skipped == (
        "train.json: 2 images with 16-bit values, of which 12 bits are in use: values are divided by 16",
    )
    darker = read_coco(tmp_path / "train.json", folder, bits=10)
    assert [sample.bits for sample in darker.samples] == [10, 10]
    assert "1 image brighter than 10 bits can hold, clipped to white: 0.png" in darker.skipped[-1]
    assert [image.bits for image in read_images(folder, bits=12).images] == [12, 12]
    assert [image.bits for image in read_images(folder).images] == [12, 12]


def test_eight_bit_images_are_not_asked(tmp_path: Path) -> None:
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    path = tmp_path / "a.png"
    assert choose_bits([path], [read_header(path)], None, "x") == (None, ())


def test_floating_point_images_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "depth.tif"
    Image.fromarray(np.zeros((4, 4), np.float32)).save(path)
    with pytest.raises(InputError, match=r"1 image with 32-bit or floating-point values: .*save with 8 or 16 bits"):
        choose_bits([path], [read_header(path)], None, "train.json")


TURNED, FLIPPED, PLAIN = Header(40, 30, 6), Header(40, 30, 3), Header(40, 30, 1)
SQUARE = Header(30, 30, 6)
STORED, SHOWN = (40, 30), (30, 40)


@pytest.mark.parametrize(
    ("headers", "said", "exif", "expected", "words"),
    [
        ([PLAIN], [STORED], "auto", [False], None),
        ([TURNED], [STORED], "auto", [False], "not applied if the labels have the stored size"),
        ([TURNED], [SHOWN], "auto", [True], None),
        (
            [FLIPPED],
            [STORED],
            "auto",
            [True],
            "1 image with an EXIF rotation that the size cannot confirm; it is applied",
        ),
        ([FLIPPED, TURNED], [STORED, STORED], "auto", [False, False], "it is not applied, as in the other images"),
        ([FLIPPED, TURNED], [STORED, SHOWN], "auto", [True, True], "it is applied, as in the other images"),
        ([SQUARE, TURNED], [(30, 30), STORED], "auto", [False, False], "it is not applied, as in the other images"),
        ([FLIPPED, TURNED, TURNED], [STORED, STORED, SHOWN], "auto", [True, False, True], "by default. Set data.exif"),
        ([FLIPPED], [STORED], "ignore", [False], None),
        ([FLIPPED, TURNED], [STORED, STORED], "apply", [True, False], None),
        ([TURNED], [(None, None)], "auto", [True], "cannot confirm"),
        ([TURNED], [(None, None)], "ignore", [False], None),
    ],
)
def test_the_other_images_decide_what_the_size_does_not(
    headers: list[Header], said: list[tuple[int, int]], exif: str, expected: list[bool], words: str | None
) -> None:
    ids = range(len(headers))
    found = decide(
        dict(zip(ids, headers, strict=True)),
        dict(zip(ids, said, strict=True)),
        {number: f"{number}.jpg" for number in ids},
        exif=exif,  # type: ignore[arg-type]
    )
    assert list(found.applied.values()) == expected
    open_notes = [note for note in found.notes if "cannot confirm" in note or len(headers) == 1]
    assert bool(open_notes) is (words is not None)
    if words:
        assert words in open_notes[0]
