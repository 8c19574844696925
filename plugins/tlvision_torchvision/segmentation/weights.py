"""Pretrained tensors of torchvision's segmenters: where they are, and how they come into a model of other classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from torchvision.models import get_weight

from tlvision.plugin import WeightReport
from tlvision.plugin.weights.files import read_tensors
from tlvision.plugin.weights.head_rows import load_by_class_name, require_same_architecture
from tlvision.plugin.weights.tensor_file import TensorFile
from tlvision_torchvision.segmentation.architectures import Segmenter
from tlvision_torchvision.weights import Source, download, file_name, imagenet_weights, is_whole

_CLASS_LAYERS = ("classifier.4", "aux_classifier.4", "classifier.low_classifier", "classifier.high_classifier")
# Of a MobileNetV3's file and of a ResNet's.
_CLASSIFIER_PREFIXES = ("features.", "")


def find_weights(arch: Segmenter, weights: str) -> Source | None:
    """Read the file that `weights` refers to; None for "none".

    A file with the name of torchvision's own weights has the class names of Pascal VOC wherever it lies, and
    "background", which upstream calls "__background__".

    Raises InputError if they cannot be downloaded, or the file cannot be read.
    """
    if weights == "none":
        return None
    if weights == "imagenet":
        return Source(read_tensors(download(imagenet_weights(arch.backbone), weights)), whole=False)
    coco = get_weight(f"{arch.coco}.COCO_WITH_VOC_LABELS_V1")
    file = read_tensors(download(coco, weights) if weights == "coco" else weights)
    if file.class_names is None and file.path.name == file_name(coco):
        file = replace(file, class_names=tuple(name.strip("_") for name in coco.meta["categories"]))
    return Source(file, is_whole(file))


def load_weights(model: Any, arch: Segmenter, source: Source, classes: Sequence[str], *, given: str) -> WeightReport:
    """Copy the tensors of `source` into `model`, in place, cast to the model's dtype, and report on every key.

    classes: names of the head's classes, in order. A row is taken over where the file has a class of the same name,
             case and surrounding blanks aside. Other rows are unchanged.
    given:   name of the weights, for the report.

    Raises InputError if the file belongs to another architecture: a tensor is of another shape or not there, class
    rows and the auxiliary head aside (of a classifier's file: all but the backbone).
    """
    rows = class_keys(model)
    file = source.file.respelt(classes) if source.whole else _renamed(model, source.file)
    report = load_by_class_name(model, file, classes, rows)
    keys = model.state_dict().keys()
    # The first of torchvision's files do not count batches.
    free = {*rows, *(key for key in keys if key.endswith("num_batches_tracked"))}
    free |= {key for key in keys if not key.startswith(("backbone.", "classifier.") if source.whole else "backbone.")}
    require_same_architecture(report, arch.name, free)
    return replace(report, source=given)


def class_keys(model: Any) -> tuple[str, ...]:
    """Return the keys whose first dimension counts the classes, of both heads."""
    keys = (f"{layer}.{name}" for layer in _CLASS_LAYERS for name in ("weight", "bias"))
    return tuple(key for key in keys if key in model.state_dict())


def _renamed(model: Any, file: TensorFile) -> TensorFile:
    """Return a classifier's file with the keys of the backbone; its last layers keep theirs."""
    known = {key for key in model.state_dict() if key.startswith("backbone.")}

    def rename(key: str) -> str:
        moved = (f"backbone.{key.removeprefix(prefix)}" for prefix in _CLASSIFIER_PREFIXES)
        return next((name for name in moved if name in known), key)

    return replace(file, tensors={rename(key): tensor for key, tensor in file.tensors.items()})
