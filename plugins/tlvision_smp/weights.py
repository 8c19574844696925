"""Read the tensors that "imagenet" or a path refers to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tlvision.plugin.weights.files import read_tensors
from tlvision.plugin.weights.tensor_file import TensorFile
from tlvision.types import InputError
from tlvision_smp.architectures import Architecture, import_upstream

_PARTS = ("encoder.", "decoder.", "segmentation_head.")
_TAGS = ("imagenet", "imagenet+5k")
"""What smp calls weights from ImageNet; the second were trained on 5000 more of its classes first."""


@dataclass(frozen=True, slots=True)
class Source:
    """A weight file, and whose weights it holds.

    file:       its tensors, and its class names where they are known.
    of_encoder: whether they are the encoder's, or its classifier's; else they are a whole segmenter's.
    """

    file: TensorFile
    of_encoder: bool


def find_weights(arch: Architecture, weights: str) -> Source | None:
    """Read the file that `weights` refers to; None for "none".

    Raises InputError where they are not offered, cannot be downloaded, or the file cannot be read.
    """
    if weights == "none":
        return None
    if weights == "coco":
        raise InputError(
            "model.weights: smp has no 'coco' weights; give 'imagenet' for the encoder, 'none' or the path of a file"
        )
    if weights == "imagenet":
        return Source(_download(arch), of_encoder=True)
    file = read_tensors(weights)
    return Source(file, of_encoder=not any(key.startswith(_PARTS) for key in file.tensors))


def _download(arch: Architecture) -> TensorFile:
    """Return what smp or timm has for the encoder; from the cache of huggingface_hub where it is there."""
    what, fetch = _offer(arch)
    try:
        return fetch()
    # No network, no such page, no space; timm has a name and no weights for it.
    except (OSError, RuntimeError, ValueError) as error:
        raise InputError(
            f"model.weights: 'imagenet' wants {what}, which is not in the cache of huggingface_hub and could not be "
            f"downloaded ({type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no reason given'}); "
            "fetch it on a connected machine and give its path, or a classifier's file of torchvision or timm"
        ) from error


def _offer(arch: Architecture) -> tuple[str, Callable[[], TensorFile]]:
    """Return what would be fetched, in words, and the function that fetches it; InputError where smp offers none."""
    if arch.encoder.startswith("tu-"):
        name = arch.encoder.removeprefix("tu-")
        config = import_upstream("timm").models.get_pretrained_cfg(name, allow_unregistered=True)
        where = f" (huggingface.co/{config.hf_hub_id})" if config is not None and config.hf_hub_id else ""
        return f"timm's weights of '{name}'{where}", lambda: _from_timm(name)
    settings = import_upstream("segmentation_models_pytorch").encoders.encoders[arch.encoder]["pretrained_settings"]
    tag = next((tag for tag in _TAGS if tag in settings), None)
    if tag is None:
        raise InputError(
            f"model.weights: smp has no 'imagenet' weights for '{arch.encoder}', only {', '.join(settings)}; give the "
            "path of a file (huggingface.co has smp's under "
            f"{', '.join(str(each['repo_id']) for each in settings.values())}), or 'none'"
        )
    repository, revision = settings[tag]["repo_id"], settings[tag]["revision"]
    return (
        f"model.safetensors of huggingface.co/{repository} at {revision}",
        lambda: _from_hub(repository, revision),
    )


def _from_hub(repository: str, revision: str) -> TensorFile:
    hub = import_upstream("huggingface_hub")
    return read_tensors(Path(hub.hf_hub_download(repository, filename="model.safetensors", revision=revision)))


def _from_timm(name: str) -> TensorFile:
    return TensorFile(Path(name), import_upstream("timm").create_model(name, pretrained=True).state_dict())
