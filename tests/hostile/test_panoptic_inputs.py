"""Panoptic json files as users have them: each is read, or refused in one sentence; nothing leaves its folder."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tlvision.formats.label_maps import read_panoptic
from tlvision.types import InputError

Content = dict[str, Any]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two images of 2 x 2 pixels with a PNG each; another picture one folder up."""
    root = tmp_path / "data"
    (root / "part").mkdir(parents=True)
    colours = np.zeros((2, 2, 3), np.uint8)
    colours[..., 0] = [[7, 7], [9, 0]]
    for name in ("a", "b", "part/c"):
        Image.fromarray(colours).save(root / f"{name}.png")
        Image.fromarray(np.zeros((2, 2, 3), np.uint8)).save(root / f"{name}.jpg")
    for name in ("precious.png", "precious.jpg"):
        Image.fromarray(colours).save(tmp_path / name)
    return root


def good() -> Content:
    segments = [{"id": 7, "category_id": 3, "iscrowd": 0}, {"id": 9, "category_id": 90, "iscrowd": 1}]
    return {
        "images": [{"id": 1, "file_name": "a.jpg"}, {"id": 2, "file_name": "b.jpg"}],
        "annotations": [
            {"image_id": 1, "file_name": "a.png", "segments_info": segments},
            {"image_id": 2, "file_name": "b.png", "segments_info": segments},
        ],
        "categories": [{"id": 90, "name": "grass"}, {"id": 3, "name": "car"}],
    }


def setting(*path: Any) -> Callable[[Content], None]:
    """Return a change: the last of `path` is the value, the others lead to its place."""
    *keys, last, value = path

    def change(content: Any) -> None:
        for key in keys:
            content = content[key]
        content[last] = value

    return change


def removing(*path: Any) -> Callable[[Content], None]:
    *keys, last = path

    def change(content: Any) -> None:
        for key in keys:
            content = content[key]
        del content[last]

    return change


