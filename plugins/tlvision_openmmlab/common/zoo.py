"""Find the configs that an OpenMMLab library ships, without importing it.

A config's name is its file name without ".py", as the library's model zoo has it. A path works in its place.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

from tlvision.types import InputError, nearest


def zoo_folder(library: str) -> Path | None:
    """Return the folder of the configs that the installed library ships; None where it is not installed."""
    found = find_spec(library)
    if found is None or found.origin is None:
        return None
    package = Path(found.origin).parent
    shipped = package / ".mim" / "configs"
    return shipped if shipped.is_dir() else package.parent / "configs"  # beside the package in a checkout


def config_path(arch: str, zoo: Mapping[str, Path], library: str, kind: str) -> Path:
    """Return the file of the config that `arch` names: a name of `zoo`, or the path of a config.

    A name may carry its folder in front ("faster_rcnn/faster-rcnn_r50_fpn_1x_coco"). kind: what its models are, for
    the message. Raises InputError with the nearest name where there is none, or where the library is not installed.
    """
    path = Path(arch) if arch.endswith(".py") else zoo.get(arch.rsplit("/", 1)[-1])
    if path is not None and path.is_file():
        return path
    if arch.endswith(".py"):
        raise InputError(f"model.arch: no config '{arch}'; give the path of an {library} config, or a name of its zoo")
    check_installed(library, [library, "mmengine", "mmcv"])
    raise InputError(f"model.arch: {library}'s zoo has no {kind} '{arch}'.{nearest(arch, zoo)}")


def check_installed(plugin: str, packages: Sequence[str]) -> None:
    """Raise InputError with the pip command where a package that the plugin needs is missing."""
    missing = [name for name in packages if find_spec(name) is None]
    if missing:
        raise InputError(
            f"model.plugin: '{plugin}' needs {', '.join(missing)}, which is not installed: "
            "pip install 'tlvision[openmmlab]'"
        )
