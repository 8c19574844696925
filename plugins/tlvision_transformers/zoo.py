"""Find the architecture that a name, a `config.json` or a folder refers to. Imports neither torch nor transformers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from typing import Any

from tlvision.types import InputError, listing, nearest
from tlvision_transformers.configs import DETECTORS, MASK_TRANSFORMERS, SEGMENTERS, Published

DETECTOR_TYPES = (
    "rt_detr_v2",
    "rt_detr",
    "d_fine",
    "deimv2",
    "detr",
    "conditional_detr",
    "dab-detr",
    "deformable_detr",
    "yolos",
    "rf_detr",
    "lw_detr",
)
SEGMENTER_TYPES = ("segformer", "upernet", "dpt")
INSTANCE_TYPES = ("mask2former", "eomt", "eomt_dinov3")
MASK_TYPES = (*INSTANCE_TYPES, "maskformer")
"""Values of `model_type` in a `config.json` that this plugin has adapters for."""

INSTANCE = "#instance"
"""Ending of the path of a mask transformer's config that asks for the task "instance"."""


@dataclass(frozen=True, slots=True)
class Architecture:
    """One model.

    name:       as `BuildSpec.arch` has it.
    model_type: upstream's name of the kind of model.
    task:       "detect", "semantic" or "instance".
    config:     upstream's configuration, the values that are not its defaults.
    published:  `{value of model.weights: name on huggingface.co}`.
    folder:     where the configuration was read from, with the image processor's next to it; None for a name.
    """

    name: str
    model_type: str
    task: str
    config: Mapping[str, Any]
    published: Mapping[str, str] = field(default_factory=dict)
    folder: Path | None = None


def _table() -> Mapping[str, Architecture]:
    def entries(models: Mapping[str, Published], task: str, suffix: str = "") -> dict[str, Architecture]:
        return {
            name + suffix: Architecture(
                name + suffix, each.model_type, task, each.config_for(task), each.weights_for(task)
            )
            for name, each in models.items()
        }

    return MappingProxyType(
        entries(DETECTORS, "detect")
        | entries(SEGMENTERS, "semantic")
        | entries(MASK_TRANSFORMERS, "semantic")
        | {
            name: each
            for name, each in entries(MASK_TRANSFORMERS, "instance", "_instance").items()
            if each.model_type in INSTANCE_TYPES
        }
    )


ARCHITECTURES: Mapping[str, Architecture] = _table()


def find_architecture(arch: str) -> Architecture:
    """Return the architecture called `arch`, or that of the `config.json` or folder at the path `arch`.

    Raises InputError with the nearest name if there is none, or if a config cannot be read or is of a kind of model
    that this plugin has no adapter for.
    """
    if arch in ARCHITECTURES:
        return ARCHITECTURES[arch]
    path = Path(arch.removesuffix(INSTANCE))
    if path.suffix != ".json" and not path.is_dir():
        raise InputError(
            f"model.arch: plugin 'transformers' has no '{arch}', and there is no such folder."
            f"{nearest(arch, ARCHITECTURES)}"
        )
    file = path / "config.json" if path.is_dir() else path
    config = _read_config(file)
    kind = config["model_type"]
    task = _task(arch, kind)
    return Architecture(arch, kind, task, MappingProxyType(config), {}, file.parent)


def check_installed() -> None:
    """Raise InputError with the pip command if transformers or what its losses need is missing."""
    missing = [name for name in ("transformers", "scipy") if find_spec(name) is None]
    if missing:
        raise InputError(
            f"model.plugin: 'transformers' needs {listing(missing)}, which is not installed: "
            "pip install 'tlvision[transformers]'"
        )


def _read_config(file: Path) -> dict[str, Any]:
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"model.arch: the config '{file}' cannot be read ({error}). Give one that exists.") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"model.arch: the config '{file}' is no JSON ({error}). Write it again.") from error
    known = (*DETECTOR_TYPES, *SEGMENTER_TYPES, *MASK_TYPES)
    kind = config.get("model_type") if isinstance(config, dict) else None
    if kind not in known:
        raise InputError(
            f"model.arch: the config '{file}' has the model_type {kind!r}. Supported are {', '.join(known)}."
        )
    return dict(config)


def _task(arch: str, kind: str) -> str:
    if arch.endswith(INSTANCE):
        if kind not in INSTANCE_TYPES:
            raise InputError(
                f"model.arch: '{arch}' asks for the task instance, which {kind} does not have here. Those that do are "
                f"{', '.join(INSTANCE_TYPES)}. "
                f"Remove '{INSTANCE}'."
            )
        return "instance"
    return "detect" if kind in DETECTOR_TYPES else "semantic"
