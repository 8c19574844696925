"""Pretrained tensors into a model of transformers: from the hub's cache, a folder of `save_pretrained`, or a file."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from tlvision.plugin import WeightReport
from tlvision.plugin.weights.files import looks_like_a_file, read_tensors
from tlvision.plugin.weights.head_rows import (
    ClassRows,
    Layout,
    Special,
    load_by_class_name,
    require_same_architecture,
)
from tlvision.plugin.weights.tensor_file import TensorFile
from tlvision.types import InputError
from tlvision_transformers.groups import backbone_path
from tlvision_transformers.upstream import AutoConfig, auto_model, quiet
from tlvision_transformers.zoo import Architecture

_WORDS = ("coco", "imagenet", "pretrained")
_UNNAMED = re.compile(r"LABEL_\d+")


@dataclass(frozen=True, slots=True)
class Source:
    """Weights, and whose they are.

    file:       tensors by upstream's present key names, and the class names if they are known.
    of_encoder: whether they are an image classifier's, so that only the backbone can be filled.
    unused:     keys that upstream has found no use for.
    """

    file: TensorFile
    of_encoder: bool = False
    unused: tuple[str, ...] = ()


def find_weights(arch: Architecture, weights: str) -> Source | None:
    """Read what `weights` refers to; None for "none".

    Raises InputError if upstream publishes none, they cannot be had, or they cannot be read.
    """
    if weights == "none":
        return None
    if weights in arch.published:
        return _from_upstream(arch, arch.published[weights], local=False)
    if weights in _WORDS:
        offered = ", ".join(repr(each) for each in arch.published)
        raise InputError(
            f"model.weights: there are no '{weights}' weights for '{arch.name}'; give "
            f"{offered + ', ' if offered else ''}'none', or a folder that save_pretrained has written"
        )
    path = Path(weights)
    if path.is_dir():
        return _from_upstream(arch, weights, local=True)
    if not looks_like_a_file(weights):
        raise InputError(
            f"model.weights: '{weights}' is no folder and no weight file; give 'none', a folder that save_pretrained "
            "has written, or the path of a model.safetensors"
        )
    file = read_tensors(path)
    # save_pretrained writes keys by the names of older versions, which upstream alone knows how to turn round.
    if file.class_names is None and path.name == "model.safetensors" and (path.parent / "config.json").is_file():
        return _from_upstream(arch, str(path.parent), local=True)
    return Source(file)


def load_weights(
    model: Any,
    arch: Architecture,
    source: Source,
    classes: tuple[str, ...],
    *,
    given: str,
    build: Callable[[tuple[str, ...]], Any],
) -> WeightReport:
    """Copy the tensors of `source` into `model`, in place, and report on every key.

    classes: names of the head's classes, in order. A row is taken over if the source has a class of the same name, case
             and surrounding blanks aside.
    given:   name of the weights, for the report.
    build:   builds the same model for other classes, to see which keys count them.

    Raises InputError if the weights belong to another architecture: a tensor outside the class rows (of an encoder's
    weights: a tensor of the encoder) has another shape or is not there.
    """
    file = source.file.respelt(classes)
    layouts = class_layouts(model, build, classes) if file.class_names != classes else {}
    report = load_by_class_name(model, file, classes, layouts)
    judged = report
    if source.of_encoder:
        inside = f"{backbone_path(model)}."
        judged = replace(report, missing=tuple(key for key in report.missing if key.startswith(inside)))
    require_same_architecture(judged, arch.name, layouts.keys())
    return replace(report, source=given, unused=(*report.unused, *source.unused))


def class_layouts(model: Any, build: Callable[[tuple[str, ...]], Any], classes: Sequence[str]) -> dict[str, Layout]:
    """Return the keys that count the classes, with how: found by comparing `model` with one of a class more.

    Every head of upstream has a row a class, and behind them a row for "no object" if its scores are a softmax.
    """
    with torch.random.fork_rng(devices=[]):
        wider = build((*classes, "one class more")).state_dict()
    layouts: dict[str, Layout] = {}
    for key, tensor in model.state_dict().items():
        grown = [
            (dim, more)
            for dim, (more, size) in enumerate(zip(wider[key].shape, tensor.shape, strict=True))
            if more > size
        ]
        if not grown:
            continue
        (dim, more), count = grown[0], len(classes)
        rest = tensor.shape[dim] - count
        known = len(grown) == 1 and more - tensor.shape[dim] == 1 and rest >= 0
        layouts[key] = ClassRows(after=rest, dim=dim) if known else Special.UNKNOWN
    if model.config.model_type == "deformable_detr" and model.config.two_stage:
        # Upstream chooses queries by row 0 of the encoder's own head, whatever its class is.
        mark = f"class_embed.{model.config.decoder_layers}."
        layouts |= {key: Special.BY_POSITION for key in layouts if mark in key}
    return layouts


def _from_upstream(arch: Architecture, name: str, *, local: bool) -> Source:
    """Return what `from_pretrained` makes of a folder or of a name on the hub, with all keys as they are called now."""
    try:
        with quiet():
            config = AutoConfig.from_pretrained(name, local_files_only=local)
            if config.model_type != arch.model_type:
                raise InputError(
                    f"model.weights: '{name}' holds a {config.model_type}, and model.arch '{arch.name}' is a "
                    f"{arch.model_type}; set model.arch to the architecture of the weights"
                )
            model, found = auto_model(arch.model_type).from_pretrained(
                name,
                config=config,
                dtype=torch.float32,
                local_files_only=local,
                use_safetensors=True if local else None,
                output_loading_info=True,
            )
    # No network, no such page, no space; a file that is damaged or of another model.
    except (OSError, RuntimeError, ValueError, KeyError, ImportError) as error:
        raise InputError(_advice(name, error, local)) from error
    except Exception as error:
        if type(error).__name__ != "SafetensorError":
            raise
        raise InputError(_advice(name, error, local)) from error
    lacking = set(found["missing_keys"])
    tensors = {key: tensor for key, tensor in model.state_dict().items() if key not in lacking}
    names = tuple(config.id2label[index] for index in sorted(config.id2label))
    named = not all(_UNNAMED.fullmatch(each) for each in names)
    classifier = any("ForImageClassification" in each for each in config.architectures or ())
    file = TensorFile(Path(name), tensors, names if named and not classifier else None)
    return Source(file, of_encoder=classifier, unused=tuple(sorted(found["unexpected_keys"])))


def _advice(name: str, error: Exception, local: bool) -> str:
    reason = f"{type(error).__name__}: {(str(error).strip().splitlines() or ['no reason given'])[0][:200]}"
    if local:
        return (
            f"model.weights: the folder '{name}' cannot be read ({reason}). Give one with config.json and "
            "model.safetensors, as save_pretrained writes it."
        )
    return (
        f"model.weights: huggingface.co/{name} is not in the cache of huggingface_hub and could not be downloaded "
        f"({reason}); run 'hf download {name} --local-dir FOLDER' on a connected machine, copy FOLDER here and set "
        "model.weights to its path"
    )
