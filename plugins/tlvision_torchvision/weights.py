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
from tlvision_timm.names import timm_name
from tlvision_timm.weights import pretrained_file
from tlvision_torchvision.architectures import ARCHITECTURES, Architecture


@dataclass(frozen=True, slots=True)
class Source:
    """A weight file, and whose weights it holds.

    file:  its tensors, and its class names where they are known, a detector's without the background's.
    whole: whether they are a whole detector's or segmenter's; else they are a classifier's, for the backbone.
    """

    file: TensorFile
    whole: bool


def find_weights(arch: Architecture, weights: str) -> Source | None:
    """Read the file that `weights` refers to; None for "none".

    A file with the name of torchvision's own COCO weights has COCO's class names wherever it lies.

    Raises InputError if they are not offered, cannot be downloaded, or the file cannot be read.
    """
    if weights == "none":
        return None
    if weights == "coco":
        return _named(read_tensors(download(coco_weights(arch), weights)), arch)
    if weights == "imagenet" and arch.on_timm:
        return Source(pretrained_file(timm_name(arch.backbone), weights), whole=False)
    if weights == "imagenet":
        return Source(read_tensors(download(imagenet_weights(arch.backbone), weights)), whole=False)
    return _named(read_tensors(weights), arch)


def coco_weights(arch: Architecture) -> Any:
    """Return torchvision's COCO weights of `arch`; InputError if it has none."""
    if not arch.coco:
        offered = ", ".join(name for name, each in ARCHITECTURES.items() if each.coco)
        raise InputError(
            f"model.weights: torchvision has no 'coco' weights for '{arch.name}'; it has them for {offered}; "
            "give 'imagenet' for the backbone only, 'none' or a path"
        )
    return get_weight(f"{arch.coco}.COCO_V1")


def imagenet_weights(backbone: str) -> Any:
    """Return the first of torchvision's ImageNet weights, which upstream's detectors and segmenters begin from."""
    return get_model_weights(backbone).IMAGENET1K_V1


def _named(file: TensorFile, arch: Architecture) -> Source:
    whole = is_whole(file)
    if file.class_names is None and arch.coco and file.path.name == file_name(coco_weights(arch)):
        categories = tuple(coco_weights(arch).meta["categories"])
        file = replace(file, class_names=categories[1:] if arch.has_background else categories)
    return Source(file, whole)


def is_whole(file: TensorFile) -> bool:
    """Return whether a file holds a detector or a segmenter; a classifier has no part called backbone."""
    return any(key.startswith("backbone.") for key in file.tensors)


def file_name(weights: Any) -> str:
    """Return the name of the file of torchvision's `weights` in torch's hub cache."""
    return Path(urlparse(weights.url).path).name


def download(weights: Any, given: str) -> Path:
    """Return the file of `weights` in torch's hub cache, downloaded and its hash checked where it is not there yet.

    given: `model.weights`, for the message.

    Raises InputError with what to do offline if it cannot be downloaded.
    """
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    path = folder / file_name(weights)
    if path.is_file():
        return path
    try:
        folder.mkdir(parents=True, exist_ok=True)
        named = torch.hub.HASH_REGEX.search(path.name)
        prefix = named[1] if named else None
        torch.hub.download_url_to_file(weights.url, str(path), hash_prefix=prefix, progress=True)
    except (OSError, RuntimeError) as error:  # no network, no such page, no space; a hash that is another
        raise InputError(
            f"model.weights: '{given}' needs torchvision's file {path.name}, which is not in '{folder}' and could not "
            f"be downloaded ({type(error).__name__}: {error}); fetch it on a connected machine from {weights.url} and "
            f"put it there, or give 'weights: path/to/{path.name}'"
        ) from error
    return path
