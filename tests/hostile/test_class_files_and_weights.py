"""Class files and weight files as users have them: read, or refused in one sentence; nothing in them is run."""

from __future__ import annotations

import json
import os
import pickle
import struct
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from tlvision.formats.label_maps import read_class_file
from tlvision.types import ClassMap, InputError

CLASS_FILES: list[tuple[str, bytes, tuple[str, ...] | str]] = [
    ("plain", b"cat\ndog\n", ("cat", "dog")),
    ("no line end", b"cat\ndog", ("cat", "dog")),
    ("Windows line ends", b"cat\r\ndog\r\n", ("cat", "dog")),
    ("old Mac line ends", b"cat\rdog\r", ("cat", "dog")),
    ("byte order mark", b"\xef\xbb\xbfcat\ndog\n", ("cat", "dog")),
    ("spaces around", b"  cat \n\tdog\n", ("cat", "dog")),
    ("empty lines at the end", b"cat\ndog\n\n\n", ("cat", "dog")),
    ("umlauts", "größe\nmüll\n".encode(), ("größe", "müll")),
    ("markup", b"scratch [deep]\non[/off]\n", ("scratch [deep]", "on[/off]")),
    ("numbers", b"1\n2\n", ("1", "2")),
    ("one", b"crack", ("crack",)),
    ("255 names", "\n".join(f"c{n}" for n in range(255)).encode(), tuple(f"c{n}" for n in range(255))),
    ("256 names", "\n".join(f"c{n}" for n in range(256)).encode(), "expected 1 to 255 class names, got 256"),
    ("empty", b"", "expected 1 to 255 class names, got 0"),
    ("only line ends", b"\n\n\n", "expected 1 to 255 class names, got 0"),
    ("an empty line between", b"cat\n\ndog\n", "line 2: expected a class name"),
    ("an empty first line", b"\ncat\n", "line 1: expected a class name"),
    ("a name twice", b"cat\ndog\ncat\n", "name cat is used for more than one class"),
    ("latin-1", "größe\n".encode("latin-1"), "not a text file in UTF-8 (byte 2 is 0xf6)"),
    ("UTF-16", "cat\ndog\n".encode("utf-16"), "not a text file in UTF-8"),
    ("UTF-16 without a mark", "cat\ndog\n".encode("utf-16-le"), "NUL"),
    ("half of a surrogate pair", b"cat\xed\xa0\xbd\n", "not a text file in UTF-8 (byte 3 is 0xed)"),
    ("an escape of JSON is text", b"cat\\ud83d\n", ("cat\\ud83d",)),
    ("binary", bytes(range(256)), "not a text file"),
    ("zeros", bytes(64), "NUL"),
    ("a picture", b"\x89PNG\r\n\x1a\n", "not a text file"),
    ("control characters", b"cat\x07\n", "has control characters"),
    ("escape codes", b"\x1b[31mcat\n", "has control characters"),
    ("two megabytes", b"x" * (2 << 20), "at most 1,048,576 bytes"),
]
assert len(CLASS_FILES) >= 25


@pytest.mark.parametrize(("content", "expected"), [row[1:] for row in CLASS_FILES], ids=[row[0] for row in CLASS_FILES])
def test_a_class_file_is_read_or_refused(content: bytes, expected: tuple[str, ...] | str, tmp_path: Path) -> None:
    path = tmp_path / "classes.txt"
    path.write_bytes(content)
    if isinstance(expected, tuple):
        assert tuple(read_class_file(path)) == expected
        return
    with pytest.raises(InputError) as caught:
        read_class_file(path)
    assert expected in str(caught.value)
    assert "classes.txt" in str(caught.value)
    assert len(str(caught.value)) < 500


CLASS_MAPS: list[tuple[str, object, str]] = [
    ("empty", {}, "expected the keys 'names' and 'source_ids'"),
    ("names a text", {"names": "cat", "source_ids": [1]}, "expected the keys"),
    ("a name a number", {"names": [1], "source_ids": [1]}, "a name must be a text, got 1"),
    ("an id a text", {"names": ["cat"], "source_ids": ["1"]}, "a source id must be an integer, got '1'"),
    ("an id true", {"names": ["cat"], "source_ids": [True]}, "a source id must be an integer, got True"),
    ("an id a list", {"names": ["cat"], "source_ids": [[1]]}, "a source id must be an integer, got [1]"),
    ("fewer ids", {"names": ["cat", "dog"], "source_ids": [1]}, "2 names but 1 ids"),
    ("a name twice", {"names": ["cat", "cat"], "source_ids": [1, 2]}, "name cat is used for more than one class"),
    ("an id twice", {"names": ["cat", "dog"], "source_ids": [1, 1]}, "id 1 is used for more than one class"),
    ("a blank name", {"names": [" "], "source_ids": [1]}, "an empty class name"),
    ("keys of two types", {1: 2, "a": 3}, "expected the keys"),
    (
        "half of a pair",
        {"names": ["a\ud83d"], "source_ids": [1]},
        "half of a surrogate pair in the class name 'a\\ud83d'",
    ),
]
assert CLASS_MAPS


