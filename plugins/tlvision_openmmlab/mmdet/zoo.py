"""Find the configs of mmdet and this plugin and read them as text: neither mmdet nor torch is imported.

A config's name is its file name without ".py", as mmdet's model zoo has it. A path works in its place.
"""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tlvision_openmmlab.common.zoo import check_installed, config_path, zoo_folder

# Folders of the zoo that hold no trainable detector of its own: parts, trackers, distillation and semi-supervision
# (whose methods are hooks here), models that need proposals or text as
# input, and panoptic segmenters.
_NOT_DETECTORS = frozenset(
    {
        "_base_",
        "bytetrack",
        "common",
        "deepsort",
        "dsdl",
        "fast_rcnn",
        "glip",
        "grounding_dino",
        "lad",
        "ld",
        "legacy_1.x",
        "mask2former_vis",
        "maskformer",
        "masktrack_rcnn",
        "misc",
        "mm_grounding_dino",
        "ocsort",
        "panoptic_fpn",
        "qdtrack",
        "reid",
        "rpn",
        "soft_teacher",
        "sort",
        "strongsort",
    }
)
# What the text of a config, its bases included, has where the model finds masks.
_MASKS = re.compile(r"\bmask_head\s*[=:]|\btype=['\"](RTMDetInsSepBNHead|Mask2Former|SOLO|SOLOv2|YOLACT|CondInst)['\"]")
_NO_DETECTOR = re.compile(r"['\"]?type['\"]?\s*[=:]\s*['\"](RPN|FastRCNN)['\"]")
_BASES = re.compile(r"^_base_\s*=\s*(\[.*?\]|\(.*?\)|['\"].*?['\"])", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class ZooConfig:
    """One config.

    name: as `BuildSpec.arch` has it. path: the file. task: "detect" or "instance".
    """

    name: str
    path: Path
    task: str


@cache
def zoo() -> dict[str, Path]:
    """Return `{name: file}` of this plugin's own configs and of the detectors in the zoo; empty without mmdet."""
    folder = zoo_folder("mmdet")
    if folder is None:
        return {}
    files = sorted((Path(__file__).parent / "configs").glob("*.py"))
    files += sorted(path for path in folder.glob("*/*.py") if path.parent.name not in _NOT_DETECTORS)
    return {path.stem: path for path in files if _is_detector(path) and not path.stem.endswith("panoptic")}


def find_config(arch: str) -> ZooConfig:
    """Return the config that `arch` names: a name of the zoo, or the path of a config; see `common.zoo.config_path`."""
    path = config_path(arch, zoo(), "mmdet", "detector")
    return ZooConfig(arch, path, task_of(path))


def check_mmdet() -> None:
    """Raise InputError with the pip command where mmdet, mmengine or mmcv is missing."""
    check_installed("mmdet", ["mmdet", "mmengine", "mmcv"])


def task_of(path: Path) -> str:
    """Return "instance" if the model of the config predicts masks, "detect" if it predicts only boxes."""
    return "instance" if _MASKS.search(_whole_text(path)) else "detect"


def _is_detector(path: Path) -> bool:
    text = _whole_text(path)
    return bool(re.search(r"^model\s*=|model\.update", text, re.MULTILINE)) and not _NO_DETECTOR.search(text)


@cache
def _whole_text(path: Path) -> str:
    """Return the text of a config and, before it, of all it is based on; a base that does not exist counts as empty."""
    if not path.is_file():
        return ""
    text = path.read_text(encoding="utf-8")
    found = _BASES.search(text)
    bases = ast.literal_eval(found.group(1)) if found else []
    bases = [bases] if isinstance(bases, str) else bases
    inherited = [_whole_text(_base_file(path, base)) for base in bases]
    return "\n".join([*inherited, text])


def _base_file(path: Path, base: str) -> Path:
    """Return the file that the config at `path` names as `base`: relative to itself, or in the zoo ("mmdet::…")."""
    scope, _, inside = base.rpartition("::")
    folder = zoo_folder("mmdet") if scope == "mmdet" else path.parent
    return ((folder or path.parent) / inside).resolve()
