"""Label maps: folders of PNGs, lists of class names, and COCO's panoptic format."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from poison.dataset import HUGE, NESTED, SIZE, Build, Case, images
from poison.pictures import cut, encoded, png
from tlvision.types import ClassMap


def saved(image: Image.Image, kind: str = "PNG") -> bytes:
    """Return an image file."""
    out = io.BytesIO()
    image.save(out, kind)
    return out.getvalue()


def grey(value: int = 0, size: tuple[int, int] = SIZE) -> bytes:
    """Return a PNG of one value."""
    return saved(Image.new("L", size, value))


def folder_of(name: str = "", data: bytes = b"", *, without: str = "") -> Build:
    """Return a builder of images, label maps and class names in which one file is other or missing."""

    def build(folder: Path) -> None:
        images(folder)
        (folder / "masks").mkdir()
        files = {"masks/a.png": grey(0), "masks/b.png": grey(1), "classes.txt": b"road\ncar\n"}
        for path, content in ({**files, name: data} if name else files).items():
            if path != without:
                (folder / path).write_bytes(content)
        if without.startswith("images"):
            (folder / without).unlink()

    return build


def read_folder(folder: Path) -> Sequence[str]:
    """Read as a semantic training does."""
    from tlvision.formats.label_maps import read_class_file, read_label_maps

    names = tuple(read_class_file(folder / "classes.txt"))
    classes = ClassMap(names, tuple(range(len(names))))
    return read_label_maps(folder / "images", folder / "masks", classes).skipped


A, NAMES = "masks/a.png", "classes.txt"
REFUSED: list[tuple[str, Build, str]] = [
    ("colours", folder_of(A, saved(Image.new("RGB", SIZE))), "masks/a.png: expected a label map with one 8-bit value"),
    ("16 bits", folder_of(A, saved(Image.new("I;16", SIZE))), "masks/a.png: expected a label map with one 8-bit value"),
    ("grey and alpha", folder_of(A, saved(Image.new("LA", SIZE))), "masks/a.png: expected a label map with one 8-bit"),
    ("a JPEG", folder_of(A, saved(Image.new("L", SIZE), "JPEG")), "masks/a.png: the label map is a JPEG, which change"),
    ("another size", folder_of(A, grey(0, (41, 24))), "masks/a.png: the label map is 41 x 24, its image"),
    ("a value that is no class", folder_of(A, grey(7)), "masks/a.png: the label map has the value(s) 7"),
    ("10^10 pixels", folder_of(A, png(100_000, 100_000, colour=0)), "masks/a.png' is too large"),
    ("no pixels", folder_of(A, png(*SIZE, colour=0)), "masks/a.png: the label map is damaged"),
    ("one that breaks off", folder_of(A, cut(grey(0), 0.5)), "masks/a.png"),
    ("an empty file", folder_of(A, b""), "masks/a.png' is not an image that can be read"),
    ("a text", folder_of(A, b"road"), "masks/a.png' is not an image that can be read"),
    ("none for an image", folder_of(without=A), "masks: 1 of 2 images have no label map: a"),
    ("two images of one", folder_of("images/a.jpg", saved(Image.new("L", SIZE), "JPEG")),
     "images: 'a.jpg' and 'a.png' share a label map; rename one"),
    ("no class", folder_of(NAMES, b"\n\n"), "classes.txt: expected 1 to 255 class names, got 0"),
    ("300 classes", folder_of(NAMES, b"\n".join(b"c%d" % n for n in range(300))), "classes.txt: expected 1 to 255"),
    ("a class twice", folder_of(NAMES, b"road\nroad\n"), "classes.txt: classes: name road is used for more than one"),
    ("a class of 5,000 characters", folder_of(NAMES, b"x" * 5000), "classes.txt: classes: a class name of 5,000"),
    ("2 MB of classes", folder_of(NAMES, b"x\n" * (1 << 20)), "classes.txt' has 2,097,152 bytes"),
    ("classes of bytes", folder_of(NAMES, bytes(range(256))), "classes.txt' is not a text file"),
]  # fmt: skip
NOTED: list[tuple[str, Build, str]] = [
    ("one without an image", folder_of("masks/c.png", grey(0)), "left out 1 label map without image: c"),
    ("a class without a pixel", folder_of(NAMES, b"road\ncar\ntree\n"), "no pixel of 1 class: tree"),
    ("255 everywhere", folder_of("masks/b.png", grey(255)), "no pixel of 1 class: car"),
]


def panoptic(edit: Callable[[dict[str, Any]], object], png_bytes: bytes | None = None) -> Build:
    """Return a builder of a panoptic dataset with an edit of its json, or another PNG."""

    def build(folder: Path) -> None:
        images(folder)
        (folder / "masks").mkdir()
        colours = np.zeros((SIZE[1], SIZE[0], 3), np.uint8)
        colours[..., 0] = 7
        data = saved(Image.fromarray(colours)) if png_bytes is None else png_bytes
        (folder / "masks" / "a.png").write_bytes(data)
        segments = [{"id": 7, "category_id": 3, "iscrowd": 0}]
        content: dict[str, Any] = {
            "images": [{"id": 1, "file_name": "a.png"}],
            "annotations": [{"image_id": 1, "file_name": "a.png", "segments_info": segments}],
            "categories": [{"id": 3, "name": "road"}, {"id": 90, "name": "car"}],
        }
        edit(content)
        text = json.dumps(content).replace(f'"{NESTED}"', "[" * 900 + "]" * 900)
        (folder / "panoptic.json").write_text(text)

    return build


def segment(**values: object) -> Build:
    return panoptic(lambda content: content["annotations"][0]["segments_info"][0].update(values))


def read_panoptic(folder: Path) -> Sequence[str]:
    """Read as a semantic training on a panoptic json does."""
    from tlvision.formats.label_maps import read_panoptic

    return read_panoptic(folder / "panoptic.json", folder / "images", folder / "masks").skipped


PANOPTIC: list[tuple[str, Build, str]] = [
    ("a segment of 900 lists", segment(id=NESTED), "image 1: segments_info[0]: 'id' must be an integer, got [[["),
    ("a segment of 400 digits", segment(id=HUGE), "image 1: segments_info[0]: the segment id 1000"),
    ("a category of 900 lists", segment(category_id=NESTED), "segments_info[0]: 'category_id' must be an integer"),
    ("an unknown category", segment(category_id=4), "panoptic.json: image 1, segment 7: the category 4 is not in"),
    ("a colour without a segment", segment(id=8), "masks/a.png: the label map has the value(s) 7"),
    ("a PNG elsewhere", panoptic(lambda c: c["annotations"][0].update(file_name="../../a.png")), "leaves the image"),
    ("an image elsewhere", panoptic(lambda c: c["images"][0].update(file_name="/etc/a.png")), "leaves the image folde"),
    ("a grey PNG", panoptic(lambda c: None, grey(7)), "masks/a.png: expected a PNG in colour"),
    ("10^10 pixels", panoptic(lambda c: None, png(100_000, 100_000)), "masks/a.png' is too large"),
    ("a PNG that breaks off", panoptic(lambda c: None, cut(encoded("PNG"), 0.6)), "masks/a.png: the label map is"),
    ("a name of 5,000 characters", panoptic(lambda c: c["categories"][0].update(name="x" * 5000)), "of 5,000 characte"),
]  # fmt: skip
CASES = [Case(f"folder: {name}", build, read_folder, words) for name, build, words in REFUSED]
CASES += [Case(f"folder: {name}", build, read_folder, words, noted=True) for name, build, words in NOTED]
CASES += [Case(f"panoptic: {name}", build, read_panoptic, words) for name, build, words in PANOPTIC]
