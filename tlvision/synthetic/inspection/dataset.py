"""Write a rendered dataset: the COCO json first, then the images, so that an incomplete folder is recognisable."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import cv2
import numpy as np

from tlvision.files.atomic import atomic_file
from tlvision.formats.coco.write import write_dataset
from tlvision.synthetic.inspection.camera import Camera, photograph
from tlvision.synthetic.inspection.layout import HEIGHT, WIDTH, Mark, Recipe, clip_to_image, place
from tlvision.types import ClassMap, InputError, Polygons, RunError, Sample, Target, listing, nearest

Domain = Literal["source", "target"]
Split = Literal["train", "val"]

VERSION = 1
"""Raised whenever the same seed would give another dataset."""

JPEG_QUALITY = 92
SMALLEST_SIDE = 2.0
"""Pixels. The part of an object inside the image must be at least this wide and high, else it is not labelled."""


@dataclass(frozen=True, slots=True)
class _Setting:
    classes: ClassMap
    recipe: Recipe
    camera: Camera


_SETTINGS: dict[Domain, _Setting] = {
    "source": _Setting(
        ClassMap.from_names(("screw", "missing_screw", "scratch", "dent", "rust")),
        Recipe({"rust": 0.26, "dent": 0.2, "scratch": 0.36}, screw_radius=(8.0, 13.0), missing=0.22, bare=0.06),
        Camera(
            painted=False,
            lamp_x=(0.2, 0.8),
            lamp_y=(-0.1, 0.6),
            lamp_z=(150.0, 240.0),
            ambient=(0.35, 0.5),
            falloff=(220.0, 400.0),
            blur=(0.3, 0.55),
            haze=(0.0, 0.03),
            cast=(1.0, 1.0, 1.0),
            grain=(0.006, 0.014),
        ),
    ),
    "target": _Setting(
        # Another order, gaps in the ids, no dents, and a class that the source does not know.
        ClassMap(("rust", "paint_chip", "scratch", "missing_screw", "screw"), (2, 3, 5, 8, 9)),
        Recipe({"rust": 0.26, "paint_chip": 0.34, "scratch": 0.3}, screw_radius=(6.5, 11.0), missing=0.28, bare=0.08),
        Camera(
            painted=True,
            lamp_x=(-0.35, -0.05),
            lamp_y=(-0.2, 1.0),
            lamp_z=(90.0, 170.0),
            ambient=(0.3, 0.42),
            falloff=(130.0, 240.0),
            blur=(0.6, 1.0),
            haze=(0.12, 0.3),
            cast=(1.08, 1.0, 0.82),
            grain=(0.015, 0.03),
        ),
    ),
}


def domain_classes(domain: Domain) -> ClassMap:
    """Return the classes of a domain, with the category ids that its json has.

    >>> domain_classes("target").source_ids
    (2, 3, 5, 8, 9)
    """
    return _setting(domain).classes


def _setting(domain: str) -> _Setting:
    if domain not in get_args(Domain):
        raise InputError(f"inspection: no domain '{domain}'.{nearest(domain, get_args(Domain))}")
    return _SETTINGS[domain]  # type: ignore[index]


def render_inspection(out: str | Path, *, domain: Domain, train: int = 60, val: int = 40, seed: int = 0) -> None:
    """Render a dataset of plates into the folder `out`: images/*.jpg, train.json and val.json in COCO's format.

    out:        a new or empty folder, or one that holds this dataset already, in whole (then nothing is done) or in
                part (then the rest is written).
    domain:     "source" or "target".
    train, val: number of images of each split, at least 1.
    seed:       the same seed gives the same json, byte for byte, and the first n images do not depend on how many
                there are; pixels may differ by the last bit of a JPEG codec.

    Images are 256 x 192 pixels. Objects have polygons, which the image border cuts; boxes are the polygons' bounds.
    Images without objects occur. Raises InputError if `out` holds anything else, which is never overwritten.
    """
    setting, out = _setting(domain), Path(out)
    sizes: dict[Split, int] = {"train": train, "val": val}
    for split, size in sizes.items():
        if size < 1:
            raise InputError(f"inspection: expected at least 1 image for '{split}', got {size}")
    missing_json = _check_folder(out, domain, sizes, seed)
    for split, size in sizes.items():
        plates = [_layout(setting, domain, split, index, seed) for index in range(size)]
        if split in missing_json:
            samples = [
                _sample(out / "images" / _file_name(split, index), index + 1, marks, setting.classes)
                for index, marks in enumerate(plates)
            ]
            write_dataset(out / f"{split}.json", samples, setting.classes, _description(domain, split, size, seed))
        for index, marks in enumerate(plates):
            path = out / "images" / _file_name(split, index)
            if not path.exists():
                pixels = photograph(_generator(domain, split, index, seed, "pixels"), setting.camera, marks)
                _write_jpeg(path, pixels)


def _generator(domain: Domain, split: Split, index: int, seed: int, purpose: str) -> np.random.Generator:
    """One stream per image and purpose: pixels never disturb the layout, nor one image the next."""
    keys = (
        seed,
        get_args(Domain).index(domain),
        get_args(Split).index(split),
        index,
        ("layout", "pixels").index(purpose),
    )
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(keys)))


def _layout(setting: _Setting, domain: Domain, split: Split, index: int, seed: int) -> tuple[Mark, ...]:
    """Return the marks of one image that the border leaves large enough to label; the others are not painted."""
    marks = place(_generator(domain, split, index, seed, "layout"), setting.recipe)
    return tuple(mark for mark in marks if _visible(mark))


def _visible(mark: Mark) -> Polygons:
    """The outline inside the image, in (K, 2) float32 parts; empty if too little is left."""
    parts = [clip_to_image(part) for part in mark.parts]
    return tuple(
        part.astype(np.float32) for part in parts if len(part) > 2 and np.ptp(part, axis=0).min() >= SMALLEST_SIDE
    )


def _sample(path: Path, image_id: int, marks: tuple[Mark, ...], classes: ClassMap) -> Sample:
    segments = [_visible(mark) for mark in marks]
    points = [np.concatenate(parts) for parts in segments]
    boxes = [np.concatenate([part.min(axis=0), part.max(axis=0)]) for part in points]
    target = Target(
        boxes=np.array(boxes, np.float32).reshape(-1, 4),
        labels=np.array([classes.index(mark.kind) for mark in marks], np.int64),
        crowd=np.zeros(len(marks), bool),
    )
    return Sample(image_id=image_id, path=path, width=WIDTH, height=HEIGHT, target=target, segments=tuple(segments))


def _file_name(split: Split, index: int) -> str:
    return f"{split}_{index:04d}.jpg"


def _description(domain: Domain, split: Split, size: int, seed: int) -> str:
    return f"tlvision inspection v{VERSION}: domain={domain} split={split} images={size} seed={seed}"


def _check_folder(out: Path, domain: Domain, sizes: dict[Split, int], seed: int) -> set[Split]:
    """Return the splits whose json is still to be written; InputError if the folder holds anything else."""
    if out.exists() and not out.is_dir():
        raise InputError(f"inspection: '{out}' is a file; give a new or empty folder")
    for split, size in sizes.items():
        path, wanted = out / f"{split}.json", _description(domain, split, size, seed)
        if path.exists() and (found := _found_description(path)) != wanted:
            raise InputError(
                f"inspection: '{path}' holds '{found}', not '{wanted}'; give a new folder or delete this one"
            )
    missing: set[Split] = {split for split in sizes if not (out / f"{split}.json").exists()}
    # The json of a split is written before its images: images without it come from somewhere else.
    images = {
        _file_name(split, index) for split, size in sizes.items() if split not in missing for index in range(size)
    }
    allowed = {f"{split}.json" for split in sizes} | {"images"} | {f"images/{name}" for name in images}
    strangers = [name for name in _contents(out) if name not in allowed and not name.endswith(".part")]
    if strangers:
        raise InputError(
            f"inspection: '{out}' holds files that are not of this dataset ({listing(strangers)}); give a new folder"
        )
    return missing


def _contents(out: Path) -> Iterator[str]:
    return (path.relative_to(out).as_posix() for path in sorted(out.rglob("*")))


def _found_description(path: Path) -> str:
    try:
        return str(json.loads(path.read_text(encoding="utf-8"))["info"]["description"])
    except (ValueError, KeyError, TypeError):
        return "another json"


def _write_jpeg(path: Path, pixels: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> None:
    """Write the picture whole or not at all."""
    _, encoded = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    try:
        with atomic_file(path) as file:
            file.write(encoded.tobytes())
    except OSError as error:
        raise RunError(f"'{path}' cannot be written ({error.strerror or error}); free some space") from error
