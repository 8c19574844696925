"""Read tensors from weight files of any origin without running anything from them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from tlvision.files.inputs import check_file, exists
from tlvision.plugin.weights.inert_pickle import read_pickled_tensors
from tlvision.plugin.weights.tensor_file import TensorFile
from tlvision.types import InputError, listing
from tlvision.types.shown import clip, is_encodable, shown


def read_tensors(path: str | Path) -> TensorFile:
    """Read a `.safetensors` file, or the tensors of a `.pt`/`.pth` pickle through inert stand-ins.

    Class names come from the safetensors metadata key "classes" (a JSON list), or, for a pickle, from the attribute
    or key `names` of the stored model. Where a pickle holds several models, "ema" is preferred to "model", "model" to
    "state_dict", and those to the top level, as upstream trainers store them.

    Raises InputError if the file does not exist, is a folder or a pipe, is not a whole weight file, holds no tensor, or
    names its classes in a form that cannot be read.
    """
    path = Path(path)
    require_file(path)
    try:
        check_file(path, "a weight file")
    except InputError as error:
        raise InputError(f"weights: {error}") from None
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    return read_pickled_tensors(path)


def require_file(path: Path) -> None:
    """Raise InputError if a weight file does not exist."""
    if not exists(path):
        raise InputError(f"weights: no file '{path}'; give the path of a weight file, or 'coco', 'imagenet' or 'none'")


def looks_like_a_file(weights: str) -> bool:
    """Return whether `model.weights` is a path, and not a name such as "coco" that a plugin resolves.

    >>> looks_like_a_file("best.pt"), looks_like_a_file("coco")
    (True, False)
    """
    return Path(weights).suffix in {".pt", ".pth", ".safetensors", ".bin", ".ckpt"}


def _read_safetensors(path: Path) -> TensorFile:
    from safetensors import safe_open

    try:
        with safe_open(str(path), framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except Exception as error:  # its own, OSError, and those of torch for sizes that it cannot hold
        raise InputError(
            f"weights: '{path}' is not a whole safetensors file ({clip(str(error), 200)}); write it again"
        ) from error
    if not tensors:
        raise InputError(f"weights: '{path}' holds no tensor. Give a file with the weights of a model.")
    return TensorFile(path, tensors, class_names_of(metadata, path))


def class_names_of(metadata: Mapping[str, str] | None, path: Path) -> tuple[str, ...] | None:
    """Return the class names in the metadata of a safetensors file (key "classes", a JSON list); None without the key.

    Raises InputError that names the file if they are not a list of names.
    """
    text = (metadata or {}).get("classes")
    if text is None:
        return None
    try:
        names = json.loads(text)
    except (ValueError, RecursionError):
        names = None
    problem = ""
    if not isinstance(names, list) or not names or not all(isinstance(name, str) and name.strip() for name in names):
        problem = "is not a JSON list of names"
    elif len(set(names)) < len(names):
        problem = f"names {listing(name for name, count in Counter(names).items() if count > 1)} more than once"
    elif not all(map(is_encodable, names)):
        problem = "has half of a surrogate pair"
    if problem:
        raise InputError(
            f"weights: '{path}': the metadata 'classes' {problem}: {shown(text)}. Correct it, or remove it: the head's "
            "rows are then not taken over."
        )
    return tuple(names)
