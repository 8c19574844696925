"""From a COCO json and a folder of images to samples, with every problem named."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tlvision.files.inputs import check_folder, check_inside
from tlvision.files.memory import no_collection
from tlvision.formats.bit_depth import FULL, choose_bits
from tlvision.formats.coco.annotators import several_annotators
from tlvision.formats.coco.class_changes import change_classes
from tlvision.formats.coco.document import Document, load_document
from tlvision.formats.coco.duplicates import check_one_row_a_file, repeated_annotations, repeated_sentence
from tlvision.formats.coco.plain import column
from tlvision.formats.coco.rules import CheckedBoxes, as_floats, check_boxes
from tlvision.formats.coco.segments import empty_masks, read_segments
from tlvision.formats.coco.suspicion import suspect_boxes
from tlvision.formats.image_headers import Header, header_notes, read_header, read_headers
from tlvision.formats.orientation import Exif, Orientations, decide
from tlvision.types import (
    ClassChanges,
    ClassMap,
    InputError,
    Json,
    Sample,
    Target,
    counted,
    empty_target,
    listing,
    nearest,
)

_NO_CHANGES = ClassChanges()


@dataclass(frozen=True, slots=True, eq=False)
class CocoData:
    """A dataset as read.

    path:         the json.
    images_dir:   the folder that file names are relative to.
    samples:      one per image, in file order; images without objects are kept.
    classes:      the class map, the one that was given or this file's own.
    category_ids: contiguous class index -> category id in *this* file, for the classes that it has.
    skipped:      notes on skipped or changed data and other remarks, one sentence each, with annotation ids.
    bits:         how many bits of 16-bit images are in use; None if it was not given and no image has 16 bits.
    unusable:     ids of the annotations that are no objects of `samples` because they cannot be used; an evaluation
                  leaves them out as well.
    kept:         ids of the images in `samples` if that is a part of the json; None for all.
    changes:      what was made of the file's classes.
    """

    path: Path
    images_dir: Path
    samples: tuple[Sample, ...]
    classes: ClassMap
    category_ids: dict[int, int]
    skipped: tuple[str, ...]
    bits: int | None = None
    unusable: frozenset[int] = frozenset()
    kept: frozenset[int] | None = None
    changes: ClassChanges = _NO_CHANGES


@no_collection()
def read_coco(
    json_path: str | Path,
    images_dir: str | Path,
    classes: ClassMap | None = None,
    *,
    class_names: Sequence[str] | None = None,
    changes: ClassChanges = _NO_CHANGES,
    require_objects: bool = True,
    require_masks: bool = False,
    exif: Exif = "auto",
    bits: int | None = None,
) -> CocoData:
    """Read a COCO json and check it against its image files; no pixel is decoded.

    json_path:       the json.
    images_dir:      the folder that its file names are relative to.
    classes:         the map of another file (a val file is read with the train file's), matched by name: ids may
                     differ, classes may be absent here. Without it the map is made from this file's categories, by id.
    class_names:     only these classes, in this order; annotations of others are left out and counted.
    changes:         what to make of the file's classes; `class_names` and `classes` are names after that.
    require_objects: whether a file without a usable annotation is an error. Crowd regions are not usable.
    require_masks:   whether every annotation of a class that takes part needs a segmentation, crowd regions too (mask
                     AP ignores what lies in them), and its image a width and height in the json. Without it
                     segmentations that cannot be read are left out and counted.
    exif:            how images are read whose EXIF rotation cannot be confirmed (`tlvision.formats.orientation`).
    bits:            how many bits of 16-bit images are in use, 8..16; None measures it on these images.

    Raises InputError, one sentence with file and id: not a COCO json, doubled ids or names, several rows for one file,
    an unknown image or category, a missing bbox, an image file that is absent, unreadable or of another size than the
    json says, a file name that leaves the folder, a class with annotations that `classes` lacks, no images, no objects,
    boxes that are fractions. Boxes that cannot be used (nan, no size, outside) are skipped, boxes that stick out are
    clipped; `skipped` lists them.
    """
    path, folder = Path(json_path), Path(images_dir)
    document = load_document(path, require_objects=require_objects, folder=folder)
    document = change_classes(document, changes, strict=classes is None)
    check_folder(folder, "the image folder", f"; {path.name} needs it")
    check_one_row_a_file(document.name, document.images)
    notes = list(document.notes)
    classes, indices = _match_classes(document, classes, class_names, notes)
    paths = [folder / row["file_name"] for row in document.images.values()]
    check_inside(folder, paths, document.name)
    headers = dict(zip(document.images, read_headers(paths, document.name, folder), strict=True))
    sizes, turned = _image_sizes(document, headers, notes, exif)
    bits, bit_notes = choose_bits(paths, list(headers.values()), bits, document.name)
    notes += [*bit_notes, *header_notes(paths, list(headers.values()), document.name)]
    rows = document.annotations
    if not indices.keys() >= document.categories.keys():
        rows = [row for row in rows if row["category_id"] in indices]
    if require_masks:
        _check_masks(document, rows)
    image_of = {image_id: position for position, image_id in enumerate(sizes)}
    image = np.fromiter(map(image_of.__getitem__, column(rows, "image_id")), np.int64, len(rows))
    boxes = _boxes(document.name, rows, np.array(list(sizes.values()), np.float64)[image], notes)
    crowd = np.array(column(rows, "iscrowd")).astype(bool)  # None is 0
    if require_objects:
        _check_left(document.name, boxes.valid, crowd, notes)
    usable = boxes.valid
    kept = _chosen(rows, usable)
    _note_rows(document.name, kept, crowd[usable], notes)
    segments = read_segments(document.name, kept, sizes, notes, strict=require_masks)
    if require_masks and (empty := empty_masks(document.name, kept, segments, sizes, notes)):
        usable = usable & np.array([row["id"] not in empty for row in rows], bool)
        if require_objects:
            _check_left(document.name, usable, crowd, notes)
    labels = np.fromiter(map(indices.__getitem__, column(rows, "category_id")), np.int64, len(rows))
    order = np.flatnonzero(usable)
    order = order[np.argsort(image[order], kind="stable")]
    ends = np.searchsorted(image[order], np.arange(1, len(sizes)))
    objects = [segments.get(number) for number in column(rows, "id")]
    samples = tuple(
        Sample(
            image_id=image_id,
            path=image_path,
            width=sizes[image_id][0],
            height=sizes[image_id][1],
            exif=turned.applied[image_id],
            bits=bits or FULL,
            target=Target(boxes=boxes.corners[chosen], labels=labels[chosen], crowd=crowd[chosen]),
            segments=tuple([objects[number] for number in chosen.tolist()]),
        )
        for image_path, image_id, chosen in zip(paths, document.images, np.split(order, ends), strict=True)
    )
    category_ids = {index: category_id for category_id, index in sorted(indices.items(), key=lambda item: item[1])}
    unusable = frozenset(column(_chosen(rows, ~usable), "id"))
    return CocoData(path, folder, samples, classes, category_ids, tuple(notes), bits, unusable, changes=changes)


def _chosen(rows: Sequence[Json], flags: npt.NDArray[np.bool_]) -> Sequence[Json]:
    return rows if flags.all() else [rows[number] for number in np.flatnonzero(flags).tolist()]


def _check_left(name: str, usable: npt.NDArray[np.bool_], crowd: npt.NDArray[np.bool_], notes: list[str]) -> None:
    """Raise InputError if no object is left to learn or to measure."""
    if not usable.any():
        raise InputError(f"{name}: no usable annotation is left: {'; '.join(notes) or 'none was given'}")
    if crowd[usable].all():
        raise InputError(
            f"{name}: all {counted(int(usable.sum()), 'annotation')} are crowd regions ('iscrowd': 1), which are "
            "neither learned nor counted. Set 'iscrowd' to 0 if each one marks a single object (CVAT writes 1 for "
            "every brush or SAM mask)"
        )


def _note_rows(name: str, rows: Sequence[Json], crowd: npt.NDArray[np.bool_], notes: list[str]) -> None:
    if crowd.any():
        notes.append(
            f"{name}: {int(crowd.sum())} of {len(rows)} annotations are crowd regions ('iscrowd': 1), which are "
            "neither learned nor counted. Set 'iscrowd' to 0 if each one marks a single object"
        )
    if several := several_annotators(rows):
        notes.append(f"{name}: {several}")
    again = repeated_annotations(rows)
    if again:
        notes.append(f"{name}: {repeated_sentence(len(again))}: annotation {listing(again)}")


def read_unlabelled(paths: Sequence[str | Path], *, bits: int = FULL) -> tuple[Sample, ...]:
    """Return samples without objects for image files that no json describes; image ids count from 1.

    bits: how many bits of 16-bit images are in use.

    Raises InputError with the count and names of absent files, or naming the first that cannot be read as an image.
    """
    files = [Path(path) for path in paths]
    headers = read_headers(files, "images")
    return tuple(
        unlabelled_sample(number, path, header, bits)
        for number, (path, header) in enumerate(zip(files, headers, strict=True), start=1)
    )


def read_readable(
    paths: Sequence[Path], *, bits: int | None
) -> tuple[tuple[Sample, ...], list[tuple[Path, InputError]], tuple[str, ...]]:
    """Return samples of the files whose headers can be read, the others with the reason, and notes.

    bits: how many bits of 16-bit images are in use; None measures it on these images.

    Image ids count all files from 1, so that an id says which of `paths` it is.
    """
    headers: dict[int, Header] = {}
    problems = []
    for number, path in enumerate(paths, start=1):
        try:
            headers[number] = read_header(path)
        except (InputError, FileNotFoundError) as error:
            problems.append((path, InputError(str(error))))
    readable = [paths[number - 1] for number in headers]
    used, notes = choose_bits(readable, list(headers.values()), bits, "images")
    samples = [unlabelled_sample(number, paths[number - 1], header, used or FULL) for number, header in headers.items()]
    return tuple(samples), problems, (*notes, *header_notes(readable, list(headers.values()), "images"))


def unlabelled_sample(number: int, path: Path, header: Header, bits: int) -> Sample:
    """Return a sample without objects for an image file. number: its image id. bits: as for `read_unlabelled`."""
    width, height = header.rotated_size
    return Sample(
        image_id=number,
        path=path,
        width=width,
        height=height,
        exif=header.orientation != 1,
        bits=bits,
        target=empty_target(),
        segments=(),
    )


def _match_classes(
    document: Document, classes: ClassMap | None, class_names: Sequence[str] | None, notes: list[str]
) -> tuple[ClassMap, dict[int, int]]:
    """Return the class map and, per category id of this file that takes part, its class index."""
    ids = {name: category_id for category_id, name in sorted(document.categories.items())}
    if classes is None:
        for name in class_names or ():
            if name not in ids:
                raise InputError(f"{document.name}: it has no class '{name}'.{nearest(name, ids)}")
        names = tuple(class_names) if class_names is not None else tuple(ids)
        classes = ClassMap(names, tuple(ids[name] for name in names))
    counts = Counter(column(document.annotations, "category_id"))
    indices = {ids[name]: index for index, name in enumerate(classes.names) if name in ids}
    for name, category_id in ids.items():
        if name in classes.names:
            continue
        count = counts[category_id]
        if class_names is None and count:
            raise InputError(
                f"{document.name}: class '{name}' ({counted(count, 'annotation')}) is not among the classes "
                f"{listing(classes.names, 20)}; add it to the training json, or list in data.classes what is wanted"
            )
        notes.append(f"{document.name}: class '{name}' is left out, with its {counted(count, 'annotation')}")
    absent = [name for name in classes.names if name not in ids]
    if absent:
        notes.append(f"{document.name}: it has no class {listing(absent)}")
    return classes, indices


def _image_sizes(
    document: Document, headers: dict[int, Header], notes: list[str], exif: Exif
) -> tuple[dict[int, tuple[int, int]], Orientations]:
    """Return, per image id, width and height after decoding, and whether its EXIF rotation is applied."""
    said = {image_id: (row.get("width"), row.get("height")) for image_id, row in document.images.items()}
    names = {image_id: row["file_name"] for image_id, row in document.images.items()}
    taken, wrong = [], []
    for image_id, header in headers.items():
        if None in said[image_id]:
            taken.append(names[image_id])
        elif said[image_id] not in ((header.width, header.height), header.rotated_size):
            wrong.append(f"{names[image_id]} is {_by(header.rotated_size)} but the json says {_by(said[image_id])}")
    if wrong:
        raise InputError(
            f"{document.name}: {len(wrong)} image files have another size than the json says: {listing(wrong, 3)}; "
            "use the images that were labelled, or correct the json"
        )
    if taken:
        notes.append(f"{document.name}: width or height is missing and was taken from the file: {listing(taken)}")
    turned = decide(headers, said, names, exif=exif)
    notes += [f"{document.name}: {note}" for note in turned.notes]
    sizes = {
        image_id: header.rotated_size if turned.applied[image_id] else (header.width, header.height)
        for image_id, header in headers.items()
    }
    return sizes, turned


def _by(size: tuple[object, object]) -> str:
    return f"{size[0]} x {size[1]}"


def _boxes(name: str, rows: Sequence[Json], limits: npt.NDArray[np.float64], notes: list[str]) -> CheckedBoxes:
    """Check the boxes. limits: (N, 2), width and height of the image of each row."""
    xywh = as_floats(column(rows, "bbox"))
    boxes = check_boxes(xywh, limits)
    sound = ~(boxes.not_finite | boxes.empty)
    suspicion = suspect_boxes(xywh[sound], limits[sound], name)
    if suspicion:
        notes.append(suspicion)
    found: tuple[tuple[npt.NDArray[np.bool_], str, str], ...] = (
        (boxes.not_finite, "box", "with nan or infinity, skipped"),
        (boxes.empty, "box", "without a positive width and height, skipped"),
        (boxes.outside, "box", "wholly outside the image, skipped"),
        (boxes.clipped, "box", "sticking out of the image, clipped"),
        (_missing(rows, "area"), "annotation", "without area, taken from the box"),
        (_missing(rows, "iscrowd"), "annotation", "without iscrowd, taken as 0"),
    )
    for flags, noun, words in found:
        ids = [rows[number]["id"] for number in np.flatnonzero(flags).tolist()]
        if ids:
            notes.append(f"{name}: {counted(len(ids), noun)} {words}: annotation {listing(ids)}")
    return boxes


def _missing(rows: Sequence[Json], key: str) -> npt.NDArray[np.bool_]:
    return np.array([value is None for value in column(rows, key)], bool)


def _check_masks(document: Document, rows: Sequence[Json]) -> None:
    without = [row for row in rows if not row.get("segmentation")]
    if without:
        first = without[0]
        raise InputError(
            f"{document.name}: {len(without)} of {len(rows)} annotations have no 'segmentation', which masks "
            f"need, first annotation {first['id']} in {document.images[first['image_id']]['file_name']}; label "
            "them, take them out, or choose a model that detects boxes"
        )
    images = {row["image_id"]: document.images[row["image_id"]] for row in rows}
    unsized = [image["file_name"] for image in images.values() if None in (image.get("width"), image.get("height"))]
    if unsized:
        raise InputError(
            f"{document.name}: {len(unsized)} images have no 'width' and 'height', without which masks cannot be "
            f"compared: {listing(unsized, 3)}; write them into the json"
        )
