"""Layer groups of a model of transformers: the backbone's by the numbers in its names, the rest by its parts.

The patch embedding or the first convolutions are the stem. Each stage of a pyramid is a group, and so is each layer of
a plain vision transformer. Every tensor is in exactly one group, and no group reads the output of a later one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from tlvision.plugin import LayerGroup, Role
from tlvision.plugin.stages import largest_uniform
from tlvision_transformers.eomt import is_eomt, layers_before_queries

# Lists of the stages or layers of a backbone, and ResNet's of timm ("layer1.").
_LISTS = re.compile(r"(?:^|\.)(?:stages|layers|layer|blocks|block)[._](\d+)\.|(?:^|\.)layer(\d+)\.")
# Norms of the maps that a backbone gives: "stage1" is the stage 0.
_OUTPUT_NORMS = re.compile(r"hidden_states_norms\.(?:stage(\d+)|(\d+))\.")
_EMBEDDING = re.compile(r"patch_embed")
_POSITIONS = re.compile(r"mid_position_embeddings")
_FEW = 6
"""A backbone with more parts in a row than this is a plain transformer, whose parts are layers and not stages."""


@dataclass(frozen=True, slots=True)
class _Part:
    """A group behind the backbone. reads: names of groups, "backbone" for its last one; None for the one before."""

    name: str
    role: Role
    paths: tuple[str, ...]
    reads: tuple[str, ...] | None = None


_DETR_PARTS = (
    _Part("encoder", "neck", ("model.input_projection", "model.input_proj", "model.level_embed", "model.encoder")),
    _Part("decoder", "neck", ("model.query_position_embeddings", "model.reference_points", "model.decoder")),
)
_REFINING_PARTS = (_DETR_PARTS[0],)
_HYBRID = (_Part("encoder", "neck", ("model.encoder_input_proj", "model.encoder")),)
_PROJECTED = (_Part("projector", "neck", ("model.backbone.projector",)),)
_MASKS = "model.pixel_level_module"

_BACKBONES = {
    "deimv2": "model.conv_encoder.model",
    "yolos": "vit",
    "segformer": "segformer",
    "upernet": "backbone",
    "dpt": "dpt",
    "rf_detr": "model.backbone.backbone",
    "lw_detr": "model.backbone.backbone",
    "eomt": "layers",
    "eomt_dinov3": "layers",
    "mask2former": f"{_MASKS}.encoder",
    "maskformer": f"{_MASKS}.encoder",
}
_PARTS: dict[str, tuple[_Part, ...]] = {
    "detr": _DETR_PARTS,
    "conditional_detr": _DETR_PARTS,
    "deformable_detr": _DETR_PARTS,
    "rt_detr": _HYBRID,
    "rt_detr_v2": _HYBRID,
    "d_fine": _HYBRID,
    "deimv2": (_Part("encoder", "neck", ("model.conv_encoder.encoder_input_proj", "model.encoder")),),
    "rf_detr": _PROJECTED,
    "lw_detr": _PROJECTED,
    "dab-detr": _REFINING_PARTS,
    "eomt": (),
    "eomt_dinov3": (),
    "yolos": (),
    "segformer": (
        _Part(
            "neck", "neck", tuple(f"decode_head.{each}" for each in ("linear_projections", "linear_fuse", "batch_norm"))
        ),
    ),
    "upernet": (
        _Part(
            "neck",
            "neck",
            tuple(
                f"decode_head.{each}"
                for each in ("psp_modules", "bottleneck", "lateral_convs", "fpn_convs", "fpn_bottleneck")
            ),
        ),
        _Part("auxiliary_head", "head", ("auxiliary_head",), ("backbone",)),
        _Part("head", "head", ("decode_head.classifier",), ("neck",)),
    ),
    "dpt": (
        _Part("neck", "neck", ("neck",)),
        _Part("auxiliary_head", "head", ("auxiliary_head",), ("neck",)),
        _Part("head", "head", ("head",), ("neck",)),
    ),
    "mask2former": (
        _Part("pixel_decoder", "neck", (f"{_MASKS}.decoder",)),
        _Part("decoder", "head", ("model.transformer_module",)),
    ),
    "maskformer": (
        _Part("pixel_decoder", "neck", (f"{_MASKS}.decoder",)),
        _Part("decoder", "neck", ("model.transformer_module",), ("backbone",)),
        _Part("head", "head", ("class_predictor", "mask_embedder", "criterion"), ("pixel_decoder", "decoder")),
    ),
}
"""By `model_type`; what is in none of the parts is the last group, "head"."""


def backbone_path(model: Any) -> str:
    """Return the dotted name of the backbone in `model`."""
    return _BACKBONES.get(model.config.model_type, "model.backbone")


def knows(model_type: str | None) -> bool:
    """Return whether models of this type of upstream have groups here."""
    return model_type in _PARTS


def find_groups(model: Any) -> tuple[LayerGroup, ...]:
    """Return stem, backbone.stage1.. (or backbone.layer1..), the parts between it and the heads, and the heads.

    A decoder that refines its boxes with the prediction heads, layer by layer, is in one group with them. So are the
    last layers of EoMT, which attend to the masks that the heads predict from the layer before.
    """
    path = backbone_path(model)
    groups = list(_layers_before_queries(model) if is_eomt(model) else _backbone_groups(model, path))
    last = groups[-1].name
    taken = [each for group in groups for each in group.modules] if is_eomt(model) else [path]
    for part in _parts_of(model):
        paths = [each for each in part.paths if _has_state(model, each)]
        if paths:
            reads = None if part.reads is None else tuple(last if name == "backbone" else name for name in part.reads)
            groups.append(LayerGroup(part.name, part.role, tuple(paths), reads))
            taken += paths
    rest = tuple(_beside(model, taken))
    return (*groups, LayerGroup("head", "head", rest)) if rest else tuple(groups)


def _parts_of(model: Any) -> Sequence[_Part]:
    kind = model.config.model_type
    refines = kind == "deformable_detr" and model.config.with_box_refine
    return _REFINING_PARTS if refines else _PARTS[kind]


def _layers_before_queries(model: Any) -> Iterator[LayerGroup]:
    """Yield the stem of EoMT and its layers before the queries come in."""
    count = layers_before_queries(model)
    rotary = ("rope_embeddings",) if _has_state(model, "rope_embeddings") else ()
    yield LayerGroup("stem", "stem", ("embeddings", *rotary))
    word = "layer" if count > _FEW else "stage"
    for at in range(count):
        yield LayerGroup(f"backbone.{word}{at + 1}", "backbone", (f"layers.{at}",))


def _backbone_groups(model: nn.Module, path: str) -> Iterator[LayerGroup]:
    """Yield the stem and the stages or layers of the backbone at `path`."""
    backbone = model.get_submodule(path)
    stages = _stages(backbone)
    order = sorted(set(stages.values()))
    paths: dict[int, list[str]] = {stage: [] for stage in order}
    for inside, stage in largest_uniform(backbone, path, stages):
        paths[stage].append(inside)
    word = "layer" if len(order) > _FEW else "stage"
    for stage in order:
        if stage < 0:
            yield LayerGroup("stem", "stem", tuple(paths[stage]))
        else:
            yield LayerGroup(f"backbone.{word}{stage + 1}", "backbone", tuple(paths[stage]))


def _stages(backbone: nn.Module) -> dict[str, int]:
    """Return for every parameter and buffer of `backbone` the position of its stage, -1 for the stem.

    What has no number goes with the stem in front of the first stage, and with the last stage behind it; positions that
    YOLOS adds between its layers are the stem's.
    """
    found: dict[str, int | None] = {}
    started = False
    behind: set[str] = set()
    for path, module in backbone.named_modules():
        for name, _ in (*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)):
            full = f"{path}.{name}" if path else name
            found[full] = _number(full)
            started = started or found[full] is not None
            if started and not _POSITIONS.search(full):
                behind.add(full)
    numbers = [number for number in found.values() if number is not None]
    first, last = min(numbers, default=0), max(numbers, default=-1)
    stages = {
        name: (last - first if name in behind else -1) if number is None else number - first
        for name, number in found.items()
    }
    if -1 not in stages.values():
        stages |= {name: -1 for name, stage in stages.items() if stage == 0 and _EMBEDDING.search(name)}
    return stages


def _number(name: str) -> int | None:
    norm = _OUTPUT_NORMS.search(name)
    if norm:
        return int(norm[1]) - 1 if norm[1] else int(norm[2])
    found = _LISTS.search(name)
    return int(found[1] or found[2]) if found else None


def _beside(module: nn.Module, taken: Sequence[str], path: str = "") -> Iterator[str]:
    """Yield the fewest paths that cover all state of `module` outside the paths in `taken`."""
    prefix = f"{path}." if path else ""
    yield from (
        prefix + name
        for name, _ in (*module.named_parameters(recurse=False), *module.named_buffers(recurse=False))
        if prefix + name not in taken
    )
    for name, child in module.named_children():
        inside = prefix + name
        if inside in taken or not _holds_state(child):
            continue
        if any(each.startswith(f"{inside}.") for each in taken):
            yield from _beside(child, taken, inside)
        else:
            yield inside


def _has_state(model: nn.Module, path: str) -> bool:
    owner, _, name = path.rpartition(".")
    try:
        part = getattr(model.get_submodule(owner), name, None)
    except AttributeError:
        return False
    return part is not None and (not isinstance(part, nn.Module) or _holds_state(part))


def _holds_state(module: nn.Module) -> bool:
    return next(module.parameters(), None) is not None or next(module.buffers(), None) is not None
