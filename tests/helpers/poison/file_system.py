"""Links that leave a folder, pipes, devices, folders instead of files, odd names."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from PIL import Image

from poison import label_maps, tools
from poison.dataset import SIZE, Build, Case, coco, convert, put, read_boxes


def with_outside(build: Build, change: Callable[[Path, Path], object]) -> Build:
    """Return a builder that puts a dataset into `data` beside an image outside of it, and then changes it.

    change: gets the folder of the dataset and the image outside.
    """

    def both(folder: Path) -> None:
        outside = folder / "private" / "secret.png"
        outside.parent.mkdir()
        Image.new("RGB", SIZE, "red").save(outside)
        (folder / "data").mkdir()
        build(folder / "data")
        change(folder / "data", outside)

    return both


def inside(read: Callable[[Path], Sequence[str]]) -> Callable[[Path], Sequence[str]]:
    return lambda folder: read(folder / "data")


def link(name: str, *, to_folder: bool = False) -> Callable[[Path, Path], None]:
    """Return a change that makes a file, or a new folder, a link to the outside."""

    def change(data: Path, outside: Path) -> None:
        (data / name).unlink(missing_ok=True)
        (data / name).symlink_to(outside.parent if to_folder else outside)

    return change


def replace(name: str, make: Callable[[Path], object]) -> Build:
    """Return a builder of the dataset in which a file is replaced by what `make` makes at its path."""

    def build(folder: Path) -> None:
        coco()(folder)
        (folder / name).unlink(missing_ok=True)
        make(folder / name)

    return build


def read_unlabelled(folder: Path) -> Sequence[str]:
    """Read as training on unlabelled images does."""
    from tlvision.formats.coco import read_images

    read_images(folder / "images")
    return ()


LEAVE = " by a symbolic link: "
BELOW = coco(put("images.0.file_name", "below/secret.png"))
LINKS: list[tuple[str, Build, Callable[[Path], Sequence[str]], str]] = [
    ("an image of a json", with_outside(coco(), link("images/a.png")), inside(read_boxes),
     "labels.json: 1 of 2 files leave the folder '"),
    ("an image of a json is named", with_outside(coco(), link("images/a.png")), inside(read_boxes), f"{LEAVE}a.png ->"),
    ("a folder below the images", with_outside(BELOW, link("images/below", to_folder=True)), inside(read_boxes),
     f"{LEAVE}below/secret.png -> "),
    ("a folder that is left upwards", with_outside(coco(put("images.0.file_name", "below/../secret.png")),
     link("images/below", to_folder=True)), inside(read_boxes), f"{LEAVE}"),
    ("an unlabelled image", with_outside(coco(), link("images/a.png")), inside(read_unlabelled), f"{LEAVE}a.png -> "),
    ("an image of label maps", with_outside(label_maps.folder_of(), link("images/a.png")),
     inside(label_maps.read_folder), f"{LEAVE}a.png -> "),
    ("a label map", with_outside(label_maps.folder_of(), link("masks/a.png")), inside(label_maps.read_folder),
     f"{LEAVE}a.png -> "),
    ("a panoptic PNG", with_outside(label_maps.panoptic(lambda content: None), link("masks/a.png")),
     inside(label_maps.read_panoptic), f"{LEAVE}a.png -> "),
    ("labels of YOLO", with_outside(tools.yolo("data.yaml", "names: [a, b]\ntrain: images/train\n"),
     link("labels/labels/train/a.txt")), inside(convert), f"{LEAVE}a.txt -> "),
    ("an image of YOLO", with_outside(tools.yolo("data.yaml", "names: [a, b]\ntrain: images/train\n"),
     link("labels/images/train/a.png")), inside(convert), f"{LEAVE}a.png -> "),
    ("labels of Pascal VOC", with_outside(tools.voc("bolt", "bolt"), link("labels/1.xml")), inside(convert),
     f"{LEAVE}1.xml -> "),
    ("labels of LabelMe", with_outside(tools.labelme(lambda content: None), link("labels/b.json")), inside(convert),
     f"{LEAVE}b.json -> "),
]  # fmt: skip
IMAGE, LABELS = "images/a.png", "labels.json"
FILES: list[tuple[str, Build, Callable[[Path], Sequence[str]], str]] = [
    ("an image that leads to itself", replace(IMAGE, lambda path: path.symlink_to(path)), read_boxes, "a.png'"),
    ("an image that leads nowhere", replace(IMAGE, lambda path: path.symlink_to("gone.png")), read_boxes,
     "labels.json: 1 of 2 image files do not exist"),
    ("an unlabelled image that leads nowhere", replace(IMAGE, lambda path: path.symlink_to("gone.png")),
     read_unlabelled, "1 image that is a broken link or no regular file: "),
    ("an image that is a pipe", replace(IMAGE, os.mkfifo), read_boxes, "a.png' cannot be read as an image (not a reg"),
    ("an image that is a folder", replace(IMAGE, Path.mkdir), read_boxes, "a.png' cannot be read as an image (not a r"),
    ("an image that is missing", replace(IMAGE, lambda path: None), read_boxes, "1 of 2 image files do not exist: "),
    ("labels that are a pipe", replace(LABELS, os.mkfifo), read_boxes, "labels.json' is a named pipe"),
    ("labels that are a device", replace(LABELS, lambda path: path.symlink_to("/dev/zero")), read_boxes,
     "labels.json' is not a regular file"),
    ("labels that are a folder", replace(LABELS, Path.mkdir), read_boxes, "labels.json' is no COCO json"),
    ("labels that lead to themselves", replace(LABELS, lambda path: path.symlink_to(path)), read_boxes, "labels.json'"),
    ("labels that are missing", replace(LABELS, lambda path: None), read_boxes, "labels.json' does not exist"),
    ("a name with a line break", coco(put("images.0.file_name", "a\n.png")), read_boxes, "image 1: the file name 'a ."),
    ("a name with an escape", coco(put("images.0.file_name", "\x1b[2Ja.png")), read_boxes, "image 1: the file name '"),
    ("a name in capitals", coco(put("images.0.file_name", "A.PNG")), read_boxes, "1 of 2 image files do not exist"),
    ("a name with NUL", coco(put("images.0.file_name", "a\0.png")), read_boxes, "labels.json, image 1: the file name"),
    ("a name of 500 folders", coco(put("images.0.file_name", "x/" * 500 + "a.png")), read_boxes, "a.png"),
    ("a name that goes up", coco(put("images.0.file_name", "../images/../../a.png")), read_boxes, "leaves the image"),
    ("a name on a share", coco(put("images.0.file_name", "\\\\host\\share\\a.png")), read_boxes, "labels.json, image"),
    ("a name that is an address", coco(put("images.0.file_name", "file:///etc/passwd")), read_boxes,
     "1 of 2 image files do not exist"),
    ("a device as a name", coco(put("images.0.file_name", "/dev/zero")), read_boxes, "leaves the image folder"),
]  # fmt: skip
CASES = [Case(f"link: {name}", build, read, words) for name, build, read, words in LINKS]
CASES += [Case(name, build, read, words) for name, build, read, words in FILES]
