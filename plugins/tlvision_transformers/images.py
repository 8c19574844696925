"""The image format of a model: what upstream's image processor does, as data."""

from __future__ import annotations

import math
from typing import Any

from tlvision.files.json_files import read_object
from tlvision.types import InputSpec
from tlvision_transformers.upstream import image_processor_class
from tlvision_transformers.zoo import Architecture

_PROCESSOR = "preprocessor_config.json"
_KEYS = ("do_normalize", "image_mean", "image_std", "size")
_COARSEST = 32

_SQUARE = {"rf_detr": {"height": 560, "width": 560}, "lw_detr": {"height": 640, "width": 640}}
"""Kinds of model that are trained on stretched images, although the default of their image processor is another."""


_PATCHES = {"yolos", "dpt", "eomt", "eomt_dinov3"}
"""Kinds of model whose sides must be multiples of the patch size."""


def input_spec(arch: Architecture, config: Any) -> InputSpec:
    """Return the format of `preprocessor_config.json` next to the model's config, or of upstream's defaults.

    A fixed size (`height` and `width`) is "stretch", any other a letterbox with the image in its corner, padded with
    zeros after normalisation.
    """
    defaults = image_processor_class(config)
    settings = {key: getattr(defaults, key) for key in _KEYS}
    settings["size"] = _SQUARE.get(arch.model_type, settings["size"])
    file = arch.folder / _PROCESSOR if arch.folder is not None else None
    if file is not None and file.is_file():
        given = read_object(file, "Write it again with save_pretrained, or remove it.")
        settings |= {key: given[key] for key in _KEYS if given.get(key) is not None}
    mean, std = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    if settings["do_normalize"]:
        mean, std = _three(settings["image_mean"]), _three(settings["image_std"])
    stretched = isinstance(settings["size"], dict) and "height" in settings["size"]
    return InputSpec(
        resize="stretch" if stretched else "letterbox",
        place="corner",
        multiple_of=multiple_of(config),
        mean=mean,
        std=std,
        pad_value=(round(255 * mean[0]), round(255 * mean[1]), round(255 * mean[2])),
    )


def multiple_of(config: Any) -> int:
    """Return of what the height and width of an image must be a multiple, in pixels."""
    backbone: Any = getattr(config, "backbone_config", None)
    patch: Any = getattr(backbone, "patch_size", None) or getattr(config, "patch_size", None)
    windows: Any = getattr(backbone, "num_windows", None)
    if config.model_type == "rf_detr":
        return int(patch * windows)
    if config.model_type == "lw_detr":
        return int(patch * math.isqrt(windows))  # that many windows in all, not along a side
    return math.lcm(_COARSEST, patch) if config.model_type in _PATCHES else _COARSEST


def _three(values: Any) -> tuple[float, float, float]:
    red, green, blue = (float(value) for value in values)
    return red, green, blue