IMAGE = ("images", 0, "file_name")
PNG = ("annotations", 0, "file_name")
SEGMENT = ("annotations", 0, "segments_info", 0)
BAD_NAMES = [
    ("up", "../precious.png", "leaves the image folder"),
    ("up two", "../../precious.png", "leaves the image folder"),
    ("up within", "part/../../precious.png", "leaves the image folder"),
    ("up with backslashes", "..\\precious.png", "leaves the image folder"),
    ("absolute", "/etc/passwd", "leaves the image folder"),
    ("absolute with backslashes", "\\etc\\passwd", "leaves the image folder"),
    ("drive", "C:\\a.png", "leaves the image folder"),
    ("drive with slashes", "C:/a.png", "leaves the image folder"),
    ("drive alone", "c:a.png", "leaves the image folder"),
    ("share", "\\\\server\\a\\b.png", "leaves the image folder"),
    ("empty", "", "is empty"),
    ("blank", "  ", "is empty"),
    ("folder itself", ".", "is the image folder itself"),
    ("folder itself, longer", "part/..", "is the image folder itself"),
    ("folder itself, slash", "./", "is the image folder itself"),
    ("NUL", "a\0.png", "is not a file name"),
    ("long", "x" * 2000, "is not a file name"),
    ("number", 5, "'file_name' must be a text, got 5"),
    ("null", None, "'file_name' must be a text, got None"),
    ("list", ["a.png"], "'file_name' must be a text"),
    ("true", True, "'file_name' must be a text, got True"),
    ("half of a pair", "a\ud83d.png", "half of a surrogate pair in 'file_name': 'a\\ud83d.png'. Rename the file"),
    ("byte that is no text", "a\udcff.png", "half of a surrogate pair in 'file_name': 'a\\udcff.png'. Rename"),
]
ROWS: list[tuple[str, Callable[[Content], None], str]] = [
    *((f"image file_name: {name}", setting(*IMAGE, value), text) for name, value, text in BAD_NAMES),
    *((f"PNG file_name: {name}", setting(*PNG, value), text) for name, value, text in BAD_NAMES),
    ("image file_name: a folder", setting(*IMAGE, "part"), "is a folder"),
    ("PNG file_name: a folder", setting(*PNG, "part"), "is a folder"),
    ("image file_name: absent", setting(*IMAGE, "z.jpg"), "1 of 2 image files do not exist"),
    ("image file_name: 300 characters", setting(*IMAGE, "x" * 300), "cannot be read"),
    ("PNG file_name: absent", setting(*PNG, "z.png"), "z.png"),
    ("PNG file_name: of another kind", setting(*PNG, "a.jpg"), "a.jpg: the label map is a JPEG"),
    ("image id twice", setting("images", 1, "id", 1), "the image id 1 is given more than once"),
    ("image file twice", setting("images", 1, "file_name", "a.jpg"), "the file name in 'images' 'a.jpg' is given more"),
    ("image file twice, otherwise", setting("images", 1, "file_name", "./a.jpg"), "is given more than once"),
    (
        "image annotated twice",
        setting("annotations", 1, "image_id", 1),
        "the image_id in 'annotations' 1 is given more",
    ),
    ("PNG twice", setting("annotations", 1, "file_name", "a.png"), "the file name in 'annotations' 'a.png' is given"),
    ("category id twice", setting("categories", 1, "id", 90), "the category id 90 is given more than once"),
    ("category name twice", setting("categories", 1, "name", "grass"), "the category name 'grass' is given more"),
    ("segment id twice", setting(*SEGMENT, "id", 9), "the segment id of image 1 9 is given more than once"),
    ("segment id 0", setting(*SEGMENT, "id", 0), "the segment id 0 is no colour"),
    ("segment id negative", setting(*SEGMENT, "id", -1), "the segment id -1 is no colour"),
    ("segment id too large", setting(*SEGMENT, "id", 256**3), "is no colour"),
    ("segment id huge", setting(*SEGMENT, "id", 10**400), "is no colour"),
    ("segment id a text", setting(*SEGMENT, "id", "7"), "'id' must be an integer, got '7'"),
    ("segment id a float", setting(*SEGMENT, "id", 7.0), "'id' must be an integer, got 7.0"),
    ("segment id true", setting(*SEGMENT, "id", True), "'id' must be an integer, got True"),
    ("segment without id", removing(*SEGMENT, "id"), "'id' must be an integer, got None"),
    ("segment without category", removing(*SEGMENT, "category_id"), "'category_id' must be an integer, got None"),
    ("segment of an unknown category", setting(*SEGMENT, "category_id", 4), "segment 7: the category 4 is not in"),
    ("segment category a list", setting(*SEGMENT, "category_id", [3]), "'category_id' must be an integer, got [3]"),
    ("segment a number", setting("annotations", 0, "segments_info", [1]), "expected an object with 'id'"),
    ("segment a list", setting("annotations", 0, "segments_info", [[7, 3]]), "expected an object with 'id'"),
    ("segments a text", setting("annotations", 0, "segments_info", "x"), "'segments_info' must be a list, got 'x'"),
    ("segments an object", setting("annotations", 0, "segments_info", {}), "'segments_info' must be a list, got {}"),
    ("segments null", setting("annotations", 0, "segments_info", None), "'segments_info' must be a list"),
    ("segments empty", setting("annotations", 0, "segments_info", []), "value(s) 7 (colour [7, 0, 0]), 9"),
    ("crowd 2", setting(*SEGMENT, "iscrowd", 2), "'iscrowd' must be 0 or 1, got 2"),
    ("crowd a text", setting(*SEGMENT, "iscrowd", "no"), "'iscrowd' must be 0 or 1, got 'no'"),
    ("crowd true", setting(*SEGMENT, "iscrowd", True), "'iscrowd' must be 0 or 1, got True"),
    ("crowd a list", setting(*SEGMENT, "iscrowd", [1]), "'iscrowd' must be 0 or 1, got [1]"),
    ("image id a text", setting("images", 0, "id", "1"), "images[0]: 'id' must be an integer, got '1'"),
    ("image id null", setting("images", 0, "id", None), "images[0]: 'id' must be an integer, got None"),
    ("image id a list", setting("images", 0, "id", [1]), "images[0]: 'id' must be an integer, got [1]"),
    ("image id huge", setting("images", 0, "id", 10**4000), "names an image that is not in the file"),
    ("annotation of no image", setting("annotations", 0, "image_id", 5), "the annotation of image 5 names an image"),
    ("annotation image a text", setting("annotations", 0, "image_id", "1"), "'image_id' must be an integer, got '1'"),
    ("annotation image an object", setting("annotations", 0, "image_id", {}), "'image_id' must be an integer, got {}"),
    ("category id a text", setting("categories", 0, "id", "a"), "categories[0]: 'id' must be an integer, got 'a'"),
    ("category name a number", setting("categories", 0, "name", 5), "categories[0]: 'name' must be a text, got 5"),
    ("category name blank", setting("categories", 0, "name", " "), "categories[0]: 'name' must be a text, got ' '"),
    (
        "category name with half of a pair",
        setting("categories", 0, "name", "car\ud83d"),
        "p.json: categories[0]: half of a surrogate pair in 'name': 'car\\ud83d'. Write the character itself.",
    ),
    ("categories of one type", setting("categories", ["car"]), "categories[0] lacks id, name"),
    ("categories an object", setting("categories", {"3": "car"}), "with the list 'categories'"),
    ("categories empty", setting("categories", []), "with the list 'categories'"),
    (
        "categories of 256 classes",
        lambda c: c["categories"].extend({"id": 1000 + n, "name": f"c{n}"} for n in range(256)),
        "expected at most 255 categories, got 258",
    ),
    ("images an object", setting("images", {}), "with the list 'images'"),
    ("images null", setting("images", None), "with the list 'images'"),
    ("an image a text", setting("images", 0, "a.jpg"), "images[0] lacks id, file_name"),
    ("an image null", setting("images", 0, None), "images[0] lacks id, file_name"),
    ("annotations absent", removing("annotations"), "with the list 'annotations'"),
    ("annotations a number", setting("annotations", 3), "with the list 'annotations'"),
    ("an annotation of a detector", setting("annotations", 0, {"id": 1, "image_id": 1, "bbox": []}), "lacks file_name"),
]
assert len(ROWS) >= 90


