"""Read tensors from weight files of any origin without running anything from them."""

from __future__ import annotations

import json
from pathlib import Path

from tlvision.plugin.inert_pickle import read_pickled_tensors
from tlvision.plugin.tensor_file import TensorFile
from tlvision.types import InputError


def read_tensors(path: str | Path) -> TensorFile:
    """Read a `.safetensors` file, or the tensors of a `.pt`/`.pth` pickle through inert stand-ins.

    Class names come from the safetensors metadata key "classes" (a JSON list), or, for a pickle, from the attribute
    or key `names` of the stored model. Where a pickle holds several models, "ema" is preferred to "model", "model" to
    "state_dict", and those to the top level, as upstream trainers store them.

    Raises InputError where the file does not exist, is not a weight file, or holds no tensor.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"weights: no file '{path}'; give the path of a weight file, or 'coco', 'imagenet' or 'none'")
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    return read_pickled_tensors(path)


def _read_safetensors(path: Path) -> TensorFile:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise InputError(f"weights: '{path}' is not a whole safetensors file ({error}); write it again") from error
    names = json.loads(metadata["classes"]) if "classes" in metadata else None
    return TensorFile(path, tensors, tuple(names) if names is not None else None)
