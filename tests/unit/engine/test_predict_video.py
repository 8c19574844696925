"""Frames of a video are predicted as the same pictures in files are, in bounded memory, and every result is written."""

from __future__ import annotations

import json
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

import tlvision
from clips import noise, read_clip, write_clip
from tlvision.cli.main import main
from tlvision.data.images import read_any_image
from tlvision.engine.predict import predict_images
from tlvision.inference.predict import predict_frames
from tlvision.types import InputError, Pixels, Sample, empty_target

Frames = list[npt.NDArray[np.uint8]]


@pytest.fixture
def frames(tiny_dataset: Path) -> Frames:
    """Eleven pictures, so that the second batch of a video is not full."""
    return [read_any_image(path) for path in sorted((tiny_dataset / "images").glob("*.png"))[:11]]


@pytest.fixture
def clip(frames: Frames, tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    return write_clip(tmp_path / "in" / "clip.avi", frames, fps=5)


def rows_of(out: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((out / "predictions.json").read_text())
    return found


def files_in(folder: Path) -> list[str]:
    paths = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return [path for path in paths if not path.startswith(".")]


def sample_of(number: int, pixels: Pixels) -> Sample:
    height, width = pixels.shape[:2]
    return Sample(image_id=number, path=Path("a.avi"), width=width, height=height, target=empty_target(), segments=())


@pytest.mark.parametrize("every", [1, 2])
def test_a_frame_gives_what_its_picture_gives(
    every: int, small_run: Path, clip: Path, frames: Frames, tmp_path: Path
) -> None:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for number, frame in enumerate(frames[::every]):
        Image.fromarray(frame).save(pictures / f"{number:02d}.png")
    predict_images(small_run, [clip], tmp_path / "of_video", min_score=0, max_detections=20, every=every)
    predict_images(small_run, [pictures], tmp_path / "of_files", min_score=0, max_detections=20)
    rows, expected = rows_of(tmp_path / "of_video"), rows_of(tmp_path / "of_files")
    assert len(rows) > 20
    for row in rows:
        number = row.pop("frame")
        assert row.pop("time") == pytest.approx(number / 5)
        assert row.pop("file_name") == "clip.avi"
        assert number == (row["image_id"] - 1) * every
    for row in expected:
        row.pop("file_name")
    assert rows == expected


def test_the_video_shows_the_objects_at_its_size_and_rate(
    small_run: Path, clip: Path, frames: Frames, tmp_path: Path
) -> None:
    for every in (1, 3):
        predict_images(small_run, [clip], tmp_path / "out", min_score=0, max_detections=20, every=every)
        assert files_in(tmp_path / "out") == ["clip.mp4", "predictions.json"]
        shown, fps = read_clip(tmp_path / "out" / "clip.mp4")
        assert (len(shown), fps) == (len(frames[::every]), pytest.approx(5 / every, rel=1e-3))
        assert {frame.shape for frame in shown} == {(64, 96, 3)}
        by_frame = [row["frame"] for row in rows_of(tmp_path / "out")]
        for number, picture in zip(range(0, len(frames), every), shown, strict=True):
            changed = np.abs(picture.astype(int) - frames[number]).max(axis=2) > 60
            assert (changed.mean() > 0.05) == (number in by_frame)


def test_frames_can_be_pictures_and_label_tools_get_the_frames_themselves(
    small_run: Path, clip: Path, frames: Frames, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    predict_images(small_run, [clip], out, min_score=0, max_detections=20, every=5, frames=True, label_format="coco")
    numbers = ["000000", "000005", "000010"]
    pictures = [f"clip/{number}.jpg" for number in numbers]
    assert files_in(out) == [*pictures, *(f"frames/{name}" for name in pictures), "labels.json", "predictions.json"]
    labels = json.loads((out / "labels.json").read_text())
    assert [image["file_name"] for image in labels["images"]] == pictures
    assert len(labels["annotations"]) == len(rows_of(out)) > 0
    for number, name in zip((0, 5, 10), pictures, strict=True):
        stored = read_any_image(out / "frames" / name)
        assert np.abs(stored.astype(int) - frames[number]).mean() < 12
        assert not np.array_equal(read_any_image(out / name)[: stored.shape[0], : stored.shape[1]], stored)


def test_images_and_videos_of_a_folder_get_names_of_their_own(
    small_run: Path, clip: Path, frames: Frames, tmp_path: Path
) -> None:
    folder = clip.parent
    (folder / "clip").mkdir()
    Image.fromarray(frames[0]).save(folder / "clip" / "000000.png")
    write_clip(folder / "clip.mkv", frames[:2])
    out = tmp_path / "out"
    predict_images(small_run, [folder], out, min_score=0, max_detections=20, frames=True)
    written = [f"clip_avi/{k:06d}.jpg" for k in range(11)] + [f"clip_mkv/{k:06d}.jpg" for k in range(2)]
    assert files_in(out) == ["clip/000000.jpg", *written, "predictions.json"]
    ids: dict[str, set[int]] = {}
    for row in rows_of(out):
        ids.setdefault(row["file_name"], set()).add(row["image_id"])
    assert ids["clip/000000.png"] == {1}
    assert ids["clip.avi"] <= set(range(2, 13))
    assert ids["clip.mkv"] <= {13, 14}


def test_a_damaged_video_does_not_cost_the_others(
    small_run: Path, clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = clip.parent
    (folder / "cut.avi").write_bytes(clip.read_bytes()[: clip.stat().st_size * 2 // 3])
    (folder / "none.mp4").write_bytes(b"")
    out = tmp_path / "out"
    command = ["predict", "--run", str(small_run), "--output", str(out), "--min-score", "0", "--max-detections", "20"]
    assert main([*command, str(folder)]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "cut.avi: 7 frames could be read, the file names 11" in text
    assert "'" + str(folder / "none.mp4") + "' cannot be opened as a video" in text
    assert "11 frames of clip.avi, 7 frames of cut.avi" in text
    assert files_in(out) == ["clip.mp4", "cut.mp4", "predictions.json"]
    assert {row["file_name"] for row in rows_of(out)} == {"clip.avi", "cut.avi"}
    assert main([*command, str(folder / "none.mp4")]) == 2
    assert "none of 1 input can be read" in " ".join(capsys.readouterr().err.split())


def test_every_is_checked_before_anything_is_read(small_run: Path, clip: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--every must be a whole number from 1 on, got 0"):
        predict_images(small_run, [clip], tmp_path / "out", every=0)
    with pytest.raises(InputError, match="--format 'coc' is not known"):
        predict_images(small_run, [clip], tmp_path / "out", label_format="coc")
    assert not (tmp_path / "out").exists()


def test_at_most_two_batches_of_frames_are_in_memory_and_their_order_is_kept(small_run: Path) -> None:
    model = tlvision.load(small_run).model
    made: list[weakref.ref[Any]] = []
    most = 0

    def produce() -> Iterator[tuple[Sample, Pixels]]:
        nonlocal most
        for number in range(60):
            # The size changes within a batch, as it may in a video.
            pixels = noise(1, 48, 64 if number % 20 < 13 else 80)[0]
            made.append(weakref.ref(pixels))
            most = max(most, sum(each() is not None for each in made))
            yield sample_of(number, pixels), pixels

    found = predict_frames(model.adapter, produce(), fabric=model.fabric, image_size=96)
    assert [(sample.image_id, pixels.shape[1]) for sample, pixels, _ in found] == [
        (number, 64 if number % 20 < 13 else 80) for number in range(60)
    ]
    assert 8 < most <= 17


def test_explain_still_wants_images(small_run: Path, clip: Path, tl_error: Callable[[list[str]], str]) -> None:
    text = tl_error(["explain", "--run", str(small_run), str(clip), "--output", str(clip.parent / "heat")])
    assert "is a video. Cut it into images first" in text


@pytest.fixture
def tl_error(capsys: pytest.CaptureFixture[str]) -> Callable[[list[str]], str]:
    def call(arguments: list[str]) -> str:
        assert main(arguments) == 2
        return " ".join(capsys.readouterr().err.split())

    return call
