"""Predict on the frames of a video: a video with the objects drawn, or a picture of each frame."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from rich.progress import track

from tlvision.data.images import write_image
from tlvision.data.video import VideoReader, VideoWriter
from tlvision.engine.prediction_folder import PredictionFolder
from tlvision.engine.predictor import Predictor
from tlvision.files.names import unique_stems
from tlvision.report import draw_prediction
from tlvision.terminal import console
from tlvision.types import Pixels, Prediction, Sample, empty_target


@dataclass(frozen=True, slots=True)
class VideoOptions:
    """Options for the frames of videos.

    every:    1 takes each frame, 2 every other one, and so on, from the first.
    pictures: whether to write a picture of each frame instead of a video.
    """

    every: int = 1
    pictures: bool = False


@dataclass(frozen=True, slots=True)
class VideoResult:
    """Results of one video. file: the video or folder written. num_frames: predicted. notes: oddities of the file."""

    file: Path
    num_frames: int
    notes: list[str]


def predict_video(
    model: Predictor,
    path: Path,
    output: PredictionFolder,
    options: VideoOptions,
    *,
    name: str,
    stem: str,
    first_id: int,
) -> VideoResult:
    """Predict on a video, frame by frame, and write <stem>.mp4 or <stem>/<number>.jpg into the output folder.

    name:     of the video in predictions.json. stem: name of its files.
    first_id: image id of the first frame.

    Memory holds two batches of frames at most. If labels are asked for, the frames are also written as they are, to
    frames/<stem>/<number>.jpg. Raises InputError if the video has no frame that can be read.
    """
    target = output.folder / (stem if options.pictures else f"{stem}.mp4")
    count = 0
    with VideoReader(path) as video:
        writer = nullcontext() if options.pictures else VideoWriter(target, video.fps / options.every)
        with writer as annotated:
            for sample, pixels, found in _predictions(model, video, options.every, first_id, output.least):
                assert sample.frame is not None
                frame = f"{stem}/{sample.frame.number:06d}"
                label_file = None
                if output.labels is not None:
                    label_file = f"{frame}.jpg", output.frames / f"{frame}.jpg"
                    write_image(label_file[1], pixels)
                counting = output.add(sample, found, name=name, stem=frame, label_file=label_file)
                picture = draw_prediction(
                    pixels, counting, model.classes.names, min_score=0, same_size=not options.pictures
                )
                if annotated is None:
                    write_image(output.folder / f"{frame}.jpg", picture)
                else:
                    annotated.write(picture)
                count += 1
        return VideoResult(target, count, video.notes())


def _predictions(
    model: Predictor, video: VideoReader, every: int, first_id: int, least: float
) -> Iterator[tuple[Sample, Pixels, Prediction]]:
    """Yield the frames with their predictions, and show how far it is."""
    found = model.predict_frames(_samples(video, every, first_id), least=least)
    total = math.ceil(video.num_frames / every) or None
    yield from track(found, total=total, description=f"predicting {video.path.name}", console=console())


def _samples(video: VideoReader, every: int, first_id: int) -> Iterator[tuple[Sample, Pixels]]:
    for image_id, (frame, pixels) in enumerate(video.frames(every), start=first_id):
        height, width = pixels.shape[:2]
        sample = Sample(
            image_id=image_id,
            path=video.path,
            width=width,
            height=height,
            exif=False,
            target=empty_target(),
            segments=(),
            frame=frame,
        )
        yield sample, pixels


def video_stems(videos: list[str], images: list[str]) -> list[str]:
    """Return the names without suffix of the files of videos, which differ from each other and the folders of images.

    videos, images: their names, relative to one folder.

    >>> video_stems(["clip.mp4", "clip.avi", "day/a.mp4", "b.mp4"], ["day/a/000001.png"])
    ['clip_mp4', 'clip_avi', 'day/a_mp4', 'b']
    """
    folders = {parent.as_posix() for name in images for parent in PurePosixPath(name).parents}
    taken = [f"{folder}.folder" for folder in sorted(folders)]  # its suffix is cut off again
    return unique_stems([*taken, *videos])[len(taken) :]
