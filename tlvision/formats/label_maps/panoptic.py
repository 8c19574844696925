"""COCO's panoptic format as label maps: a json that names PNGs, and in it what each coloured segment is.

Format: https://cocodataset.org/#format-data, "Panoptic Segmentation". Things and stuff are classes alike; which object
a pixel belongs to is dropped. Crowd segments are IGNORE_INDEX, and so is the value 0, which no segment has.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from tlvision.files.inputs import check_file, check_inside, exists
from tlvision.formats.label_maps.folder import LabelMapData, absent_classes, count_pixels, make_samples
from tlvision.formats.label_maps.panoptic_document import Drawing, load_panoptic
from tlvision.formats.orientation import Exif
from tlvision.types import IGNORE_INDEX, ClassChanges, ClassMap, InputError, LabelMapFile, counted, nearest

_NO_CHANGES = ClassChanges()


def read_panoptic(
    json_path: str | Path,
    images_dir: str | Path,
    masks_dir: str | Path,
    classes: ClassMap | None = None,
    *,
    changes: ClassChanges = _NO_CHANGES,
    only: Sequence[str] | None = None,
    exif: Exif = "auto",
    bits: int | None = None,
) -> LabelMapData:
    """Read a COCO panoptic json, its images and its PNGs; every label map is checked.

    classes: those of another file (a val json is read with the train json's), matched by name; segments of others are
             an error. Without it they are this file's categories, by id.
    changes: what to make of the file's classes; `classes` and `only` are names after that.
    only:    the classes that are used, in this order; segments of others are IGNORE_INDEX. None uses all.
    exif, bits: as for `tlvision.formats.coco.read_coco`.

    Raises InputError with file and image id: not a panoptic json, an id that is given twice, an unknown image or
    category, a file name that leaves its folder, a file that is absent or of another size, a segment in a PNG that the
    json does not list.
    """
    path, images_dir, masks_dir = Path(json_path), Path(images_dir), Path(masks_dir)
    document = load_panoptic(path)
    ids = {name: category_id for category_id, name in document.categories.items()}
    groups = changes.applied(tuple(ids), path.name, strict=classes is None)
    if classes is None:
        names = _used(path.name, groups, only)
        classes = ClassMap(names, tuple(ids[groups[name][0]] for name in names))
    used = {old: new for new, members in groups.items() for old in members if only is None or new in only}
    renamed = {category_id: used.get(name) for name, category_id in ids.items()}
    if len(classes) > IGNORE_INDEX:
        raise InputError(f"{path}: expected at most {IGNORE_INDEX} categories, got {len(classes)}")
    files = [
        LabelMapFile(masks_dir / drawing.file_name, _values(path, drawing, renamed, classes), coloured=True)
        for drawing in document.drawings
    ]
    images = [images_dir / document.images[drawing.image_id] for drawing in document.drawings]
    check_inside(images_dir, images, path.name)
    check_inside(masks_dir, [file.path for file in files], path.name)
    for picture in (*images, *(file.path for file in files)):
        if exists(picture):  # missing files are counted below
            check_file(picture, "an image or a label map")
    samples, notes, bits = make_samples(images, files, path.name, exif, bits)
    pixels, ignored = count_pixels(samples, len(classes))
    if left := len(document.images) - len(images):
        notes.append(f"left out {counted(left, 'image')} without annotation")
    notes += absent_classes(classes, pixels)
    return LabelMapData(path, images_dir, samples, classes, pixels, tuple(notes), bits, ignored)


def _used(name: str, groups: Mapping[str, list[str]], only: Sequence[str] | None) -> tuple[str, ...]:
    for wanted in only or ():
        if wanted not in groups:
            raise InputError(f"data.classes.only: {name} has no class '{wanted}'.{nearest(wanted, groups)}")
    return tuple(only or groups)


def _values(path: Path, drawing: Drawing, categories: Mapping[int, str | None], classes: ClassMap) -> dict[int, int]:
    values = {0: IGNORE_INDEX}
    for segment in drawing.segments:
        if segment.category_id not in categories:
            raise InputError(
                f"{path}: image {drawing.image_id}, segment {segment.id}: the category {segment.category_id} is "
                "not in the file"
            )
        name = categories[segment.category_id]
        values[segment.id] = IGNORE_INDEX if segment.crowd or name is None else classes.index(name)
    return values
