"""Layer groups and taps of an mmseg segmenter: the backbone's by a forward pass, the rest by the names of the parts."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

from torch import Tensor, nn

from tlvision.plugin import LayerGroup, Tap
from tlvision_openmmlab.common.probe import (
    add_map_taps,
    backbone_segments,
    has_state,
    named_parts,
    preprocessor,
    pyramid_group,
    run_on_black,
)

# Backbones whose blocks all have one stride; they fall into so many stages of about as many blocks.
_COLUMNS = frozenset({"VisionTransformer", "BEiT", "MAE"})
_COLUMN_STAGES = 4

# Backbones that have all stages in one of their branches.
_OPENED: dict[str, tuple[str, ...]] = {"BiSeNetV2": ("semantic",)}

# Backbones that give one map in eval mode, and in train mode one for an auxiliary loss in front of it.
_MAIN_MAP = {"PIDNet": 1, "DDRNet": 1}


class PassInput:
    """A forward pre-hook that sends a module's input through a module of its own, for a tap.

    point: returns its input.
    """

    def __init__(self, point: nn.Module) -> None:
        self.point = point

    def __call__(self, module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        """Return the inputs, the first having gone through the point."""
        return (self.point(inputs[0]), *inputs[1:])


def add_taps(model: Any, decode: Callable[[Tensor], Tensor]) -> tuple[Tap, ...]:
    """Give `model` modules to capture and return them, fine to coarse: c2, … of the backbone, p2, … of the neck.

    decode: runs all of the model. "decode" is what the decode head classifies pixels by, where that is one map. For
    dilated backbones the numbers count on: "c4" and "c5" of a ResNet "d8" have the stride 8.
    """
    main = _MAIN_MAP.get(type(model.backbone).__name__, 0)
    maps = add_map_taps(model, model.extract_feat, main=main, dilated=True)
    decoded = _decode_tap(model, decode)
    return tuple(sorted((*maps, *decoded), key=lambda tap: tap.stride))


def _decode_tap(model: Any, decode: Callable[[Tensor], Tensor]) -> tuple[Tap, ...]:
    head = model.decode_head[-1] if isinstance(model.decode_head, nn.ModuleList) else model.decode_head
    classify = getattr(head, "conv_seg", None)
    if not isinstance(classify, nn.Conv2d):
        return ()
    seen: list[Tensor] = []
    handle = classify.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    try:
        side = run_on_black(model, decode)
    finally:
        handle.remove()
    if len(seen) != 1 or side % seen[0].shape[2]:
        return ()
    model.tap_points["decode"] = point = nn.Identity()
    classify.register_forward_pre_hook(PassInput(point))
    return (Tap("decode", "tap_points.decode", seen[0].shape[1], side // seen[0].shape[2]),)


def find_groups(model: Any) -> tuple[LayerGroup, ...]:
    """Return stem, backbone.stage1.., pyramid, fusion, neck, pixel_decoder, decode and auxiliary heads, if there.

    fusion: modules next to and behind a backbone inside the backbone (BiSeNetV1's context and spatial path, STDC's
    context path, ICNet's branches, UNet's decoder). pixel_decoder: of a mask classifier's decode head.
    """
    path = _inner_backbone(model)
    backbone = model.get_submodule(path)
    fusion = _beside(model.backbone, "backbone", path)
    opened = _OPENED.get(type(backbone).__name__, ())
    stem, *stages = _declared_segments(backbone, path) or backbone_segments(
        model, path, model.extract_feat, opened=opened
    )
    if has_state(getattr(backbone, "decoder", nn.Identity())):
        fusion = [f"{path}.decoder", *fusion]
        inside = f"{path}.decoder."
        stem, *stages = ([name for name in each if not f"{name}.".startswith(inside)] for each in (stem, *stages))
    stem = [*preprocessor(model), *stem]
    groups = [LayerGroup("stem", "stem", tuple(stem))] if stem else []
    filled = [stage for stage in stages if stage]
    groups += [LayerGroup(f"backbone.stage{n}", "backbone", tuple(stage)) for n, stage in enumerate(filled, 1)]
    groups += pyramid_group(model)
    groups += [LayerGroup("fusion", "neck", tuple(fusion))] if fusion else []
    if has_state(getattr(model, "neck", nn.Identity())):
        groups.append(LayerGroup("neck", "neck", ("neck",)))
    return (*groups, *_head_groups(model, groups[-1].name))


def _head_groups(model: Any, body: str) -> list[LayerGroup]:
    """Return the groups of the decode heads, each of which reads the one before it, and of the auxiliary heads.

    body: name of the last group before the heads. Auxiliary heads read maps of the backbone.
    """
    groups: list[LayerGroup] = []
    for name in ("decode_head", "auxiliary_head"):
        head = getattr(model, name, None)
        if head is None or not has_state(head):
            continue
        if isinstance(head, nn.ModuleList):
            beside = name == "auxiliary_head"
            paths = [f"{name}.{at}" for at in range(len(head))]
            groups += [LayerGroup(path, "head", (path,), reads=(body,) if beside else None) for path in paths]
        elif hasattr(head, "pixel_decoder"):
            rest = tuple(f"{name}.{part}" for part in named_parts(head) if part != "pixel_decoder")
            groups.append(LayerGroup("pixel_decoder", "neck", (f"{name}.pixel_decoder",)))
            groups.append(LayerGroup(name, "head", rest))
        else:
            groups.append(LayerGroup(name, "head", (name,), reads=(body,)))
    return groups


def _inner_backbone(model: Any) -> str:
    """Return the path of the backbone, or of the one of another kind inside it."""
    paths = (path for path, _ in model.backbone.named_modules() if path.rsplit(".", 1)[-1] == "backbone")
    found = next(paths, None)
    return "backbone" if found is None else f"backbone.{found}"


def _beside(module: nn.Module, path: str, inner: str) -> list[str]:
    """Return the fewest paths that cover `module` without the module at `inner`."""
    if path == inner:
        return []
    if not inner.startswith(f"{path}."):
        return [path]
    parts = {name: module.get_submodule(name) for name in named_parts(module) if name in dict(module.named_children())}
    single = [f"{path}.{name}" for name in named_parts(module) if name not in parts]
    return [*single, *(each for name, child in parts.items() for each in _beside(child, f"{path}.{name}", inner))]


def _declared_segments(backbone: nn.Module, path: str) -> list[list[str]] | None:
    """Return the stem and the stages that the backbone itself declares; None if it does not."""
    layers = getattr(backbone, "res_layers", None)  # of everything that is like a ResNet
    names = named_parts(backbone)
    if isinstance(layers, list) and layers and set(layers) <= set(names):
        rest = [f"{path}.{name}" for name in names if name not in layers]
        return [rest, *([f"{path}.{layer}"] for layer in layers)]
    if type(backbone).__name__ not in _COLUMNS:
        return None
    count = len(backbone.layers)  # type: ignore[arg-type]
    last = getattr(backbone, "norm1_name", None)
    cuts = [count * stage // _COLUMN_STAGES for stage in range(_COLUMN_STAGES + 1)]
    stages = [[f"{path}.layers.{at}" for at in range(*bounds)] for bounds in pairwise(cuts)]
    stages[-1] += [f"{path}.{name}" for name in names if name == last]
    return [[f"{path}.{name}" for name in names if name not in ("layers", last)], *stages]
