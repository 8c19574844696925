"""Files of timm's models for the backbone of a larger model: found, and renamed to its keys."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from tlvision.plugin.weights.tensor_file import TensorFile
from tlvision.types import InputError, listing
from tlvision_timm.backbone import TimmBackbone
from tlvision_timm.names import check_name, import_timm

_COUNTER = "num_batches_tracked"


def pretrained_file(name: str, given: str) -> TensorFile:
    """Return the weights that timm has for its model `name`, from the cache of huggingface_hub or downloaded.

    given: `model.weights`, for the message.

    Raises InputError with what to do offline if they cannot be had.
    """
    check_name(name)
    timm = import_timm()
    config = timm.models.get_pretrained_cfg(name, allow_unregistered=True)
    where = f" (huggingface.co/{config.hf_hub_id})" if config is not None and config.hf_hub_id else ""
    try:
        return TensorFile(Path(name), dict(timm.create_model(name, pretrained=True).state_dict()))
    # No network, no such page, no space; timm has a name and no weights for it.
    except (OSError, RuntimeError, ValueError) as error:
        reason = (str(error).strip().splitlines() or ["no reason given"])[0]
        raise InputError(
            f"model.weights: '{given}' needs timm's weights of '{name}'{where}, which are not in the cache of "
            f"huggingface_hub and could not be downloaded ({type(error).__name__}: {reason}); fetch model.safetensors "
            "on a connected machine and give its path"
        ) from error


def fit(file: TensorFile, backbone: TimmBackbone, prefix: str) -> TensorFile:
    """Return the file of a model of timm with the keys of a larger model that has it as `backbone`.

    file:   of a whole model (a key begins with `prefix`), which is returned as it is; of timm's model; or of its
            authors, in a form that timm itself converts (`checkpoint_filter_fn`).
    prefix: of the keys of `backbone` in the larger model, for example "backbone.".

    Keys of the classification layer keep their names. Raises InputError if a tensor of the backbone is not in the file
    or has another shape.
    """
    if any(key.startswith(prefix) for key in file.tensors):
        return file
    fitted = replace(file, tensors=_renamed(file.tensors, backbone, prefix))
    if _problems(fitted, file, backbone, prefix):
        converted = replace(file, tensors=_renamed(_converted(file.tensors, backbone), backbone, prefix))
        fitted = fitted if _problems(converted, file, backbone, prefix) else converted
    problems = _problems(fitted, file, backbone, prefix)
    if problems:
        raise InputError(
            f"model.weights: '{file.path}' does not fit the backbone '{backbone.model.name}' of timm: "
            f"{' and '.join(problems)}; set the backbone to what the file holds, or give its own weights"
        )
    return fitted


def _renamed(tensors: Mapping[str, Tensor], backbone: TimmBackbone, prefix: str) -> dict[str, Tensor]:
    names = {_plain(key): f"{prefix}net.{key}" for key in backbone.net.state_dict()}
    return {names.get(_plain(key), key): tensor for key, tensor in tensors.items()}


def _plain(key: str) -> str:
    """Return `key` as timm's classifier has it: where it gives maps, it writes 'stages_0' for 'stages.0', or 'model.'.

    >>> _plain("stages_0.blocks.1.gamma"), _plain("model.blocks.0.norm1.weight")
    ('stages.0.blocks.1.gamma', 'blocks.0.norm1.weight')
    """
    return re.sub(r"_(\d+)(?=\.)", r".\1", key.removeprefix("model."))


def _converted(tensors: dict[str, Tensor], backbone: TimmBackbone) -> dict[str, Tensor]:
    """Return the tensors as timm converts those of a model's authors; unchanged if it cannot."""
    classifier: Any = import_timm().create_model(backbone.model.name)
    convert = getattr(sys.modules[type(classifier).__module__], "checkpoint_filter_fn", None)
    if convert is None:
        return tensors
    try:
        return dict(convert(dict(tensors), classifier))
    except (KeyError, ValueError, TypeError, AttributeError, IndexError, AssertionError, RuntimeError):
        return tensors  # another model's; the check of the keys says so


def _problems(fitted: TensorFile, file: TensorFile, backbone: TimmBackbone, prefix: str) -> list[str]:
    """Return in words which tensors of the backbone are not in the file or have another shape there."""
    state = {f"{prefix}net.{key}": tensor for key, tensor in backbone.net.state_dict().items()}
    absent = [key for key in state if key not in fitted.tensors and not key.endswith(_COUNTER)]
    wrong = fitted.other_shapes(state)
    found = []
    if absent:
        found.append(
            f"{len(absent)} of the {len(state)} tensors of the backbone are not in it ({listing(absent, limit=2)}; in "
            f"it: {listing(file.tensors, limit=2)})"
        )
    if wrong:
        found.append(f"{len(wrong)} have another shape ({listing(wrong, limit=2)})")
    return found
