"""What every format of label tools is read into: images, and objects with a class name, a box and an outline."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from tlvision.files.inputs import check_folder, check_inside
from tlvision.formats.image_headers import Header, images_in, read_header
from tlvision.types import ClassMap, InputError, counted, listing
from tlvision.types.shown import clip

_LONGEST_NAME = 4096

Box = tuple[float, float, float, float]
Outline = tuple[float, ...]
"""x0, y0, x1, y1 … of the corners, pixels."""


@dataclass(frozen=True, slots=True)
class Shape:
    """One object, in pixels of the image as it is shown (after its EXIF rotation).

    box:      x0, y0, x1, y1. outlines: polygons of the object; empty if there is a box alone.
    rle:      a mask in COCO's run lengths, instead of outlines.
    crowd:    neither learned nor counted: a group, or "difficult".
    """

    label: str
    box: Box
    outlines: tuple[Outline, ...] = ()
    rle: Mapping[str, Any] | None = None
    crowd: bool = False


@dataclass(frozen=True, slots=True)
class Picture:
    """One image: its name relative to the folder of images, its size as it is shown, its objects.

    source: the file, if it is not `file` in the folder of images.
    """

    file: str
    width: int
    height: int
    shapes: tuple[Shape, ...]
    source: Path | None = None


@dataclass(frozen=True, slots=True)
class Labels:
    """Labels of one part of a dataset.

    kind:     name of the format. images: folder that file names are relative to.
    classes:  names, in the order of the format, or by name where it has none.
    notes:    what was left out or changed, one sentence each.
    """

    kind: str
    images: Path
    classes: tuple[str, ...]
    pictures: tuple[Picture, ...]
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Raise InputError for class names that a dataset cannot have."""
        try:
            ClassMap.from_names(self.classes)
        except InputError as error:
            raise InputError(f"{self.images}: {error}") from None

    @property
    def objects(self) -> int:
        """Return the number of objects."""
        return sum(len(picture.shapes) for picture in self.pictures)

    def summary(self) -> str:
        """Return in words what was found."""
        empty = sum(not picture.shapes for picture in self.pictures)
        parts = [counted(len(self.pictures), "image"), counted(self.objects, "object"), f"{len(self.classes)} classes"]
        if empty:
            parts.append(f"{counted(empty, 'image')} without objects")
        return f"{self.kind}: {', '.join(parts)}"


class ImageIndex:
    """The images of a folder, found by the names that label tools give them."""

    def __init__(self, folder: Path) -> None:
        check_folder(folder, "the image folder", ". Give it with --images.")
        self.folder = folder
        self.files = {path.relative_to(folder).as_posix(): path for path in images_in(folder)}
        check_inside(folder, list(self.files.values()), str(folder))
        self._by_name: dict[str, list[str]] = {}
        self._by_stem: dict[str, list[str]] = {}
        for name in self.files:
            self._by_name.setdefault(PurePosixPath(name).name, []).append(name)
            self._by_stem.setdefault(PurePosixPath(name).stem, []).append(name)

    def find(self, name: str, where: str, *, stem: bool = False) -> str:
        """Return the name of an image relative to the folder.

        name:  as the tool has it: with backslashes, folders of another machine, or a URL; the longest end of it that is
               in the folder counts. stem: the name may lack its suffix.
        where: for messages.

        Raises InputError if there is none, or two that it may mean.
        """
        if len(name) > _LONGEST_NAME:
            raise InputError(f"{where}: the name of an image has {len(name):,} characters: '{clip(name)}'")
        parts = [part for part in name.replace("\\", "/").split("/") if part not in ("", ".", "..")]
        for first in range(len(parts)):
            if "/".join(parts[first:]) in self.files:
                return "/".join(parts[first:])
        last = parts[-1] if parts else ""
        found = self._by_name.get(last, []) or (self._by_stem.get(last, []) if stem else [])
        if len(found) > 1:
            raise InputError(f"{where}: image '{name}' may be {listing(found, 3)}; rename one of them")
        if not found:
            raise InputError(
                f"{where}: image '{clip(name, 200)}' is not in '{self.folder}'. Give the folder with --images."
            )
        return found[0]

    def header(self, file: str) -> Header:
        """Return the header of an image."""
        return read_header(self.files[file])


def has_text(path: Path, text: str, most: int = 65_536) -> bool:
    """Return whether a text is in the beginning of a file; False for a pipe, or what cannot be read."""
    if not path.is_file():  # opening a pipe would wait for ever
        return False
    try:
        with path.open("rb") as file:
            return text.encode() in file.read(most)
    except OSError:
        return False


class LeftOut:
    """Counts what is left out, by reason, for one sentence each."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._examples: dict[str, list[str]] = {}

    def add(self, reason: str, where: str) -> None:
        """Count one."""
        self._counts[reason] += 1
        self._examples.setdefault(reason, []).append(where)

    def notes(self) -> tuple[str, ...]:
        """Return the sentences."""
        return tuple(
            f"{count} {reason}: {listing(self._examples[reason], 3)}" for reason, count in self._counts.items()
        )


def bounds(outlines: Iterable[Sequence[float]]) -> Box:
    """Return the box around polygons.

    >>> bounds([(1.0, 2.0, 5.0, 2.0, 3.0, 9.0)])
    (1.0, 2.0, 5.0, 9.0)
    """
    xs = [x for outline in outlines for x in outline[::2]]
    ys = [y for outline in outlines for y in outline[1::2]]
    return min(xs), min(ys), max(xs), max(ys)


def names_of(pictures: Iterable[Picture]) -> tuple[str, ...]:
    """Return the class names that occur, by name."""
    return tuple(sorted({shape.label for picture in pictures for shape in picture.shapes}))


def check_size(header: Header, declared: tuple[int, int], where: str) -> tuple[int, int]:
    """Return the size of an image as it is shown; InputError if the labels are of another size.

    declared: width and height that the labels say; 0 if they do not.
    """
    shown, (width, height) = header.rotated_size, declared
    said = f"{clip(str(width))} x {clip(str(height))}"
    if width and height and (width, height) not in (shown, (header.width, header.height)):
        raise InputError(
            f"{where}: the labels are of an image of {said} pixels, the file has {shown[0]} x {shown[1]}; "
            "label that file, or give the one that was labelled"
        )
    return (width, height) if width and height else shown
