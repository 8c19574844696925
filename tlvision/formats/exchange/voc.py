"""Read Pascal VOC: a folder of xml files, one an image."""

from __future__ import annotations

from pathlib import Path
from xml.etree.ElementTree import Element

from tlvision.files.inputs import check_inside
from tlvision.formats.exchange.labelled import (
    ImageIndex,
    Labels,
    LeftOut,
    Picture,
    Shape,
    check_size,
    has_text,
    names_of,
)
from tlvision.formats.exchange.xml_text import number, parse_xml, text_of
from tlvision.types import InputError, counted

KIND = "Pascal VOC"


def find_annotations(folder: Path) -> Path | None:
    """Return the folder of the xml files of a dataset, None if it has none."""
    for candidate in (folder / "Annotations", folder):
        first = next(iter(sorted(candidate.glob("*.xml"))), None)
        if first is not None and has_text(first, "<annotation"):
            return candidate
    return None


def read_voc(folder: Path, images: Path | None = None) -> dict[str, Labels]:
    """Return the labels of a folder.

    images: default JPEGImages or images beside the xml files' folder, else that folder.

    Boxes are VOC's: pixels are counted from 1 and the last one belongs to the box, so that (1, 1, w, h) is the whole
    image. If any box begins at 0 all are taken as counted from 0, which a note says. Objects marked difficult are crowd
    regions: neither learned nor counted, as VOC evaluates.
    """
    annotations = find_annotations(folder) or folder
    index = ImageIndex(images or _images_folder(annotations))
    files = sorted(annotations.glob("*.xml"))
    check_inside(folder, files, str(folder))
    roots = {path.name: parse_xml(path, "annotation") for path in files}
    first = 0 if any(_starts_at_0(name, root) for name, root in roots.items()) else 1
    left_out, seen = LeftOut(), dict[str, str]()
    pictures, difficult = [], 0
    for name, root in roots.items():
        given = text_of(root, "filename") or Path(name).stem
        try:
            file = index.find(given, name)
        except InputError:
            file = index.find(Path(name).stem, name, stem=True)  # tools rename images and forget the xml
        if file in seen:
            raise InputError(f"{name}: image '{file}' is that of {seen[file]} too; remove one")
        seen[file] = name
        size = root.find("size")
        declared = (0, 0) if size is None else (int(number(size, "width", name)), int(number(size, "height", name)))
        width, height = check_size(index.header(file), declared, name)
        shapes = tuple(_shape(each, name, first) for each in root.iter("object"))
        difficult += sum(shape.crowd for shape in shapes)
        pictures.append(Picture(file, width, height, shapes))
    for file in sorted(index.files.keys() - seen.keys()):
        left_out.add("images without an xml file", file)
    notes = list(left_out.notes())
    if first == 0:
        notes.append("boxes begin at 0, so pixels are counted from 0; VOC counts from 1")
    if difficult:
        notes.append(f"{counted(difficult, 'object')} marked difficult: crowd regions, neither learned nor counted")
    return {"all": Labels(KIND, index.folder, names_of(pictures), tuple(pictures), tuple(notes))}


def _images_folder(annotations: Path) -> Path:
    for candidate in (annotations.parent / "JPEGImages", annotations.parent / "images"):
        if candidate.is_dir():
            return candidate
    return annotations


def _starts_at_0(name: str, root: Element) -> bool:
    for each in root.iter("object"):
        box, where = each.find("bndbox"), f"{name}, object '{text_of(each, 'name')}'"
        if box is not None and min(number(box, key, where) for key in ("xmin", "ymin")) < 1:
            return True
    return False


def _shape(each: Element, name: str, first: int) -> Shape:
    label, box = text_of(each, "name"), each.find("bndbox")
    if not label:
        raise InputError(f"{name}: an object has no name")
    if box is None:
        raise InputError(f"{name}: object '{label}' has no bndbox")
    x0, y0, x1, y1 = (number(box, key, f"{name}, object '{label}'") for key in ("xmin", "ymin", "xmax", "ymax"))
    difficult = text_of(each, "difficult") in ("1", "true", "True")
    return Shape(label, (x0 - first, y0 - first, x1, y1), crowd=difficult)
