"""Find what `tlvision predict` predicts, and name the files that it writes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tlvision.data.video import VideoReader
from tlvision.engine.predict_video import video_stems
from tlvision.engine.sources import Inputs, is_address
from tlvision.files.names import common_folder, relative_names, unique_stems
from tlvision.formats.coco import read_readable
from tlvision.types import InputError, Sample

Problem = tuple[str | Path, InputError]
"""A file or address, and the reason why there is no prediction for it."""


@dataclass(frozen=True, slots=True)
class PredictionPlan:
    """Images and videos that can be read, with names for their files.

    samples:  the images. names, stems: of all images, readable or not, by image id - 1, relative to the folder that
              holds all inputs; stems have no suffix, and are unique.
    videos:   the files. video_names, video_stems: the same for them.
    frames, downloads: names of folders for the frames and downloads themselves, which no picture goes to.
    notes:    on skipped files. problems: images and videos that cannot be read.
    """

    samples: Sequence[Sample]
    names: list[str]
    stems: list[str]
    videos: list[Path]
    video_names: list[str]
    video_stems: list[str]
    frames: str
    downloads: str
    notes: list[str]
    problems: list[Problem]


def make_plan(inputs: Inputs, downloads: Sequence[Path], download_folder: Path, *, bits: int | None) -> PredictionPlan:
    """Read the headers of all images and videos, and name everything.

    downloads: images below `download_folder`, named relative to it.
    bits:      as for `read_readable`.
    """
    above = common_folder([*inputs.images, *inputs.videos])
    names = [*relative_names(inputs.images, above), *relative_names(downloads, download_folder)]
    samples, problems, notes = read_readable([*inputs.images, *downloads], bits=bits)
    stems = unique_stems(names)
    videos, unreadable = _readable_videos(inputs.videos)
    video_names = relative_names(videos, above)
    below = video_stems(video_names, names)
    return PredictionPlan(
        samples=samples,
        names=names,
        stems=stems,
        videos=videos,
        video_names=video_names,
        video_stems=below,
        frames=_unused("frames", [*stems, *below]),
        downloads=_unused("downloads", [*stems, *below]),
        notes=[*inputs.notes, *notes],
        problems=[*problems, *unreadable],
    )


def _readable_videos(paths: Sequence[Path]) -> tuple[list[Path], list[Problem]]:
    """Return the videos that can be opened, and the others with the reason."""
    videos: list[Path] = []
    problems: list[Problem] = []
    for path in paths:
        try:
            with VideoReader(path):
                videos.append(path)
        except InputError as error:
            problems.append((path, error))
    return videos, problems


def _unused(name: str, stems: Sequence[str]) -> str:
    """Return the name, with "_" in front as often as it takes until it begins no stem."""
    taken = {stem.partition("/")[0].casefold() for stem in stems}
    while name in taken:
        name = f"_{name}"
    return name


def split_addresses(given: Sequence[str | Path], *, allow_download: bool) -> tuple[list[str], list[str | Path]]:
    """Return the addresses among `given`, each once, and the rest; InputError for an address that is not allowed."""
    addresses = [str(item) for item in given if is_address(item)]
    if addresses and not allow_download:
        raise InputError(
            f"predict: '{addresses[0]}' is an address. Set --allow-download to download it, or give the path of a file"
        )
    return list(dict.fromkeys(addresses)), [item for item in given if not is_address(item)]
