"""Find the file that "coco", "imagenet" or a path refers to: in torch's hub cache, downloaded, or given."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import torch
from torchvision.models import get_model_weights, get_weight

from tlvision.plugin.weights.files import read_tensors
from tlvision.plugin.weights.tensor_file import TensorFile
from tlvision.types import InputError
from tlvision_torchvision.architectures import ARCHITECTURES, Architecture


@dataclass(frozen=True, slots=True)
class Source:
    """A weight file, and whose weights it holds.

    file:        its tensors, and its class names without the background's where they are known.
    of_detector: whether they are a whole detector's; else they are a classifier's, for the backbone.
    """

    file: TensorFile
    of_detector: bool


def find_weights(arch: Architecture, weights: str) -> Source | None:
    """Read the file that `weights` refers to; None for "none".

    A file with the name of torchvision's own COCO weights has COCO's class names wherever it lies.

    Raises InputError where they are not offered, cannot be downloaded, or the file cannot be read.
    """
    if weights == "none":
        return None
    if weights == "coco":
        return _named(read_tensors(_download(coco_weights(arch), weights)), arch)
    if weights == "imagenet":
        return Source(read_tensors(_download(imagenet_weights(arch), weights)), of_detector=False)
    return _named(read_tensors(weights), arch)


def coco_weights(arch: Architecture) -> Any:
    """Return torchvision's COCO weights of `arch`; InputError where it has none."""
    if not arch.coco:
        offered = ", ".join(name for name, each in ARCHITECTURES.items() if each.coco)
        raise InputError(
            f"model.weights: torchvision has no 'coco' weights for '{arch.name}'; it has them for {offered}; "
            "give 'imagenet' for the backbone alone, 'none' or a path"
        )
    return get_weight(f"{arch.coco}.COCO_V1")


def imagenet_weights(arch: Architecture) -> Any:
    """Return the first of torchvision's ImageNet weights for the backbone, which upstream's detectors begin from."""
    return get_model_weights(arch.backbone).IMAGENET1K_V1


def _named(file: TensorFile, arch: Architecture) -> Source:
    of_detector = any(key.startswith("backbone.") for key in file.tensors)
    if file.class_names is None and arch.coco and file.path.name == _file_name(coco_weights(arch)):
        categories = tuple(coco_weights(arch).meta["categories"])
        file = replace(file, class_names=categories[1:] if arch.has_background else categories)
    return Source(file, of_detector)


def _file_name(weights: Any) -> str:
    return Path(urlparse(weights.url).path).name


def _download(weights: Any, given: str) -> Path:
    """Return the file of `weights` in torch's hub cache, downloaded and its hash checked where it is not there yet."""
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    path = folder / _file_name(weights)
    if path.is_file():
        return path
    try:
        folder.mkdir(parents=True, exist_ok=True)
        named = torch.hub.HASH_REGEX.search(path.name)
        prefix = named[1] if named else None
        torch.hub.download_url_to_file(weights.url, str(path), hash_prefix=prefix, progress=True)
    except (OSError, RuntimeError) as error:  # no network, no such page, no space; a hash that is another
        raise InputError(
            f"model.weights: '{given}' wants torchvision's file {path.name}, which is not in '{folder}' and could not "
            f"be downloaded ({type(error).__name__}: {error}); fetch it on a connected machine from {weights.url} and "
            f"put it there, or give 'weights: path/to/{path.name}'"
        ) from error
    return path
