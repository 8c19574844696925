"""Read and write YOLO text labels: a `data.yaml`, or a folder with `classes.txt` or `obj.names`."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from tlvision.files.inputs import check_inside, path_problem, read_text
from tlvision.formats.exchange.labelled import (
    Box,
    ImageIndex,
    Labels,
    LeftOut,
    Outline,
    Picture,
    Shape,
    bounds,
    has_text,
)
from tlvision.types import InputError, counted
from tlvision.types.shown import clip, shown

KIND = "YOLO txt"
SPLITS = ("train", "val", "valid", "test")
_NAMES = ("classes.txt", "obj.names")
_MOST_BYTES = 16 << 20
_SLACK = 0.01


def find_yaml(folder: Path) -> Path | None:
    """Return the `data.yaml` of a folder, None if it has none."""
    found = [path for path in sorted(folder.glob("*.y*ml")) if has_text(path, "names:")]
    return found[0] if found else None


def find_names(folder: Path) -> Path | None:
    """Return the list of class names of a folder, None if it has none."""
    return next((folder / name for name in _NAMES if (folder / name).is_file()), None)


def read_data_yaml(path: Path) -> dict[str, Labels]:
    """Return the parts of a dataset by name: train, val and so on.

    Images are where `path`, `train`, `val` and `test` say, relative to the file; `../` in front, which Roboflow writes,
    may be too much. Labels are in `labels` instead of `images`, else beside the images.

    Raises InputError that names file and line.
    """
    try:
        content = yaml.safe_load(read_text(path, "a data.yaml", max_bytes=1 << 20))
    except RecursionError:
        raise InputError(f"{path}: nested too deeply, so not a data.yaml") from None
    except (yaml.YAMLError, ValueError, TypeError, OverflowError) as error:  # PyYAML fails on odd dates and numbers
        raise InputError(f"{path}: not YAML ({' '.join(str(error).split())[:200]})") from None
    if not isinstance(content, Mapping) or "names" not in content:
        raise InputError(f"{path}: expected 'names', the class names, beside train and val")
    if "kpt_shape" in content:
        raise InputError(f"{path}: labels of key points (kpt_shape) are not supported; export boxes or polygons")
    classes = _classes(path, content["names"])
    parts = {}
    for split in SPLITS:
        if content.get(split):
            folders = content[split] if isinstance(content[split], list) else [content[split]]
            if len(folders) != 1:
                raise InputError(f"{path}: {split} names {len(folders)} folders; put the images under one")
            root = content.get("path") or "."
            for key, value in ((split, folders[0]), ("path", root)):
                if not isinstance(value, str) or path_problem(value):
                    raise InputError(f"{path}: {key}: expected a folder, got {shown(value)}")
            parts[split] = _read_part(_locate(path, root, folders[0], split), classes)
    if not parts:
        raise InputError(f"{path}: none of {', '.join(SPLITS)} is given")
    return parts


def read_names_folder(folder: Path, images: Path | None) -> dict[str, Labels]:
    """Return the labels of a folder with a list of class names, and images and labels beside or below it."""
    names = find_names(folder)
    assert names is not None
    classes = tuple(line.strip() for line in read_text(names, "class names").splitlines() if line.strip())
    if not classes:
        raise InputError(f"{names}: expected class names, one a line, got an empty file")
    return {"all": _read_part(images or folder, classes, labels=None if images is None else folder)}


def _classes(path: Path, names: Any) -> tuple[str, ...]:
    if isinstance(names, Mapping):
        if {*names} != {*range(len(names))}:
            given = shown(sorted(map(str, names)))
            raise InputError(f"{path}: names: expected the numbers 0 to {len(names) - 1}, got {given}")
        names = [names[number] for number in range(len(names))]
    if not isinstance(names, list) or not names:
        raise InputError(f"{path}: names: expected a list of class names")
    if wrong := [name for name in names if not isinstance(name, str | int | float)]:
        raise InputError(f"{path}: names: expected a list of class names, got {shown(wrong[0])} in it")
    found = tuple(str(name) for name in names)
    if twice := [name for name, count in Counter(found).items() if count > 1]:
        raise InputError(f"{path}: names: {shown(twice[0])} is given twice; rename one")
    return found


def _locate(path: Path, root: str, given: str, split: str) -> Path:
    """Return the folder of the images of a part."""
    text = given.replace("\\", "/")
    short = text
    while short.startswith("../"):
        short = short[3:]
    bases = dict.fromkeys((path.parent / root, path.parent))
    tried = [base / name for base in bases for name in dict.fromkeys((text, short))]
    for candidate in tried:
        if candidate.is_dir():
            return candidate / "images" if (candidate / "images").is_dir() else candidate
        if candidate.is_file():
            raise InputError(f"{path}: {split}: lists of images ({candidate.name}) are not supported; give a folder")
    raise InputError(f"{path}: {split}: there is no folder '{tried[0]}'")


def _read_part(images: Path, classes: tuple[str, ...], labels: Path | None = None) -> Labels:
    index, left_out = ImageIndex(images), LeftOut()
    if not index.files:
        raise InputError(f"'{images}' has no image")
    folder = labels or _labels_folder(images)
    texts = sorted(folder.rglob("*.txt"))
    check_inside(folder, texts, str(folder))
    known = {path.relative_to(folder).with_suffix("").as_posix(): path for path in texts}
    for name in (*_NAMES, "train.txt"):
        known.pop(Path(name).stem, None)
    pictures, without = [], 0
    stems: dict[str, str] = {}
    for file in index.files:
        stem = PurePosixPath(file).with_suffix("").as_posix()
        if stem in stems:
            raise InputError(f"'{images}': {stems[stem]} and {file} have one label file, {stem}.txt; rename one")
        stems[stem] = file
        width, height = index.header(file).rotated_size
        path = known.pop(stem, None)
        without += path is None
        shapes = () if path is None else _read_file(path, classes, width, height)
        pictures.append(Picture(file, width, height, shapes))
    for path in known.values():
        left_out.add(f"label files without an image in '{images}'", path.name)
    if without == len(pictures):
        raise InputError(f"'{folder}' has no label file for any of {counted(len(pictures), 'image')} in '{images}'")
    notes = list(left_out.notes())
    if without:
        notes.append(f"{counted(without, 'image')} without a label file: without objects, as YOLO's trainers read it")
    return Labels(KIND, images, classes, tuple(pictures), tuple(notes))


def _labels_folder(images: Path) -> Path:
    """Return the folder of labels: the path with the last `images` replaced by `labels`, else the images' own."""
    parts = list(images.parts)
    for place in range(len(parts) - 1, -1, -1):
        if parts[place] == "images":
            candidate = Path(*parts[:place], "labels", *parts[place + 1 :])
            return candidate if candidate.is_dir() else images
    return images