def read(folder: Path, content: object) -> Any:
    path = folder / "p.json"
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    return read_panoptic(path, folder, folder)


def test_the_unchanged_file_is_read(folder: Path) -> None:
    data = read(folder, good())
    assert data.classes.names == ("car", "grass")
    assert data.pixels.tolist() == [4, 0]


@pytest.mark.parametrize(("change", "expected"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS])
def test_a_wrong_file_is_refused_in_one_sentence(
    change: Callable[[Content], None], expected: str, folder: Path
) -> None:
    content = good()
    change(content)
    with pytest.raises(InputError) as caught:
        read(folder, content)
    assert expected in str(caught.value)
    assert len(str(caught.value)) < 5000


ACCEPTED: list[tuple[str, Callable[[Content], None]]] = [
    ("a folder below", lambda c: (setting(*IMAGE, "part/c.jpg")(c), setting(*PNG, "part/c.png")(c))),
    ("backslashes", lambda c: (setting(*IMAGE, "part\\c.jpg")(c), setting(*PNG, "part\\c.png")(c))),
    ("up and down", setting(*IMAGE, "part/../a.jpg")),
    ("dots in a name", setting(*IMAGE, "./a.jpg")),
    ("no iscrowd", removing(*SEGMENT, "iscrowd")),
    ("iscrowd null", setting(*SEGMENT, "iscrowd", None)),
    ("negative ids", lambda c: (setting("images", 0, "id", -1)(c), setting("annotations", 0, "image_id", -1)(c))),
    ("an unused segment", lambda c: c["annotations"][0]["segments_info"].append({"id": 99, "category_id": 3})),
    ("more keys", lambda c: c.update(info={}, licenses=[])),
    ("an image without annotation", lambda c: c["annotations"].pop()),
    ("markup in a name", setting("categories", 0, "name", "on[/off]")),
]
assert ACCEPTED


