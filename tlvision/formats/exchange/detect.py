"""Find out which format a file or a folder has, and read it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tlvision.files.archives import refuse_archive
from tlvision.files.json_input import load_json
from tlvision.formats.exchange import coco, cvat, label_studio, labelme, open_images, voc, yolo
from tlvision.formats.exchange.labelled import Labels
from tlvision.types import InputError

Parts = dict[str, Labels]
_LOOKED_FOR = (
    "data.yaml, classes.txt or obj.names (YOLO), train/_annotations.coco.json (Roboflow), xml files of Pascal VOC, "
    "json files of LabelMe"
)


def read_any(path: Path, images: Path | None = None) -> Parts:
    """Return the parts of a dataset in any format that is known, by name ("all" where it has none).

    images: folder of the images; None where the format says where they are, or they lie beside the labels.

    Raises InputError if no format fits, or something in the files is wrong; it names file, line or object.
    """
    if path.is_dir():
        return _read_folder(path, images)
    if not path.is_file():
        raise InputError(f"convert: there is no file or folder '{path}'")
    readers: dict[str, Callable[[], Parts]] = {
        ".yaml": lambda: yolo.read_data_yaml(path),
        ".yml": lambda: yolo.read_data_yaml(path),
        ".xml": lambda: cvat.read_cvat(path, images),
        ".csv": lambda: open_images.read_open_images(path, images),
        ".json": lambda: _read_json(path, images),
    }
    refuse_archive(path, "the file or folder of labels from it")
    if path.suffix.lower() not in readers:
        raise InputError(f"convert: '{path}' is neither .json, .yaml, .xml nor .csv; give the file or folder of labels")
    return readers[path.suffix.lower()]()


def _read_folder(folder: Path, images: Path | None) -> Parts:
    if found := yolo.find_yaml(folder):
        return yolo.read_data_yaml(found)
    if jsons := coco.find_roboflow(folder):
        return {split: coco.read_labels(path, path.parent) for split, path in jsons.items()}
    if voc.find_annotations(folder) is not None:
        return voc.read_voc(folder, images)
    if yolo.find_names(folder) is not None:
        return yolo.read_names_folder(folder, images)
    if labelme.find_jsons(folder):
        return labelme.read_labelme(folder, images)
    raise InputError(f"convert: '{folder}' has none of {_LOOKED_FOR}. Give the file of labels itself.")


def _read_json(path: Path, images: Path | None) -> Parts:
    content = load_json(path, "a json file of labels")
    if coco.is_coco(content):
        beside = path.parent / "images"
        return {"all": coco.read_labels(path, images or (beside if beside.is_dir() else path.parent))}
    if label_studio.is_label_studio(content):
        return label_studio.read_label_studio(path, images)
    if labelme.is_labelme(content):
        raise InputError(f"convert: '{path}' is one image of LabelMe. Give the folder '{path.parent}'.")
    raise InputError(f"convert: '{path}' is no json of COCO, Label Studio or LabelMe")