def _read_file(path: Path, classes: tuple[str, ...], width: int, height: int) -> tuple[Shape, ...]:
    shapes = []
    for number, line in enumerate(read_text(path, "YOLO labels", max_bytes=_MOST_BYTES).splitlines(), start=1):
        if line.strip():
            shapes.append(_read_line(f"{path.name}, line {number}", line.split(), classes, width, height))
    return tuple(shapes)


def _read_line(where: str, words: Sequence[str], classes: tuple[str, ...], width: int, height: int) -> Shape:
    try:
        first, values = float(words[0]), [float(word) for word in words[1:]]
    except ValueError:
        raise InputError(f"{where}: expected numbers, got '{' '.join(words)[:60]}'") from None
    if not (0 <= first < len(classes) and first == int(first)):  # nan as well
        raise InputError(
            f"{where}: class {clip(words[0])}, but there are {len(classes)} classes, 0 to {len(classes) - 1}"
        )
    if len(values) != 4 and (len(values) < 6 or len(values) % 2):
        raise InputError(
            f"{where}: {len(values)} numbers after the class; a box has 4 (centre, width, height), a polygon 6 or more "
            "in pairs"
        )
    wrong = next((value for value in values if not -_SLACK <= value <= 1 + _SLACK), None)  # nan as well
    if wrong is not None:
        raise InputError(f"{where}: {wrong:g} is not from 0 to 1; YOLO labels are parts of width and height")
    label = classes[int(first)]
    if len(values) == 4:
        x, y, w, h = values
        return Shape(label, ((x - w / 2) * width, (y - h / 2) * height, (x + w / 2) * width, (y + h / 2) * height))
    outline = tuple(value * (height if place % 2 else width) for place, value in enumerate(values))
    return Shape(label, bounds([outline]), (outline,))


def write_yolo(parts: Mapping[str, Labels], out: Path) -> list[str]:
    """Write images, labels and data.yaml into a folder, and return notes on what YOLO's format cannot say.

    Images are hard links where the file system allows, else copies. Polygons are written if every object has exactly
    one, else boxes. Crowd regions are left out.
    """
    classes = next(iter(parts.values())).classes
    notes: list[str] = []
    shapes = [shape for part in parts.values() for picture in part.pictures for shape in picture.shapes]
    kept = [shape for shape in shapes if not shape.crowd]
    polygons = bool(kept) and all(len(shape.outlines) == 1 for shape in kept)
    if not polygons and (outlined := sum(bool(shape.outlines or shape.rle) for shape in kept)):
        notes.append(f"boxes alone: {outlined} of {counted(len(kept), 'object')} have outlines; all need exactly one")
    if crowd := len(shapes) - len(kept):
        notes.append(f"{counted(crowd, 'crowd region')} left out, which YOLO's format cannot say")
    named = {"train" if name == "all" else name: part for name, part in parts.items()}
    for split, part in named.items():
        for picture in part.pictures:
            image = out / "images" / split / picture.file
            image.parent.mkdir(parents=True, exist_ok=True)
            _link(part.images / picture.file, image)
            label = (out / "labels" / split / picture.file).with_suffix(".txt")
            label.parent.mkdir(parents=True, exist_ok=True)
            lines = [_line(shape, picture, classes, polygons) for shape in picture.shapes if not shape.crowd]
            label.write_text("".join(lines), encoding="ascii")
    content = {split: f"images/{split}" for split in named}
    values = {"path": ".", **content, "names": dict(enumerate(classes))}
    text = yaml.safe_dump(values, sort_keys=False, allow_unicode=True)
    (out / "data.yaml").write_text(text, encoding="utf-8")
    return notes


def _line(shape: Shape, picture: Picture, classes: tuple[str, ...], polygons: bool) -> str:
    """Return a line, with as many digits as make the same floats again."""
    values: Outline | Box
    if polygons:
        values = shape.outlines[0]
    else:
        x0, y0, x1, y1 = shape.box
        values = ((x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0)
    parts = [value / (picture.height if place % 2 else picture.width) for place, value in enumerate(values)]
    return f"{classes.index(shape.label)} {' '.join(repr(part) for part in parts)}\n"


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source.resolve(), target)
    except OSError:
        shutil.copyfile(source, target)
