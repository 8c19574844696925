"""Layer groups and taps of an mmdet detector: the backbone's by a forward pass, the rest by the names of the parts."""

from __future__ import annotations

import inspect
import re
from typing import Any

from tlvision.plugin import LayerGroup, Role, Tap
from tlvision_openmmlab.common.probe import (
    add_map_taps,
    backbone_segments,
    named_parts,
    preprocessor,
    pyramid_group,
)

# Parts of a detector from input to output; what is in none of them stands between the encoder and the decoder.
_EARLY: dict[str, tuple[Role, tuple[str, ...]]] = {
    "neck": ("neck", ("neck",)),
    "encoder": ("neck", ("level_embed", "encoder")),
}
_TURNS = ("decoder", "bbox_head")
# Parts of a region's head that others of its parts read: what they share, and what pools or gives context for them.
_SHARED = re.compile(r"shared_head|\w*roi_extractor|semantic_head|glbctx_head")
# Parts that go on from what the mask head has found.
_BEHIND_MASKS = ("point_head", "mask_iou_head")
_LATE = ("decoder", "semantic_head", "rpn_head", "roi_head", "panoptic_head", "bbox_head", "mask_head")


def add_taps(model: Any) -> tuple[Tap, ...]:
    """Give `model` a module to capture for each map of backbone and neck, and return them; see `add_map_taps`."""
    return add_map_taps(model, model.extract_feat)


def find_groups(model: Any) -> tuple[LayerGroup, ...]:
    """Return stem, backbone.stage1.., pyramid, neck, encoder, …, heads, in the order of the computation.

    A decoder that refines its boxes with the box head's own branches, as DINO's does, is in one group with that head.
    """
    stem, *stages = backbone_segments(model, "backbone", model.extract_feat)
    stem = [*preprocessor(model), *stem]
    groups = [LayerGroup("stem", "stem", tuple(stem))] if stem else []
    groups += [LayerGroup(f"backbone.stage{n}", "backbone", tuple(stage)) for n, stage in enumerate(stages, 1)]
    groups += pyramid_group(model)
    parts = [name for name in named_parts(model) if name not in ("backbone", "data_preprocessor")]
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
    body = groups[-1].name  # what all heads read side by side; only a box head behind a decoder reads that
    for name in late:
        source = "decoder" if name == "bbox_head" and "decoder" in late else body
        groups += _region_groups(model, body) if name == "roi_head" else [LayerGroup(name, "head", (name,), (source,))]
    return tuple(groups)


def _decoder_asks_the_box_head(model: Any) -> bool:
    """Return whether decoder and box head alternate, layer by layer, so that neither comes before the other."""
    if not all(hasattr(model, name) for name in _TURNS):
        return False
    refines = "reg_branches" in inspect.signature(model.decoder.forward).parameters
    return bool(getattr(model, "as_two_stage", False) or (refines and getattr(model, "with_box_refine", True)))


def _region_groups(model: Any, body: str) -> list[LayerGroup]:
    """Return a group for each part of a region's head: what its parts share, then boxes, masks, ….

    body: name of the last group before all heads.
    """
    parts = named_parts(model.roi_head)
    shared = [part for part in parts if _SHARED.fullmatch(part)]
    parts = [*shared, *(part for part in parts if part not in shared)]
    groups = []
    for part in parts:
        sources = [body] if part in shared or not shared else [f"roi_head.{name}" for name in shared]
        if part in _BEHIND_MASKS and "mask_head" in parts:
            sources = ["roi_head.mask_head"]
        groups.append(LayerGroup(f"roi_head.{part}", "head", (f"roi_head.{part}",), tuple(sources)))
    return groups
