"""Taps of a model of transformers: modules of its own that give maps, and places for maps and tokens that none gives.

A place is a module without state in `model.tap_points` that a forward hook sends a map through. Tokens, (N, H W, C), go
through it as a map, (N, C, H, W), and back, so that what depends on the tap depends on the prediction's own features.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from tlvision.plugin import Tap
from tlvision_transformers.eomt import allow_any_size, is_eomt, layers_before_queries
from tlvision_transformers.groups import backbone_path
from tlvision_transformers.images import multiple_of
from tlvision_transformers.upstream import BackboneMixin

_MODULES: dict[str, tuple[tuple[str, str], ...]] = {
    "segformer": (("decode", "decode_head.activation"),),
    "upernet": (("decode", "decode_head.fpn_bottleneck"),),
    "dpt": (("decode", "neck.fusion_stage.layers.3"),),
    "mask2former": (("p", "model.pixel_level_module.decoder.mask_projection"),),
    "maskformer": (("p", "model.pixel_level_module.decoder.mask_projection"),),
    "rf_detr": (("p", "model.backbone.projector"),),
    "eomt": (("p", "upscale_block"),),
    "eomt_dinov3": (("p", "upscale_block"),),
}
"""Modules behind the backbone that give one map. A name that is one letter gets the number of the stride."""


class MapPoints:
    """A forward hook on a backbone that sends each of its maps through a module of its own.

    points: by the position of the map; each returns its input.
    """

    def __init__(self, points: dict[int, nn.Module]) -> None:
        self.points = points

    def __call__(self, module: nn.Module, inputs: object, output: Any) -> Any:
        """Return the output, each map having gone through its point."""
        maps = tuple(
            self.points[at](each) if at in self.points else each for at, each in enumerate(output.feature_maps)
        )
        output.feature_maps = maps
        return output


class ImageSize:
    """A forward pre-hook on a model that keeps the size of the images; tokens alone do not tell it."""

    def __init__(self) -> None:
        self.height = self.width = 0

    def __call__(self, module: nn.Module, inputs: tuple[Any, ...], keywords: dict[str, Any]) -> None:
        """Keep height and width of the first argument, (N, 3, H, W)."""
        images = inputs[0] if inputs else keywords["pixel_values"]
        self.height, self.width = images.shape[-2:]


class TokenPoint:
    """A forward hook that sends the tokens of an image's patches through a module as a map.

    point: returns its input. size: of the images. stride: of a patch, in pixels. before: tokens in front of those of
            the patches.
    """

    def __init__(self, point: nn.Module, size: ImageSize, stride: int, before: int) -> None:
        self.point, self.size, self.stride, self.before = point, size, stride, before

    def __call__(self, module: nn.Module, inputs: object, output: Any) -> Any:
        """Return the output, its tokens having gone through the point."""
        tokens = output if isinstance(output, Tensor) else output.last_hidden_state
        height, width = self.size.height // self.stride, self.size.width // self.stride
        front, patches, behind = tokens.split(
            [self.before, height * width, tokens.shape[1] - self.before - height * width], dim=1
        )
        map_ = self.point(patches.transpose(1, 2).unflatten(2, (height, width)))  # (N, C, H, W)
        passed = torch.cat([front, map_.flatten(2).transpose(1, 2), behind], dim=1)
        if isinstance(output, Tensor):
            return passed
        output.last_hidden_state = passed
        return output


def add_taps(model: Any) -> tuple[Tap, ...]:
    """Give `model` places for taps and return all taps, from fine to coarse; modes and buffers are left as they were.

    c2, c3, … are maps of the backbone, p2, p3, … of neck or encoder; the number is log2 of the stride, rounded.
    "decode" is what a segmenter classifies pixels by. Of several maps of one stride there is the last.
    Maps whose stride does not divide every input are left out. EoMT takes images of any size from here on.
    """
    model.tap_points = nn.ModuleDict()
    if is_eomt(model):
        allow_any_size(model)
    candidates = [*_own_modules(model), *_backbone_maps(model), *_tokens(model)]
    shapes = _shapes_of(model, [path for _, path in candidates])
    side = _side(model)
    found: dict[str, Tap] = {}
    for letter, path in candidates:
        channels, height = shapes.get(path, (0, 0))
        stride, rest = divmod(side, height) if height else (0, 1)
        if rest or multiple_of(model.config) % stride:
            continue
        name = f"{letter}{round(math.log2(stride))}" if len(letter) == 1 else letter
        found[name] = Tap(name, path, channels, stride)
    return tuple(sorted(found.values(), key=lambda tap: tap.stride))


def _own_modules(model: Any) -> Iterator[tuple[str, str]]:
    kind = model.config.model_type
    if kind in {"rt_detr", "rt_detr_v2", "d_fine", "deimv2"}:
        encoder = model.model.encoder
        yield "p", f"model.encoder.fpn_blocks.{len(encoder.fpn_blocks) - 1}"
        yield from (("p", f"model.encoder.pan_blocks.{at}") for at in range(len(encoder.pan_blocks)))
    elif kind == "deformable_detr":
        yield from (("p", f"model.input_proj.{at}") for at in range(len(model.model.input_proj)))
    elif kind == "lw_detr":
        scales = model.model.backbone.projector.scale_layers
        yield from (("p", f"model.backbone.projector.scale_layers.{at}") for at in range(len(scales)))
    elif kind == "segformer":
        yield from (("c", f"segformer.stages.{at}") for at in range(len(model.segformer.stages)))
    yield from _MODULES.get(kind, ())


def _backbone_maps(model: Any) -> Iterator[tuple[str, str]]:
    """Put a place behind each map of a backbone that lists its maps."""
    path = backbone_path(model)
    modules: list[Any] = list(model.get_submodule(path).modules())
    for part in modules:
        if isinstance(part, BackboneMixin):
            count = len(part.out_features)
            points: dict[int, nn.Module] = {at: nn.Identity() for at in range(count)}
            model.tap_points.update({f"map{at}": point for at, point in points.items()})
            hooked: Any = part
            hooked.register_forward_hook(MapPoints(points))
            yield from (("c", f"tap_points.map{at}") for at in range(count))
            return


def _tokens(model: Any) -> Iterator[tuple[str, str]]:
    """Put a place behind the tokens of a model that has no other map there."""
    kind = model.config.model_type
    if kind in {"detr", "conditional_detr", "dab-detr"}:
        part, letter, stride, before = model.model.encoder, "p", _coarsest_stride(model), 0
    elif kind == "yolos":
        # Behind the last layer no prediction reads the tokens of patches.
        part, letter, stride, before = model.vit.encoder.layer[-2], "c", int(model.config.patch_size), 1
    elif is_eomt(model) and layers_before_queries(model) > 0:
        part, letter, stride = model.layers[layers_before_queries(model) - 1], "c", int(model.config.patch_size)
        before = int(model.embeddings.num_prefix_tokens)
    else:
        return
    size, point = ImageSize(), nn.Identity()
    model.tap_points["tokens"] = point
    model.register_forward_pre_hook(size, with_kwargs=True)
    part.register_forward_hook(TokenPoint(point, size, stride, before))
    yield letter, "tap_points.tokens"


def _coarsest_stride(model: Any) -> int:
    return 16 if getattr(model.config, "dilation", False) else 32


def _side(model: Any) -> int:
    step = multiple_of(model.config)
    return step * math.ceil(128 / step)


def _shapes_of(model: Any, paths: list[str]) -> dict[str, tuple[int, int]]:
    """Return channels and height of the map, if it is one, that each module gives for a black square of `_side`."""
    found: dict[str, tuple[int, int]] = {}

    def record(path: str) -> Any:
        def hook(module: nn.Module, inputs: object, output: Any) -> None:
            if isinstance(output, Tensor) and output.ndim == 4:
                found[path] = (output.shape[1], output.shape[2])

        return hook

    handles = [model.get_submodule(path).register_forward_hook(record(path)) for path in paths]
    modes = [(module, module.training) for module in model.modules()]
    try:
        model.eval()
        with torch.no_grad():
            model(torch.zeros(1, 3, _side(model), _side(model), device=model.device))
    finally:
        for handle in handles:
            handle.remove()
        for module, training in modes:
            module.training = training
    return found
