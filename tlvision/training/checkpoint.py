"""Checkpoints: a folder of safetensors and JSON, written whole or not at all; nothing in it is ever executed."""

from __future__ import annotations

import errno
import json
import random
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from tlvision.types import ClassMap, InputError, RunError

if TYPE_CHECKING:
    from torch import Tensor, nn

MODEL = "model.safetensors"


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Yield an empty folder to write into; it takes the place of `path` only once the block has ended well.

    A process killed at any moment leaves the old folder or the new one, at `path` or beside it, where `find_folder`
    finds it. A full disk becomes a RunError that says what is still whole.
    """
    fresh, old = path.with_name(f".{path.name}.new"), path.with_name(f".{path.name}.old")
    shutil.rmtree(fresh, ignore_errors=True)
    try:
        fresh.mkdir(parents=True)
        yield fresh
    except (OSError, SafetensorError) as error:
        shutil.rmtree(fresh, ignore_errors=True)
        if getattr(error, "errno", None) == errno.ENOSPC or "No space left" in str(error):
            whole = f"; the earlier checkpoint in {path} is whole" if path.exists() else ""
            raise RunError(
                f"the disk is full: {path} could not be written{whole}; free space, then --resume"
            ) from error
        raise
    if path.exists():
        shutil.rmtree(old, ignore_errors=True)
        path.rename(old)
    fresh.rename(path)
    shutil.rmtree(old, ignore_errors=True)


def find_folder(path: Path) -> Path:
    """Return `path`, or the whole folder that an interrupted `whole_folder` left beside it.

    Raises InputError where there is neither.
    """
    for candidate in (path, path.with_name(f".{path.name}.old")):
        if candidate.is_dir():
            return candidate
    raise InputError(f"no checkpoint at '{path}'; a run writes its first one after its first epoch")


def save_weights(path: Path, state: Mapping[str, Tensor], classes: ClassMap) -> None:
    """Write weights by state-dict name, with the class names in the file's metadata."""
    # One key alone: safetensors writes several in an order of its own each time, and equal runs would differ in bytes.
    save_file(_contiguous(state), str(path), metadata={"classes": json.dumps(list(classes.names))})


def save_tensors(path: Path, values: Mapping[str, Any]) -> None:
    """Write a mapping of tensors and JSON values: tensors to `path`, the rest to the JSON file beside it."""
    tensors = {name: value for name, value in values.items() if isinstance(value, torch.Tensor)}
    others = {name: value for name, value in values.items() if not isinstance(value, torch.Tensor)}
    save_file(_contiguous(tensors), str(path), metadata={"format": "pt"})
    path.with_suffix(".json").write_text(json.dumps(others), encoding="utf-8")


def load_tensors(path: Path) -> dict[str, Any]:
    """Read what `save_tensors` wrote."""
    try:
        others = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        return {**others, **load_file(str(path))}
    except (OSError, ValueError, SafetensorError) as error:
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


def load_optimizer_state(optimizer: torch.optim.Optimizer, names: Mapping[int, str], saved: Mapping[str, Any]) -> None:
    """Put back what `optimizer_state` gave, by name, on each parameter's device."""
    by_name = {names[id(parameter)]: parameter for group in optimizer.param_groups for parameter in group["params"]}
    for key, value in saved.items():
        name, _, what = key.rpartition("|")
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
    """Fill `module` from a checkpoint's weights, every key of both sides."""
    state = load_file(str(path))
    missing, unexpected = module.load_state_dict(state, strict=False)
    if missing or unexpected:
        raise InputError(
            f"checkpoint: '{path}' does not fit this model: {len(missing)} keys missing, {len(unexpected)} unknown, "
            f"for example '{(missing + unexpected)[0]}'; it was written with another architecture or plugin version"
        )


def write_json(path: Path, value: object) -> None:
    """Write JSON so that a reader never sees half a file."""
    fresh = path.with_name(f".{path.name}.new")
    fresh.write_text(json.dumps(value, indent=1), encoding="utf-8")
    fresh.replace(path)


def read_json(path: Path) -> Any:
    """Read a JSON file of a checkpoint; InputError where it is missing or broken."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"checkpoint: '{path}' cannot be read ({error})") from error
