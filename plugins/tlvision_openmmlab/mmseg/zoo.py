"""Find the configs of mmseg and this plugin by their files: neither mmseg nor torch is imported."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from tlvision_openmmlab.common.zoo import check_installed, config_path, zoo_folder

# Folders of the zoo that hold no segmenter of its own: parts, another format of data, a model that reads text, and one
# that tells depth.
_NOT_SEGMENTERS = frozenset({"_base_", "dsdl", "san", "vpd"})


@cache
def zoo() -> dict[str, Path]:
    """Return `{name: file}` of this plugin's own configs and of the segmenters in the zoo; empty without mmseg."""
    folder = zoo_folder("mmseg")
    if folder is None:
        return {}
    files = sorted((Path(__file__).parent / "configs").glob("*.py"))
    files += sorted(path for path in folder.glob("*/*.py") if path.parent.name not in _NOT_SEGMENTERS)
    return {path.stem: path for path in files}


def find_config(arch: str) -> Path:
    """Return the config that `arch` names: a name of the zoo, or the path of a config; see `common.zoo.config_path`."""
    return config_path(arch, zoo(), "mmseg", "segmenter")


def check_mmseg() -> None:
    """Raise InputError with the pip command if mmseg or one of its dependencies is missing."""
    check_installed("mmseg", ["mmseg", "mmengine", "mmcv", "ftfy", "regex"])
