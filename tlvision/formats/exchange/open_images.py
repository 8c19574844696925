"""Read Open Images' csv of boxes."""

from __future__ import annotations

import csv
import io
import math
from pathlib import Path

from tlvision.files.inputs import read_text
from tlvision.formats.exchange.labelled import ImageIndex, Labels, LeftOut, Picture, Shape, names_of
from tlvision.types import InputError, counted

KIND = "Open Images csv"
_COLUMNS = ("ImageID", "LabelName", "XMin", "XMax", "YMin", "YMax")
_DESCRIPTIONS = ("class-descriptions-boxable.csv", "class-descriptions.csv", "oidv7-class-descriptions-boxable.csv")
_MOST_BYTES = 1 << 30


def read_open_images(path: Path, images: Path | None = None) -> dict[str, Labels]:
    """Return the labels of a csv file, of the images that are there.

    images: default the folder `images` beside it, else its own folder.

    Class names are those of a file of class descriptions beside it, if there is one. Boxes of groups are crowd regions.
    """
    text = read_text(path, "a csv file of Open Images", max_bytes=_MOST_BYTES)
    try:
        rows = list(csv.DictReader(io.StringIO(text)))
    except csv.Error as error:  # a field of more than 131,072 characters
        raise InputError(f"{path.name}: no csv file that can be read ({error}); write it again") from None
    missing = [key for key in _COLUMNS if not rows or key not in rows[0]]
    if missing:
        raise InputError(f"{path.name}: expected the columns {', '.join(_COLUMNS)}; {', '.join(missing)} is missing")
    beside = path.parent / "images"
    index, left_out = ImageIndex(images or (beside if beside.is_dir() else path.parent)), LeftOut()
    names = _descriptions(path.parent)
    shapes: dict[str, list[Shape]] = {}
    files: dict[str, str | None] = {}
    for number, row in enumerate(rows, start=2):
        where = f"{path.name}, line {number}"
        key = row["ImageID"] or ""
        if key not in files:
            try:
                files[key] = index.find(key, where, stem=True)
            except InputError:
                files[key] = None
        file = files[key]
        if file is None:
            left_out.add("boxes of images that are not there", key)
            continue
        shapes.setdefault(file, []).append(_shape(row, where, index.header(file).rotated_size, names))
    if not shapes:
        raise InputError(f"{path.name}: none of its images is in '{index.folder}'. Give the folder with --images.")
    for file in sorted(index.files.keys() - shapes.keys()):
        left_out.add("images without a row, which may have objects", file)
    pictures = tuple(
        Picture(file, *index.header(file).rotated_size, tuple(found)) for file, found in sorted(shapes.items())
    )
    notes = [*left_out.notes()]
    if groups := sum(shape.crowd for picture in pictures for shape in picture.shapes):
        notes.append(f"{counted(groups, 'box', 'boxes')} of groups: crowd regions, neither learned nor counted")
    return {"all": Labels(KIND, index.folder, names_of(pictures), pictures, tuple(notes))}


def _descriptions(folder: Path) -> dict[str, str]:
    for name in _DESCRIPTIONS:
        if (folder / name).is_file():
            rows = csv.reader(io.StringIO(read_text(folder / name, "class descriptions", max_bytes=_MOST_BYTES)))
            try:
                return {row[0]: row[1] for row in rows if len(row) == 2}
            except csv.Error as error:
                raise InputError(f"{name}: no csv file that can be read ({error}); write it again") from None
    return {}


def _shape(row: dict[str, str], where: str, size: tuple[int, int], names: dict[str, str]) -> Shape:
    try:
        values = [float(row[key]) for key in ("XMin", "YMin", "XMax", "YMax")]
    except (TypeError, ValueError):
        values = [math.nan]
    if not all(0 <= value <= 1 for value in values):
        raise InputError(f"{where}: expected XMin, YMin, XMax and YMax from 0 to 1")
    x0, y0, x1, y1 = (value * size[place % 2] for place, value in enumerate(values))
    label = names.get(row["LabelName"], row["LabelName"])
    if not label:
        raise InputError(f"{where}: LabelName is empty")
    return Shape(label, (x0, y0, x1, y1), crowd=row.get("IsGroupOf") == "1")
