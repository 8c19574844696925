"""Checkpoints: a folder of safetensors and JSON, written whole or not at all; nothing in it is ever executed."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from tlvision.files.json_files import read_object, write_json
from tlvision.inference.finite import first_bad_tensor
from tlvision.plugin.weights.files import class_names_of
from tlvision.types import ClassMap, InputError

if TYPE_CHECKING:
    from torch import Tensor, nn

MODEL = "model.safetensors"


def save_weights(path: Path, state: Mapping[str, Tensor], classes: ClassMap) -> None:
    """Write weights by state-dict name, with the class names in the file's metadata."""
    # One key alone: safetensors writes several in an order of its own each time, and equal runs would differ in bytes.
    save_file(_contiguous(state), str(path), metadata={"classes": json.dumps(list(classes.names))})


def save_tensors(path: Path, values: Mapping[str, Any]) -> None:
    """Write a mapping of tensors and JSON values: tensors to `path`, the rest to a JSON file next to it."""
    tensors = {name: value for name, value in values.items() if isinstance(value, torch.Tensor)}
    others = {name: value for name, value in values.items() if not isinstance(value, torch.Tensor)}
    save_file(_contiguous(tensors), str(path), metadata={"format": "pt"})
    # Kept, not refused: the best value of a hook starts at -inf.
    write_json(path.with_suffix(".json"), others, nan="keep")


def load_tensors(path: Path) -> dict[str, Any]:
    """Return what `save_tensors` wrote. Raises InputError that names the file if it is missing or damaged."""
    others = read_object(path.with_suffix(".json"), "Resume from another run or start again.")
    return {**others, **_read_tensors(path)}


def _read_tensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(str(path))
    except (OSError, ValueError, SafetensorError) as error:
        raise InputError(
            f"checkpoint: '{path}' cannot be read ({error}); resume from another run or start again"
        ) from error


def read_class_names(path: Path) -> tuple[str, ...] | None:
    """Return the class names in the metadata of a checkpoint's weights; None if there are none.

    Raises InputError that names the file if it cannot be read, or if its names are not a list of texts.
    """
    try:
        with safe_open(str(path), framework="pt") as file:
            return class_names_of(file.metadata(), path)
    except (OSError, SafetensorError) as error:
        raise InputError(
            f"checkpoint: '{path}' cannot be read ({error}); resume from another run or start again"
        ) from error


def _contiguous(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return CPU copies that share no memory: safetensors refuses two names for one storage."""
    seen: set[int] = set()
    result = {}
    for name, tensor in state.items():
        value = tensor.detach().to("cpu").contiguous()
        storage = value.untyped_storage().data_ptr()
        result[name] = value.clone() if storage in seen else value
        seen.add(storage)
    return result


def optimizer_state(optimizer: torch.optim.Optimizer, names: Mapping[int, str]) -> dict[str, Any]:
    """Return the optimizer's state by parameter name; `names` maps `id(parameter)` to it."""
    return {
        f"{names[id(parameter)]}|{key}": value
        for parameter, state in optimizer.state.items()
        for key, value in state.items()
    }


def load_optimizer_state(
    optimizer: torch.optim.Optimizer,
    names: Mapping[int, str],
    saved: Mapping[str, Any],
    *,
    skip_unknown: bool = False,
) -> None:
    """Put back what `optimizer_state` gave, by name, on each parameter's device.

    skip_unknown: leave out the state of parameters that the optimizer does not have, rather than raise KeyError.
    """
    by_name = {names[id(parameter)]: parameter for group in optimizer.param_groups for parameter in group["params"]}
    for key, value in saved.items():
        name, _, what = key.rpartition("|")
        if skip_unknown and name not in by_name:
            continue
        parameter = by_name[name]
        optimizer.state[parameter][what] = _beside(parameter, value) if isinstance(value, torch.Tensor) else value


def _beside(parameter: Tensor, value: Tensor) -> Tensor:
    """Return `value` on the parameter's device and in its layout: fused kernels walk both side by side in memory."""
    if value.shape != parameter.shape:
        return value.to(parameter.device)
    return torch.empty_like(parameter, dtype=value.dtype).copy_(value)


def random_state() -> dict[str, Any]:
    """Return the state of every random generator of this process, as tensors and JSON values."""
    kind, keys, position, has_gauss, cached = np.random.get_state(legacy=True)
    version, words, gauss = random.getstate()
    state: dict[str, Any] = {
        "torch": torch.get_rng_state(),
        "numpy": [str(kind), np.asarray(keys).tolist(), int(position), int(has_gauss), float(cached)],
        "python": [version, list(words), gauss],
    }
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def set_random_state(state: Mapping[str, Any]) -> None:
    """Put back what `random_state` gave."""
    torch.set_rng_state(state["torch"])
    kind, keys, position, has_gauss, cached = state["numpy"]
    np.random.set_state((kind, np.asarray(keys, np.uint32), position, has_gauss, cached))
    version, words, gauss = state["python"]
    random.setstate((version, tuple(words), gauss))
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])


def load_model_strictly(module: nn.Module, path: Path) -> None:
    """Fill `module` from a checkpoint's weights, every key of both sides.

    Raises InputError if a key or a shape does not fit, or if a tensor is not finite.
    """
    state = _read_tensors(path)
    try:
        missing, unexpected = module.load_state_dict(state, strict=False)
    except RuntimeError as error:  # a tensor of another shape
        raise InputError(
            f"checkpoint: '{path}' does not fit this model ({str(error).splitlines()[-1].strip()}); it was written "
            "with another architecture or plugin version"
        ) from error
    if missing or unexpected:
        raise InputError(
            f"checkpoint: '{path}' does not fit this model: {len(missing)} keys missing, {len(unexpected)} unknown, "
            f"for example '{(missing + unexpected)[0]}'; it was written with another architecture or plugin version"
        )
    bad = first_bad_tensor(module)
    if bad is not None:
        raise InputError(
            f"checkpoint: '{path}' is damaged: the tensor '{bad}' is not finite. Use another checkpoint, or train "
            "again with a lower train.lr"
        )
