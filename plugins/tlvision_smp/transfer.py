"""Pretrained tensors into a segmenter whose head may be for other classes: class rows go by name, the rest by key."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from torch import nn

from tlvision.plugin import WeightReport
from tlvision.plugin.weights.head_rows import load_by_class_name, require_same_architecture
from tlvision.plugin.weights.tensor_file import TensorFile
from tlvision.types import InputError, listing
from tlvision_smp.architectures import Architecture
from tlvision_smp.weights import Source

_COUNTER = "num_batches_tracked"


def load_weights(model: Any, arch: Architecture, source: Source, classes: Sequence[str], *, given: str) -> WeightReport:
    """Copy the tensors of `source` into `model`, in place, cast to the model's dtype, and report on every key.

    classes: names of the head's classes, in order. A row is taken over where the file has a class of the same name,
             case and surrounding blanks aside. Other rows are unchanged.
    given:   name of the weights, for the report.

    Raises InputError if the file belongs to another architecture: a tensor outside the class rows (of an encoder's
    file: a tensor of the encoder) is of another shape or not there.
    """
    if source.of_encoder:
        file = _renamed(model, source.file)
        _check_encoder(model, file, source.file, arch)
        return replace(load_by_class_name(model, file, classes, ()), source=given)
    keys = class_keys(model)
    file = source.file.respelt(classes)
    report = load_by_class_name(model, file, classes, keys)
    require_same_architecture(report, arch.name, keys)
    return replace(report, source=given)


def class_keys(model: Any) -> tuple[str, ...]:
    """Return the keys whose first dimension counts the classes: those of the head's last convolution."""
    last = [name for name, child in model.segmentation_head.named_modules() if isinstance(child, nn.Conv2d)][-1]
    return f"segmentation_head.{last}.weight", f"segmentation_head.{last}.bias"


def _renamed(model: Any, file: TensorFile) -> TensorFile:
    """Return the file with encoder keys renamed to the model's; other keys keep their names."""
    own: list[str] = [key for key in model.state_dict() if key.startswith("encoder.")]
    names = {_plain(key.removeprefix("encoder.")): key for key in own}

    def rename(key: str) -> str:
        return names.get(_plain(key), key)

    return replace(file, tensors={rename(key): tensor for key, tensor in file.tensors.items()})


def _plain(key: str) -> str:
    """Return `key` as torchvision, timm and smp all write it.

    smp puts a model of timm into an attribute `model`; timm writes 'stages_0' for 'stages.0' where it gives all maps;
    torchvision's first files of DenseNet have 'norm.1' for 'norm1'.
    """
    key = re.sub(r"_(\d+)(?=\.)", r".\1", key.removeprefix("model."))
    return re.sub(r"\b(norm|conv)\.(\d)\.(?=\w+$)", r"\1\2.", key)


def _check_encoder(model: Any, file: TensorFile, given: TensorFile, arch: Architecture) -> None:
    """Raise InputError if a tensor of the encoder is not in `file` or has another shape there."""
    state = {key: tensor for key, tensor in model.state_dict().items() if key.startswith("encoder.")}
    absent = [key for key in state if key not in file.tensors and not key.endswith(_COUNTER)]
    wrong = file.other_shapes(state)
    if not absent and not wrong:
        return
    found = []
    if absent:
        found.append(
            f"{len(absent)} of the {len(state)} tensors of the encoder are not in it ({listing(absent, 2)}; in it: "
            f"{listing(given.tensors, 2)})"
        )
    if wrong:
        found.append(f"{len(wrong)} have another shape ({listing(wrong, 2)})")
    raise InputError(
        f"model.weights: '{file.path}' does not fit the encoder of '{arch.name}': {' and '.join(found)}; set "
        "model.arch to what the file holds, or give its own weights"
    )
