"""Pretrained tensors into a model whose head may be for other classes: class rows go by name, the rest by key."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from tlvision.plugin import WeightReport
from tlvision.plugin.weights.head_rows import load_by_class_name
from tlvision.plugin.weights.tensor_file import TensorFile
from tlvision.types import InputError, listing


def class_branches(head: Any) -> dict[str, Any]:
    """Return `{dotted name inside upstream's head: sequence of layers}`, the last of which has a row for each class.

    The names end in what tells which of them begin alike: the level, of the class branches of one or two heads;
    "semseg", of the map of classes that 26's segmenters are trained with.
    """
    branches = {
        f"{name}.{level}": layers
        for name in ("cv3", "one2one_cv3")
        for level, layers in enumerate(getattr(head, name, None) or ())
    }
    semantic = getattr(getattr(head, "proto", None), "semseg", None)
    return branches if semantic is None else branches | {"proto.semseg": semantic}


def load_weights(model: Any, file: TensorFile, classes: Sequence[str], *, source: str, arch: str) -> WeightReport:
    """Copy the tensors of `file` into `model`, in place, cast to the model's dtype, and report on every key.

    model:   a DetectionModel or SegmentationModel of ultralytics whose head has `len(classes)` classes.
    classes: names of the head's classes, in order. A row is taken over where the file has a class of the same name,
             case and surrounding blanks aside, as upstream does it. Other rows are unchanged.
    source, arch: names of the weights and the model, for the report and for errors.

    The head may be absent from the file, or in it only in part: a detector's file gives an instance segmenter of the
    same size all but the masks' branch. Raises InputError if the file belongs to another architecture or size: a
    tensor before the head is of another shape, or fewer than half of those tensors are there.
    """
    _check_belongs(model, file, arch)
    report = load_by_class_name(model, file.respelt(classes), classes, _class_keys(model))
    return replace(report, source=source)


def _check_belongs(model: Any, file: TensorFile, arch: str) -> None:
    head = f"model.{len(model.model) - 1}."
    body = {key: tensor for key, tensor in model.state_dict().items() if not key.startswith(head)}
    found = [key for key in body if key in file.tensors]
    wrong = file.other_shapes(body)
    if wrong:
        shown = listing(wrong, limit=3)
        raise InputError(
            f"model.weights: '{file.path}' belongs to another architecture or size than '{arch}', {len(wrong)} tensors "
            f"before the head differ in shape: {shown}; set model.arch to the file's architecture, or give other "
            "weights"
        )
    if 2 * len(found) < len(body):
        raise InputError(
            f"model.weights: '{file.path}' has only {len(found)} of the {len(body)} tensors that '{arch}' has before "
            f"its head (wanted: {listing(body, limit=2)}; there: {listing(file.tensors, limit=2)}); set model.arch to "
            "what the file holds, or give its own weights"
        )


def _class_keys(model: Any) -> frozenset[str]:
    """Return the keys of the layers with one row a class."""
    head, index = model.model[-1], len(model.model) - 1
    return frozenset(
        f"model.{index}.{branch}.{len(layers) - 1}.{name}"
        for branch, layers in class_branches(head).items()
        for name in ("weight", "bias")
    )
