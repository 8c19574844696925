"""Pretrained tensors into a detector whose head may be for other classes: class rows go by name, the rest by key."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence, Set
from dataclasses import replace
from typing import Any

from tlvision.plugin import WeightReport
from tlvision.plugin.weights.head_rows import ClassRows, load_by_class_name
from tlvision.plugin.weights.tensor_file import TensorFile
from tlvision.types import InputError, listing
from tlvision_timm.weights import fit
from tlvision_torchvision.architectures import Architecture
from tlvision_torchvision.backbones import EPS_MARK, classifier_prefixes
from tlvision_torchvision.weights import Source

_OLD_NAMES = (
    (re.compile(r"(rpn\.head\.conv)\.(weight|bias)"), lambda m: f"{m[1]}.0.0.{m[2]}"),
    (re.compile(r"(roi_heads\.mask_head)\.mask_fcn(\d)\.(weight|bias)"), lambda m: f"{m[1]}.{int(m[2]) - 1}.0.{m[3]}"),
    (re.compile(r"(head\.\w+_head\.conv)\.(\d)\.(weight|bias)"), lambda m: f"{m[1]}.{int(m[2]) // 2}.0.{m[3]}"),
)
"""How torchvision's first COCO files call what has another name since 0.13; its `load_state_dict` renames them too."""


# SSDlite has half of the classifier's channels from its cut on (features.1), as upstream's COCO weights do.
_BODY = ("backbone.body.", "backbone.features.0.")


def load_weights(model: Any, arch: Architecture, source: Source, classes: Sequence[str], *, given: str) -> WeightReport:
    """Copy the tensors of `source` into `model`, in place, cast to the model's dtype, and report on every key.

    classes: names of the head's classes, in order. A row is taken over where the file has a class of the same name,
             case and surrounding blanks aside. Other rows are unchanged.
    given:   name of the weights, for the report.

    Raises InputError if the file belongs to another architecture: a tensor outside the class rows is of another
    shape, or a tensor of the body is not there. A neck or a head may be absent.
    """
    if arch.on_timm and not source.whole:
        file = fit(source.file, model.backbone.body.timm, "backbone.body.timm.")
    else:
        file = _renamed(model, arch, source)
    file = file.respelt(classes)
    rows = class_rows(model, arch)
    _check_belongs(model, file, rows.keys(), source, arch)
    return replace(load_by_class_name(model, file, classes, rows), source=given)


def class_rows(model: Any, arch: Architecture) -> Mapping[str, ClassRows]:
    """Return the keys whose first dimension counts the classes, and how the classes lie in it."""
    if hasattr(model, "roi_heads"):
        layouts = {
            "roi_heads.box_predictor.cls_score": ClassRows(before=1),
            "roi_heads.box_predictor.bbox_pred": ClassRows(per_class=4, before=4),
            "roi_heads.mask_predictor.mask_fcn_logits": ClassRows(before=1),
        }
    elif arch.detector == "ssdlite":
        anchors = model.anchor_generator.num_anchors_per_location()
        layouts = {
            f"head.classification_head.module_list.{level}.1": ClassRows(blocks=count, before=1)
            for level, count in enumerate(anchors)
        }
    else:
        count = model.anchor_generator.num_anchors_per_location()[0]
        layouts = {"head.classification_head.cls_logits": ClassRows(blocks=count)}
    state = model.state_dict()
    keys = {f"{layer}.{name}": rows for layer, rows in layouts.items() for name in ("weight", "bias")}
    return {key: rows for key, rows in keys.items() if key in state}


def _renamed(model: Any, arch: Architecture, source: Source) -> TensorFile:
    """Return the file with the model's own key names."""
    known = model.state_dict().keys()
    prefixes = () if arch.on_timm else classifier_prefixes(arch.backbone, arch.detector)

    def rename(key: str) -> str:
        if source.whole:
            renamed = (pattern.sub(write, key) for pattern, write in _OLD_NAMES if pattern.fullmatch(key))
            return key if key in known else next(renamed, key)
        # The classification layer and what upstream cuts off keep their names, and so are unused.
        moved = next((there + key.removeprefix(here) for here, there in prefixes if key.startswith(here)), key)
        return moved if moved in known else key

    tensors = {rename(key): tensor for key, tensor in source.file.tensors.items()}
    if not source.whole:  # its norms have the epsilon that the model has been built with
        tensors |= {key: model.state_dict()[key] for key in known if key.endswith(f".{EPS_MARK}")}
    return replace(source.file, tensors=tensors)


def _check_belongs(model: Any, file: TensorFile, class_keys: Set[str], source: Source, arch: Architecture) -> None:
    state = model.state_dict()
    body = {key for key in state if key.startswith(_BODY) and not key.endswith("num_batches_tracked")}
    if not source.whole:
        # The norms at a Swin's outputs are no classifier's.
        body = {key for key in body if not key.startswith("backbone.body.stages.")}
    judged = set(state) - set(class_keys) if source.whole else body
    absent = [key for key in state if key in body and key not in file.tensors]
    wrong = file.other_shapes({key: tensor for key, tensor in state.items() if key in judged})
    advice = "set model.arch to the file's architecture, or give other weights"
    if absent:
        raise InputError(
            f"model.weights: '{file.path}' belongs to another architecture than '{arch.name}': {len(absent)} of the "
            f"{len(body)} tensors of the backbone are not in it ({listing(absent, limit=2)}; in it: "
            f"{listing(source.file.tensors, limit=2)}); {advice}"
        )
    if wrong:
        raise InputError(
            f"model.weights: '{file.path}' belongs to another architecture than '{arch.name}': {len(wrong)} tensors "
            f"have another shape ({listing(wrong, limit=3)}); {advice}"
        )
