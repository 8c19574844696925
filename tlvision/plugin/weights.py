"""Read tensors from weight files of any origin without running anything from them."""

from __future__ import annotations

import json
from collections.abc import Mapping
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
    return TensorFile(path, tensors, class_names_of(metadata, path))


def class_names_of(metadata: Mapping[str, str] | None, path: Path) -> tuple[str, ...] | None:
    """Return the class names in the metadata of a safetensors file (key "classes", a JSON list); None without the key.

    Raises InputError that names the file if they are not a list of texts.
    """
    text = (metadata or {}).get("classes")
    if text is None:
        return None
    try:
        names = json.loads(text)
    except (ValueError, RecursionError):
        names = None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise InputError(
            f"weights: '{path}' has class names that are not a list of texts: {text[:80]!r}. Write the file again, "
            "with the metadata key 'classes' as a JSON list, or without the key"
        )
    return tuple(names)
