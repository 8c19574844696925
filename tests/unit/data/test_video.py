"""Videos are read as they are, frame by frame, and damaged ones are named; what is written has every picture."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from clips import noise, read_clip, write_clip
from tlvision.data.video import ASSUMED_FPS, VideoReader, VideoWriter
from tlvision.types import InputError, RunError, VideoFrame


def damaged(path: Path, kind: str) -> Path:
    """Write a video that cannot be read in the given way."""
    if kind == "empty":
        path.write_bytes(b"")
    elif kind == "text":
        path.write_text("no video" * 100)
    elif kind == "cut mp4":  # the list of its frames is at the end
        content = write_clip(path, noise(5), codec="mp4v").read_bytes()
        path.write_bytes(content[: len(content) // 2])
    elif kind == "codec":
        path.write_bytes(write_clip(path, noise(5)).read_bytes().replace(b"FFV1", b"zzzz"))
    elif kind == "no frames":
        with_frames = write_clip(path, noise(5)).read_bytes()
        path.write_bytes(with_frames[: with_frames.find(b"movi") + 60])
    return path


@pytest.mark.parametrize("every", [1, 3])
def test_frames_are_those_of_the_file(every: int, tmp_path: Path) -> None:
    frames = noise(7)
    with VideoReader(write_clip(tmp_path / "a.avi", frames, fps=4)) as video:
        assert (video.fps, video.has_fps, video.num_frames) == (4, True, 7)
        found = list(video.frames(every))
        assert (video.num_read, video.notes()) == (7, [])
    assert [place for place, _ in found] == [VideoFrame(k, k / 4) for k in range(0, 7, every)]
    for (place, pixels), shown in zip(found, frames[::every], strict=True):
        assert np.array_equal(pixels, shown), place


def test_times_are_those_of_the_file_where_the_rate_varies(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mkv", noise(6), fps=10)
    content = bytearray(path.read_bytes())
    for old, new in ((300, 420), (400, 560), (500, 900)):  # milliseconds, behind the number of the track
        block = b"\x81" + old.to_bytes(2, "big")
        assert content.count(block) == 1
        place = content.find(block)
        content[place + 1 : place + 3] = new.to_bytes(2, "big")
    path.write_bytes(content)
    with VideoReader(path) as video:
        assert [place.time for place, _ in video.frames()] == [0, 0.1, 0.2, 0.42, 0.56, 0.9]


def test_a_rotation_is_applied(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", noise(2), codec="mp4v")
    upright = read_clip(path)[0][0]
    content = bytearray(path.read_bytes())
    matrix = content.find(b"tkhd") + 44  # of the box of the track, version 0
    assert struct.unpack(">i", content[matrix : matrix + 4])[0] == 1 << 16
    content[matrix : matrix + 36] = struct.pack(">9i", 0, 1 << 16, 0, -1 << 16, 0, 0, 0, 0, 1 << 30)
    path.write_bytes(content)
    with VideoReader(path) as video:
        _, pixels = next(video.frames())
    assert np.array_equal(pixels, np.rot90(upright, -1))


@pytest.mark.parametrize("kind", ["empty", "text", "cut mp4", "codec", "no frames"])
def test_what_is_no_video_is_named_with_the_way_out(
    kind: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = damaged(tmp_path / ("a.mp4" if kind == "cut mp4" else "a.avi"), kind)
    words = "has no frame that can be read" if kind == "no frames" else "cannot be opened as a video"
    with pytest.raises(InputError, match=rf"{words}.*ffmpeg -i {path.name}"), VideoReader(path) as video:
        list(video.frames())
    assert "VIDEOIO" not in capfd.readouterr().err


def test_a_cut_video_is_read_up_to_there_and_named(tmp_path: Path) -> None:
    frames = noise(20)
    path = write_clip(tmp_path / "a.avi", frames)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with VideoReader(path) as video:
        found = list(video.frames())
        (note,) = video.notes()
    assert 5 < len(found) < 15
    assert all(np.array_equal(pixels, frames[place.number]) for place, pixels in found)
    assert note.startswith(f"a.avi: {len(found)} frames could be read, the file names 20")


def test_a_video_without_a_frame_rate_gets_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_clip(tmp_path / "a.avi", noise(3))
    with VideoReader(path) as video:
        monkeypatch.setattr(video, "has_fps", False)
        assert "the file has no frame rate; 25 frames per second are assumed" in video.notes()[0]
    assert ASSUMED_FPS == 25


@pytest.mark.parametrize("size", [(48, 64), (65, 97)])
@pytest.mark.parametrize("fps", [5, 30000 / 1001, 0.1])
def test_the_video_has_every_picture_at_its_size_and_rate(size: tuple[int, int], fps: float, tmp_path: Path) -> None:
    pictures = [np.full((*size, 3), (200, 20 * k, 50), np.uint8) for k in range(6)]
    with VideoWriter(tmp_path / "sub" / "a.mp4", fps) as writer:
        for picture in pictures:
            writer.write(picture)
        writer.write(np.zeros((20, 30, 3), np.uint8))
    frames, rate = read_clip(tmp_path / "sub" / "a.mp4")
    assert (len(frames), rate) == (7, pytest.approx(fps, rel=1e-3))
    height, width = (side // 2 * 2 for side in size)
    assert {frame.shape for frame in frames} == {(height, width, 3)}
    for frame, picture in zip(frames, pictures, strict=False):
        assert (
            np.abs(frame.astype(int) - picture[:height, :width]).max() < 12
        )  # lossy; exchanged channels differ by 150


def test_a_video_that_lacks_pictures_is_an_error(tmp_path: Path) -> None:
    writer = VideoWriter(tmp_path / "a.mp4", 5)
    writer.write(noise(1)[0])
    writer.num_written += 1  # as when the disk is full, which OpenCV does not tell
    with pytest.raises(RunError, match=r"a.mp4' has 1 of 2 frames.*Free some"), writer:
        pass
    with pytest.raises(RunError, match="cannot be written as a video"), VideoWriter(tmp_path, 5) as writer:
        writer.write(noise(1)[0])
    with VideoWriter(tmp_path / "none.mp4", 5):
        pass
    assert not (tmp_path / "none.mp4").exists()