@pytest.mark.parametrize(("value", "expected"), [row[1:] for row in CLASS_MAPS], ids=[row[0] for row in CLASS_MAPS])
def test_a_damaged_classes_json_is_refused(value: Any, expected: str) -> None:
    with pytest.raises(InputError) as caught:
        ClassMap.from_json(value)
    assert expected in str(caught.value)


def header(tensors: object, data: bytes = b"", length: int | None = None) -> bytes:
    """Return the bytes of a safetensors file with this header."""
    text = tensors if isinstance(tensors, bytes) else json.dumps(tensors).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


ROW = {"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}


def with_classes(text: str) -> bytes:
    return header({"__metadata__": {"classes": text}, **ROW}, bytes(4))


SAFETENSORS: list[tuple[str, bytes, tuple[str, ...] | str | None]] = [
    ("without classes", header(ROW, bytes(4)), None),
    ("with classes", with_classes('["cat", "dog"]'), ("cat", "dog")),
    ("classes not JSON", with_classes("cat, dog"), "the metadata 'classes' is not a JSON list of names: 'cat, dog'"),
    ("classes cut off", with_classes('["cat", "do'), "is not a JSON list of names"),
    ("classes empty", with_classes(""), "is not a JSON list of names"),
    ("classes an empty list", with_classes("[]"), "is not a JSON list of names"),
    ("classes null", with_classes("null"), "is not a JSON list of names"),
    ("classes a number", with_classes("3"), "is not a JSON list of names"),
    ("classes a text", with_classes('"cat"'), "is not a JSON list of names"),
    ("classes an object", with_classes('{"0": "cat"}'), "is not a JSON list of names"),
    ("classes numbers", with_classes("[1, 2]"), "is not a JSON list of names"),
    ("classes lists", with_classes('[["cat"]]'), "is not a JSON list of names"),
    ("a blank class", with_classes('["cat", " "]'), "is not a JSON list of names"),
    ("a class twice", with_classes('["cat", "cat"]'), "names cat more than once"),
    (
        "half of a pair",
        with_classes('["cat", "\\ud83d"]'),
        'has half of a surrogate pair: \'["cat", "\\\\ud83d"]\'. Correct it',
    ),
    ("classes nested deeply", with_classes("[" * 100_000), "is not a JSON list of names"),
    ("classes a number of 5000 digits", with_classes("9" * 5000), "is not a JSON list of names"),
    ("empty", b"", "is not a whole safetensors file"),
    ("short", b"\x01\x00", "is not a whole safetensors file"),
    ("text", b"weights of a model", "is not a whole safetensors file"),
    ("a page of HTML", b"<!DOCTYPE html><html></html>", "is not a whole safetensors file"),
    ("a pointer of Git LFS", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "is not a whole"),
    ("a header of 2^60 bytes", header(ROW, bytes(4), 1 << 60), "is not a whole safetensors file"),
    ("a header that is no JSON", header(b"{nothing}"), "is not a whole safetensors file"),
    ("no tensors", header({}), "holds no tensor"),
    ("data cut off", header(ROW, bytes(2)), "is not a whole safetensors file"),
    ("data too long", header(ROW, bytes(9)), "is not a whole safetensors file"),
    ("an unknown dtype", header({"w": {**ROW["w"], "dtype": "F33"}}, bytes(4)), "is not a whole safetensors file"),
    ("offsets backwards", header({"w": {**ROW["w"], "data_offsets": [4, 0]}}, bytes(4)), "is not a whole"),
    ("a negative shape", header({"w": {**ROW["w"], "shape": [-1]}}, bytes(4)), "is not a whole safetensors file"),
    ("a huge shape", header({"w": {**ROW["w"], "shape": [1 << 62]}}, bytes(4)), "is not a whole safetensors file"),
    ("metadata of numbers", header({"__metadata__": {"classes": 3}, **ROW}, bytes(4)), "is not a whole"),
]
assert len(SAFETENSORS) >= 30


@pytest.mark.parametrize(("content", "expected"), [row[1:] for row in SAFETENSORS], ids=[row[0] for row in SAFETENSORS])
def test_a_safetensors_file_is_read_or_refused(
    content: bytes, expected: tuple[str, ...] | str | None, tmp_path: Path
) -> None:
    from tlvision.plugin.weights.files import read_tensors

    path = tmp_path / "w.safetensors"
    path.write_bytes(content)
    if not isinstance(expected, str):
        assert read_tensors(path).class_names == expected
        return
    with pytest.raises(InputError) as caught:
        read_tensors(path)
    assert expected in str(caught.value)
    assert "w.safetensors" in str(caught.value)
    assert len(str(caught.value)) < 800


class Harmful:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (open, (str(self.path), "w"))


PICKLES: list[tuple[str, bytes]] = [
    ("empty", b""),
    ("text", b"weights"),
    ("binary", bytes(range(256))),
    ("a bare pickle", pickle.dumps({"w": 1})),
    ("a pickle cut off", pickle.dumps({"w": list(range(100))})[:-20]),
    ("a zip cut off", b"PK\x03\x04" + bytes(20)),
    ("deep", b"(" * 100_000 + b"."),
    ("a memo of no object", b"\x80\x02h\x05."),
    ("a frame of 2^60 bytes", b"\x80\x04\x95" + struct.pack("<Q", 1 << 60)),
    ("a text of 2^31 bytes", b"\x80\x04X" + struct.pack("<I", (1 << 31) - 1)),
]
assert PICKLES


@pytest.mark.parametrize("content", [row[1] for row in PICKLES], ids=[row[0] for row in PICKLES])
@pytest.mark.parametrize("name", ["w.pt", "w.pth", "w", "w.bin"])
def test_a_damaged_checkpoint_is_refused(content: bytes, name: str, tmp_path: Path) -> None:
    from tlvision.plugin.weights.files import read_tensors

    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(InputError, match="cannot be read as a torch checkpoint") as caught:
        read_tensors(path)
    assert len(str(caught.value)) < 800


def test_a_harmful_checkpoint_runs_nothing(tmp_path: Path) -> None:
    from tlvision.plugin.weights.files import read_tensors

    target = tmp_path / "written"
    for path in (tmp_path / "plain.pt", tmp_path / "zip.pt"):
        data = pickle.dumps({"model": Harmful(target)})
        if path.stem == "plain":
            path.write_bytes(data)
        else:
            with zipfile.ZipFile(path, "w") as archive:
                archive.writestr("x/data.pkl", data)
        with pytest.raises(InputError):
            read_tensors(path)
        assert not target.exists()


@pytest.mark.skipif(sys.platform == "win32", reason="there are no named pipes among files")
def test_what_is_no_regular_file_is_refused_without_waiting(tmp_path: Path) -> None:
    from tlvision.plugin.weights.files import read_tensors

    (tmp_path / "folder.pt").mkdir()
    (tmp_path / "folder.safetensors").mkdir()
    os.mkfifo(tmp_path / "pipe.pt")
    os.mkfifo(tmp_path / "pipe.txt")
    for name, expected in (("folder.pt", "folder"), ("folder.safetensors", "folder"), ("pipe.pt", "pipe")):
        with pytest.raises(InputError, match=f"weights: .* is a .*{expected}"):
            read_tensors(tmp_path / name)
    for wrong in ("absent.pt", "a\0b", "x" * 5000):
        with pytest.raises(InputError):
            read_tensors(wrong)
        with pytest.raises(InputError):
            read_class_file(wrong)
    with pytest.raises(InputError, match="a named pipe"):
        read_class_file(tmp_path / "pipe.txt")
    with pytest.raises(InputError, match="is a folder"):
        read_class_file(tmp_path)


@pytest.mark.skipif(sys.platform == "win32", reason="there are no named pipes among files")
def test_a_named_pipe_among_the_images_of_a_folder_is_refused_unopened(tmp_path: Path) -> None:
    from PIL import Image

    from tlvision.formats.coco import read_images
    from tlvision.formats.label_maps import read_label_maps

    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
        Image.new("L", (4, 4)).save(tmp_path / name / "a.png")
        os.mkfifo(tmp_path / name / "b.png")
    for read in (
        lambda: read_images(tmp_path / "images"),
        lambda: read_label_maps(tmp_path / "images", tmp_path / "masks", ClassMap(("x",), (0,))),
    ):
        with pytest.raises(InputError, match=r"1 image that is a broken link or no regular file: .*b\.png"):
            read()
    (tmp_path / "images" / "b.png").unlink()
    data = read_label_maps(tmp_path / "images", tmp_path / "masks", ClassMap(("x",), (0,)))
    assert len(data.samples) == 1
    assert "left out 1 label map without image: b" in data.skipped
    (tmp_path / "masks" / "a.png").unlink()
    os.mkfifo(tmp_path / "masks" / "a.png")
    with pytest.raises(InputError, match="1 of 1 images have no label map"):
        read_label_maps(tmp_path / "images", tmp_path / "masks", ClassMap(("x",), (0,)))
