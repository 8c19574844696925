"""Layer groups and taps of an mmdet detector: the backbone's by a forward pass, the rest by the names of the parts."""

from __future__ import annotations

import inspect
from typing import Any

from tlvision.plugin import LayerGroup, Role, Tap
from tlvision_openmmlab.common.probe import add_map_taps, backbone_segments, named_parts

# Parts of a detector from input to output; what is in none of them stands between the encoder and the decoder.
_EARLY: dict[str, tuple[Role, tuple[str, ...]]] = {
    "neck": ("neck", ("neck",)),
    "encoder": ("neck", ("level_embed", "encoder")),
}
_TURNS = ("decoder", "bbox_head")
_LATE = ("decoder", "rpn_head", "roi_head", "panoptic_head", "bbox_head", "mask_head")


def add_taps(model: Any) -> tuple[Tap, ...]:
    """Give `model` a place to look at for each map of backbone and neck, and return them; see `add_map_taps`."""
    return add_map_taps(model, model.extract_feat)


def find_groups(model: Any) -> tuple[LayerGroup, ...]:
    """Return stem, backbone.stage1.., neck, encoder, …, heads, in the order of the computation.

    A decoder that refines its boxes with the box head's own branches, as DINO's does, is in one group with that head.
    """
    stem, *stages = backbone_segments(model, "backbone", model.extract_feat)
    groups = [LayerGroup("stem", "stem", tuple(stem))] if stem else []
    groups += [LayerGroup(f"backbone.stage{n}", "backbone", tuple(stage)) for n, stage in enumerate(stages, 1)]
    parts = [name for name in named_parts(model) if name != "backbone"]
    for name, (role, members) in _EARLY.items():
        inside = tuple(member for member in members if member in parts)
        groups += [LayerGroup(name, role, inside)] if inside else []
        parts = [part for part in parts if part not in inside]
    # The tokens and projections between encoder and decoder are small and have no order of their own.
    between = tuple(part for part in parts if part not in _LATE)
    groups += [LayerGroup("queries", "head", between)] if between else []
    late = [name for name in _LATE if name in parts]
    if _decoder_asks_the_box_head(model):
        late = [name for name in late if name not in _TURNS]
        groups.append(LayerGroup("decoder", "head", _TURNS))
    heads = [path for name in late for path in _head_paths(model, name)]
    return (*groups, *(LayerGroup(path, "head", (path,)) for path in heads))


def _decoder_asks_the_box_head(model: Any) -> bool:
    """Say whether decoder and box head take turns, layer by layer, so that neither stands before the other."""
    if not all(hasattr(model, name) for name in _TURNS):
        return False
    refines = "reg_branches" in inspect.signature(model.decoder.forward).parameters
    return bool(getattr(model, "as_two_stage", False) or (refines and getattr(model, "with_box_refine", True)))


def _head_paths(model: Any, name: str) -> list[str]:
    """Return the head's own path, or those of its parts where it is a box and a mask head, and more, in one."""
    if name != "roi_head":
        return [name]
    return [f"{name}.{part}" for part in named_parts(getattr(model, name))]