@pytest.mark.parametrize("change", [row[1] for row in ACCEPTED], ids=[row[0] for row in ACCEPTED])
def test_a_file_that_is_unusual_but_right_is_read(change: Callable[[Content], object], folder: Path) -> None:
    content = good()
    change(content)
    data = read(folder, content)
    assert data.samples
    assert all(folder in sample.path.resolve().parents for sample in data.samples)


BYTES: list[tuple[str, bytes, str]] = [
    ("empty", b"", "not valid JSON"),
    ("binary", bytes(range(256)), "p.json"),
    ("zeros", bytes(100), "p.json"),
    ("cut off", b'{"images": [', "not valid JSON"),
    ("deep lists", b"[" * 100_000, "nested too deeply"),
    ("deep objects", b'{"a":' * 100_000, "nested too deeply"),
    ("a number of 5000 digits", b'{"images": [{"id": ' + b"9" * 5000 + b"}]}", "p.json"),
    ("NaN", b"NaN", "with the list 'images'"),
    ("a text", b'"images"', "with the list 'images'"),
    ("null", b"null", "with the list 'images'"),
    ("a list", b"[]", "with the list 'images'"),
    ("latin-1", '{"images": "größe"}'.encode("latin-1"), "not a text file"),
    ("a surrogate", b'{"images": "\\ud800"}', "with the list 'images'"),
    ("a config", b"images: x", "not valid JSON"),
]
assert BYTES


@pytest.mark.parametrize(("content", "expected"), [row[1:] for row in BYTES], ids=[row[0] for row in BYTES])
def test_what_is_no_panoptic_json_is_refused(content: bytes, expected: str, folder: Path) -> None:
    with pytest.raises(InputError) as caught:
        read(folder, content)
    assert expected in str(caught.value)


def damaged(folder: Path, name: str, content: bytes) -> None:
    (folder / name).write_bytes(content)


PICTURES = [
    ("empty PNG", "a.png", b"", "a.png"),
    ("a text as PNG", "a.png", b"no picture", "a.png"),
    ("the head of a PNG", "a.png", b"\x89PNG\r\n\x1a\n", "a.png"),
    ("empty image", "a.jpg", b"", "a.jpg"),
    ("the head of a JPEG", "a.jpg", b"\xff\xd8\xff\xe0", "a.jpg"),
]


@pytest.mark.parametrize(("name", "content", "expected"), [row[1:] for row in PICTURES], ids=[r[0] for r in PICTURES])
def test_a_damaged_picture_is_named(name: str, content: bytes, expected: str, folder: Path) -> None:
    (folder / name).write_bytes(content)
    with pytest.raises(InputError, match=expected):
        read(folder, good())


def test_a_png_that_is_cut_off_at_any_byte_is_named(folder: Path) -> None:
    whole = (folder / "a.png").read_bytes()
    start = whole.index(b"IDAT")
    for length in range(start + 4 + int.from_bytes(whole[start - 4 : start], "big") // 2):
        (folder / "a.png").write_bytes(whole[:length])
        with pytest.raises(InputError, match=r"a\.png"):
            read(folder, good())


@pytest.mark.parametrize("mode", ["L", "1", "I;16", "LA"])
def test_a_png_of_another_mode_is_refused(mode: str, folder: Path) -> None:
    Image.new(mode, (2, 2)).save(folder / "a.png")
    with pytest.raises(InputError, match="expected a PNG in colour"):
        read(folder, good())


@pytest.mark.skipif(sys.platform == "win32", reason="there are no named pipes among files")
@pytest.mark.parametrize("name", ["a.jpg", "a.png", "p.json"])
def test_a_named_pipe_is_refused_without_waiting(name: str, folder: Path) -> None:
    (folder / "p.json").write_text(json.dumps(good()))
    (folder / name).unlink()
    os.mkfifo(folder / name)
    with pytest.raises(InputError, match=r"pipe|not a regular file"):
        read_panoptic(folder / "p.json", folder, folder)
