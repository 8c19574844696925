"""An archive where labels, images or label maps are expected is one sentence with the command that unpacks it."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tlvision.files.archives import refuse_archive
from tlvision.types import InputError


def zipped() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as file:
        file.writestr("train.json", "{}")
    return out.getvalue()


def tarred() -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as file:
        file.addfile(tarfile.TarInfo("train.json"))
    return out.getvalue()


ARCHIVES: list[tuple[str, bytes, str]] = [
    ("a.zip", zipped(), "unzip a.zip"),
    ("empty.zip", b"PK\x05\x06" + bytes(18), "unzip empty.zip"),
    ("a.tar", tarred(), "tar xf a.tar"),
    ("a.tar.gz", gzip.compress(tarred()), "tar xf a.tar.gz"),
    ("a.tgz", gzip.compress(tarred()), "tar xf a.tgz"),
    ("a.tar.xz", lzma.compress(tarred()), "tar xf a.tar.xz"),
    ("a.json.gz", gzip.compress(b"{}"), "gunzip -k a.json.gz"),
    ("a.json.bz2", bz2.compress(b"{}"), "bunzip2 -k a.json.bz2"),
    ("a.7z", b"7z\xbc\xaf\x27\x1c" + bytes(30), "7z x a.7z"),
    ("a.json", zipped(), "unzip a.json"),  # renamed
]
assert ARCHIVES


@pytest.mark.parametrize(("name", "data", "command"), ARCHIVES, ids=[name for name, _, _ in ARCHIVES])
def test_archives_are_recognised_by_their_content(tmp_path: Path, name: str, data: bytes, command: str) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(InputError) as caught:
        refuse_archive(tmp_path / name, "the labels from it")
    expected = f"is an archive, which is not read. Unpack it ({command}) and give the labels from it."
    assert expected in str(caught.value)


@pytest.mark.parametrize("data", [b"", b"{}", b"P", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff" + bytes(300)])
def test_other_files_are_no_archives(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a.zip").write_bytes(data)
    os.mkfifo(tmp_path / "pipe.zip")
    for path in (tmp_path / "a.zip", tmp_path, tmp_path / "absent.zip", tmp_path / "pipe.zip", Path("\0.zip")):
        refuse_archive(path, "anything")


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    (tmp_path / "data.zip").write_bytes(zipped())
    return tmp_path / "data.zip"


@pytest.fixture
def config(tiny_dataset: Path, tmp_path: Path) -> Callable[..., Path]:
    """Write a config of the tiny data set in which some keys of data.train differ."""

    def write(**train: str) -> Path:
        part = {"json": str(tiny_dataset / "train.json"), "images": str(tiny_dataset / "images")}
        values = {
            "model": {"plugin": "toy", "arch": "tiny_detector", "weights": "none"},
            "data": {"train": {**part, **train}, "val": part, "image_size": 64},
            "train": {"epochs": 1, "device": "cpu"},
            "run": {"out": str(tmp_path / "run"), "report": False},
        }
        (tmp_path / "config.yaml").write_text(yaml.safe_dump(values))
        return tmp_path / "config.yaml"

    return write


@pytest.mark.parametrize(
    ("key", "what"), [("json", "the file or folder of labels from it"), ("images", "the image folder from it")]
)
def test_train_names_the_command(
    key: str, what: str, archive: Path, config: Callable[..., Path], tl: Callable[..., Any]
) -> None:
    done = tl("train", config(**{key: str(archive)}))
    assert done.code == 2
    assert f"'{archive}' is an archive, which is not read. Unpack it (unzip data.zip) and give {what}." in done.text
    assert not (archive.parent / "run").exists()


@pytest.mark.parametrize("verb", ["predict", "explain"])
def test_predict_and_explain_name_the_command(
    verb: str, archive: Path, small_run: Path, tl: Callable[..., Any], tmp_path: Path
) -> None:
    done = tl(verb, "--run", small_run, archive, "--output", tmp_path / "out")
    assert done.code == 2
    assert f"'{archive}' is an archive, which is not read. Unpack it (unzip data.zip) and give the images" in done.text


def test_evaluate_and_convert_name_the_command(
    archive: Path, small_run: Path, tl: Callable[..., Any], tmp_path: Path, tiny_dataset: Path
) -> None:
    images, labels = tiny_dataset / "images", tiny_dataset / "val.json"
    for done in (
        tl("evaluate", "--run", small_run, "--json", archive, "--images", images),
        tl("evaluate", "--run", small_run, "--json", labels, "--images", archive),
        tl("convert", archive, tmp_path / "out", "--to", "yolo", "--images", images),
        tl("convert", labels, tmp_path / "out", "--to", "yolo", "--images", archive),
    ):
        assert done.code == 2
        assert f"'{archive}' is an archive, which is not read. Unpack it (unzip data.zip) and give" in done.text
