"""Layer groups and taps of a segmenter of smp, found from its encoder's own list of maps.

A stage is what its map depends on and the map before it does not: the graph of one forward pass says so for whatever
encoder, without knowing its modules. Every tensor is in exactly one group, and no group reads what a later one gives.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from tlvision.plugin import LayerGroup, Tap
from tlvision.plugin.stages import find_stages, split_stem

# About the height of the black image that is passed through; large enough for a map of stride 32 to have 2 x 2 cells.
_PROBE_SIDE = 64


@dataclass(frozen=True, slots=True)
class Probe:
    """Observations of one forward pass.

    side:    height of the image, which is twice as wide.
    maps:    the encoder's list, (1, C, h, w) each, with their graph; the image itself and empty maps among them.
    decoded: output of the decoder.
    """

    side: int
    maps: list[Tensor]
    decoded: Tensor


class PassThrough:
    """A forward hook on the encoder that sends each of its maps through a module of its own, for taps.

    points: by position in the encoder's list; each returns its input.
    """

    def __init__(self, points: dict[int, nn.Module]) -> None:
        self.points = points

    def __call__(self, module: nn.Module, inputs: object, output: Any) -> Any:
        """Return the output, each map having gone through its point."""
        if isinstance(output, tuple):  # a vision transformer's: maps, and tokens
            return self._passed(output[0]), *output[1:]
        return self._passed(output)

    def _passed(self, maps: Sequence[Tensor]) -> list[Tensor]:
        return [self.points[at](each) if at in self.points else each for at, each in enumerate(maps)]


def probe(model: Any, multiple_of: int) -> Probe:
    """Pass a black image through `model`, whose modes and buffers are left as they were.

    Raises ValueError if the scores are not of the image's size, and whatever the model does where it cannot take it.
    """
    side = multiple_of * math.ceil(_PROBE_SIDE / multiple_of)
    seen: dict[str, Any] = {}
    handles = [
        model.encoder.register_forward_hook(lambda module, inputs, output: seen.update(maps=output)),
        model.decoder.register_forward_hook(lambda module, inputs, output: seen.update(decoded=output)),
    ]
    modes = [(module, module.training) for module in model.modules()]
    try:
        model.eval()
        with torch.enable_grad():
            scores = model(torch.zeros(1, 3, side, 2 * side))
    finally:
        for handle in handles:
            handle.remove()
        for module, training in modes:
            module.training = training
    if tuple(scores.shape[2:]) != (side, 2 * side):
        raise ValueError(f"it gives scores of {tuple(scores.shape[2:])} for an image of {(side, 2 * side)}")
    maps = seen["maps"][0] if isinstance(seen["maps"], tuple) else seen["maps"]
    return Probe(side, list(maps), seen["decoded"])


def add_taps(model: Any, seen: Probe) -> tuple[Tap, ...]:
    """Give `model` a module to capture for each of the encoder's maps, and return them from fine to coarse.

    They are called c1, c2, … by their position in the encoder's list, which holds the image at 0; a map of the image's
    own size is left out. The places lie in `model.tap_points`, which has no state. The decoder's output is "decoder".
    """
    points: dict[int, nn.Module] = {}
    taps = [Tap("decoder", "decoder", seen.decoded.shape[1], seen.side // seen.decoded.shape[2])]
    # A vision transformer's list has no image in it.
    first = 0 if seen.maps[0].grad_fn is None or seen.maps[0].shape[2] == seen.side else 1
    for at, map_ in enumerate(seen.maps):
        stride, rest = divmod(seen.side, map_.shape[2])
        if map_.grad_fn is None or rest or stride == 1:
            continue
        points[at] = nn.Identity()
        taps.append(Tap(f"c{at + first}", f"tap_points.c{at + first}", map_.shape[1], stride))
    model.tap_points = nn.ModuleDict({f"c{at + first}": point for at, point in points.items()})
    model.encoder.register_forward_hook(PassThrough(points))
    return tuple(sorted(taps, key=lambda tap: tap.stride))


def find_groups(model: Any, seen: Probe) -> tuple[LayerGroup, ...]:
    """Return stem, backbone.stage1.., neck (the decoder) and head.

    The stem is what the encoder's map of stride 2 needs. Where the first map is coarser, as a transformer's is, it is
    what comes before the largest part of the first stage: the patch embedding. Layers of the encoder that the decoder
    has no use for, such as the last stages below PSPNet, are in the last of its groups.
    """
    paths = find_stages(model.encoder, "encoder", seen.maps)
    strides = [seen.side // map_.shape[2] for map_ in seen.maps if map_.grad_fn is not None]
    if strides[0] >= 4:
        paths[:1] = split_stem(model, paths[0])
    stem, *rest = paths
    groups = [LayerGroup("stem", "stem", tuple(stem))] if stem else []
    groups += [LayerGroup(f"backbone.stage{at}", "backbone", tuple(stage)) for at, stage in enumerate(rest, 1)]
    neck = LayerGroup("neck", "neck", ("decoder",))
    return (*groups, neck, LayerGroup("head", "head", ("segmentation_head",)))
