"""Join the masks of single classes, one file for each image and class, to label maps."""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from tlvision.files.atomic import atomic_file
from tlvision.formats.image_headers import SUFFIXES, images_in
from tlvision.formats.label_maps.files import read_mask, write_label_map
from tlvision.types import IGNORE_INDEX, InputError, Pixels, counted, listing, nearest

STEM, CLASS = "{stem}", "{class}"
BACKGROUND = "background"


@dataclass(frozen=True, slots=True)
class ClassMasks:
    """Masks of single classes.

    images: by path below the image folder without suffix.
    files:  of each image by class.
    names:  the classes, in the order of their indices; the last one may be that of pixels without a class.
    """

    images: Mapping[str, Path]
    files: Mapping[str, Mapping[str, Path]]
    names: tuple[str, ...]

    @property
    def digest(self) -> str:
        """Return a hash of the masks, their classes and their images' names."""
        found = hashlib.sha256(repr(self.names).encode())
        for stem, by_class in sorted(self.files.items()):
            for name, path in sorted(by_class.items()):
                found.update(f"{stem}\0{name}\0".encode() + path.read_bytes())
        return found.hexdigest()[:12]

    def write(self, folder: Path) -> list[str]:
        """Write `folder/<stem>.png` for each image; return a note if masks overlap, where the later class wins.

        Raises InputError with the file of a mask that has another size than its image, or more than two values.
        """
        overlaps: dict[str, int] = {}
        rest = self.names.index(BACKGROUND) if BACKGROUND in self.names else IGNORE_INDEX
        for stem, image in self.images.items():
            labels, overlap = _joined(image, self.files[stem], self.names, rest)
            if overlap:
                overlaps[stem] = overlap
            path = folder / f"{stem}.png"
            if not path.exists():  # several processes of a run may write the same
                with atomic_file(path) as file:
                    write_label_map(file, labels)
        if not overlaps:
            return []
        pixels = counted(sum(overlaps.values()), "pixel")
        return [
            f"{pixels} of {counted(len(overlaps), 'image')} are in masks of two classes, and the later class of "
            f"{listing(self.names)} counts: {listing(overlaps, 3)}"
        ]


def find_class_masks(
    pattern: str, images_dir: str | Path, names: Sequence[str] | None, *, background: bool
) -> ClassMasks:
    """Find the masks of single classes.

    pattern:    path of a mask with "{class}" and "{stem}": `masks/{class}/{stem}.png`, `masks/{stem}_{class}.png`. The
                stem is the path of an image below `images_dir` without suffix. A class of an image without a file has
                no pixel there.
    names:      the classes in order; None takes all that there are, by name.
    background: whether pixels without a class get a class of their own, "background", behind the others.

    Raises InputError if nothing matches, a class is not among `names` or has no file, or an image has no mask at all.
    """
    pattern = Path(pattern).as_posix()
    if pattern.count(STEM) != 1 or pattern.count(CLASS) != 1:
        raise InputError(f"masks: '{pattern}' needs {STEM} and {CLASS} once each, such as masks/{CLASS}/{STEM}.png")
    images = {str(path.relative_to(images_dir).with_suffix("")): path for path in images_in(Path(images_dir))}
    if not images:
        raise InputError(f"the image folder '{images_dir}' holds no image ({', '.join(sorted(SUFFIXES))})")
    files: dict[str, dict[str, Path]] = defaultdict(dict)
    for stem, name, path in _matches(pattern, images):
        files[stem][name] = path
    found = sorted({name for by_class in files.values() for name in by_class})
    if not found:
        raise InputError(f"masks: no file matches '{pattern}' for an image of {images_dir}")
    _check_names(pattern, found, names)
    if without := [stem for stem in images if stem not in files]:
        raise InputError(
            f"masks: {counted(len(without), 'image')} without a mask of any class at '{pattern}': {listing(without)}; "
            "write an empty mask of one class, or take the image out"
        )
    known = tuple(names or found)
    if background and BACKGROUND not in known:
        known = (*known, BACKGROUND)
    return ClassMasks(images, files, known)


def _check_names(pattern: str, found: Sequence[str], names: Sequence[str] | None) -> None:
    if names is None:
        return
    for name in names:
        if name not in found and name != BACKGROUND:
            raise InputError(f"data.classes: no mask of the class '{name}' at '{pattern}'.{nearest(name, found)}")
    if extra := [name for name in found if name not in names]:
        raise InputError(
            f"data.classes: '{pattern}' has masks of {listing(extra)}, which is not among the classes "
            f"{listing(names)}. Add it, or leave it out with data.classes.drop"
        )


def _matches(pattern: str, images: Mapping[str, Path]) -> Iterator[tuple[str, str, Path]]:
    """Yield (stem, class, file) of each file that the pattern means; of two readings, that of the longest stem."""
    root = Path(pattern.split("{", 1)[0] + "x").parent
    escaped = re.escape(pattern).replace(re.escape(STEM), "(?P<stem>.+)").replace(re.escape(CLASS), "(?P<name>[^/]+)")
    expression = re.compile(escaped)
    for path in sorted(root.rglob("*")):
        match = expression.fullmatch(path.as_posix())
        if match is None or not path.is_file():
            continue
        stem, name = match["stem"], match["name"]
        if stem not in images:  # `{stem}_{class}` of a_left_crack: the stem may be a, and the class left_crack
            stem, name = next(_readings(path.as_posix(), pattern, images), (stem, name))
        if stem in images:
            yield stem, name, path


def _readings(path: str, pattern: str, images: Mapping[str, Path]) -> Iterator[tuple[str, str]]:
    for stem in sorted(images, key=len, reverse=True):
        start, _, end = pattern.replace(STEM, stem).partition(CLASS)
        name = path[len(start) : len(path) - len(end)]
        if path == f"{start}{name}{end}" and name and "/" not in name:
            yield stem, name


def _joined(image: Path, files: Mapping[str, Path], names: Sequence[str], rest: int) -> tuple[Pixels, int]:
    """Return the label map of an image, and how many pixels are in masks of two classes."""
    with Image.open(image) as picture:
        sizes = {picture.size, picture.size[::-1]}  # as stored, or turned by EXIF
    labels: Pixels | None = None
    overlap = 0
    for index, name in enumerate(names):
        if name not in files:
            continue
        inside = _inside(files[name])
        if inside.shape[::-1] not in sizes or (labels is not None and labels.shape != inside.shape):
            raise InputError(f"{files[name]}: the mask is {inside.shape[1]} x {inside.shape[0]}, unlike '{image}'")
        if labels is None:
            labels = np.full(inside.shape, rest, np.uint8)
        overlap += int((labels[inside] != rest).sum())
        labels[inside] = index
    assert labels is not None
    return labels, overlap


def _inside(path: Path) -> npt.NDArray[np.bool_]:
    """Return where a mask is not 0."""
    values = read_mask(path)
    if len(found := np.flatnonzero(np.bincount(values.ravel()))) > 2 or (len(found) == 2 and found[0] != 0):
        raise InputError(
            f"{path}: the mask of one class has the values {listing(found.tolist())}; expected 0, and one value "
            "for the class"
        )
    inside: npt.NDArray[np.bool_] = values > 0
    return inside
