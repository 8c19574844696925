"""The architectures by name, and where ultralytics keeps the description and the weights of each. Data only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from tlvision.types import InputError, nearest


@dataclass(frozen=True, slots=True)
class Architecture:
    """One size of one family.

    name:    its name in a config, for example "yolov8n".
    yaml:    ultralytics' description of it, below its `cfg/models`.
    scale:   which of the description's scales it is; empty if the description has none.
    weights: file name of ultralytics' COCO weights.
    task:    of the architecture.
    """

    name: str
    yaml: str
    scale: str
    weights: str
    task: str = "detect"


def _table() -> Mapping[str, Architecture]:
    rows = {}
    for size in "nsmlx":
        # Since their move to an anchor-free head the v5 models are called yolov5nu; people write yolov5n.
        rows[f"yolov5{size}"] = Architecture(f"yolov5{size}", "v5/yolov5.yaml", size, f"yolov5{size}u.pt")
        rows[f"yolov5{size}u"] = rows[f"yolov5{size}"]
        for family, yaml in (
            ("yolov8", "v8/yolov8.yaml"),
            ("yolo11", "11/yolo11.yaml"),
            ("yolo12", "12/yolo12.yaml"),
            ("yolo26", "26/yolo26.yaml"),
        ):
            rows[f"{family}{size}"] = Architecture(f"{family}{size}", yaml, size, f"{family}{size}.pt")
        for family, yaml in (
            ("yolov8", "v8/yolov8-seg.yaml"),
            ("yolo11", "11/yolo11-seg.yaml"),
            ("yolo26", "26/yolo26-seg.yaml"),
        ):
            name = f"{family}{size}-seg"
            rows[name] = Architecture(name, yaml, size, f"{name}.pt", "instance")
    for size in "tsmce":
        name = f"yolov9{size}"
        rows[name] = Architecture(name, f"v9/{name}.yaml", "", f"{name}.pt")
    for size in "nsmblx":
        name = f"yolov10{size}"
        rows[name] = Architecture(name, f"v10/{name}.yaml", size, f"{name}.pt")
    return MappingProxyType(rows)


ARCHITECTURES = _table()


def find_architecture(name: str) -> Architecture:
    """Return the architecture called `name`; InputError with the nearest name where there is none."""
    try:
        return ARCHITECTURES[name]
    except KeyError:
        raise InputError(
            f"model.arch: plugin 'yolo' has no architecture '{name}'.{nearest(name, ARCHITECTURES)}"
        ) from None
