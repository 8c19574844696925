"""The feature maps of timm's models: which there are, and which a backbone returns."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from tlvision.types import InputError
from tlvision_timm.names import check_name, import_timm
from tlvision_timm.pyramid import STRIDES

Pyramid = Literal["auto", "simple", "none"]

PROBE_SIZE = (64, 96)
"""Height and width of the black image that shows the maps: multiples of 32, and the size of no model."""

# How timm is asked to take images of any size, if a model does not do so anyway.
_ANY_SIZE: tuple[dict[str, bool], ...] = ({}, {"dynamic_img_size": True}, {"strict_img_size": False})
_IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_PLAIN_STAGES = 4


@dataclass(frozen=True, slots=True)
class TimmModel:
    """The feature maps that timm lists for a model.

    name:      timm's.
    channels:  of each map, fine to coarse; of a plain transformer of each block.
    reduction: of each map as timm has it, in pixels of its own input.
    options:   what `timm.create_model` is given, so that the model takes images of any size.
    mean, std: of its weights, RGB in 0..1.
    """

    name: str
    channels: tuple[int, ...]
    reduction: tuple[int, ...]
    options: Mapping[str, bool]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    @property
    def is_plain(self) -> bool:
        """True for a plain transformer: all maps have one stride."""
        return len(set(self.reduction)) == 1

    @property
    def strides(self) -> tuple[int, ...]:
        """The stride of each map in pixels of the network input: a power of two, 16 where timm has 14."""
        return tuple(int(2 ** math.ceil(math.log2(each))) for each in self.reduction)

    @property
    def ends(self) -> tuple[int, ...]:
        """The positions of the maps at which stages end: all, or of a plain transformer after each quarter."""
        count = len(self.channels)
        if not self.is_plain:
            return tuple(range(count))
        return tuple(sorted({max(count * stage // _PLAIN_STAGES, 1) - 1 for stage in range(1, _PLAIN_STAGES + 1)}))


@dataclass(frozen=True, slots=True)
class Maps:
    """The maps that a backbone returns.

    chosen:    their positions among timm's maps, or among the levels of a pyramid.
    channels, strides: of each.
    in_levels: whether they are levels of a pyramid.
    """

    chosen: tuple[int, ...]
    channels: tuple[int, ...]
    strides: tuple[int, ...]
    in_levels: bool


@cache
def timm_model(name: str) -> TimmModel:
    """Return which maps timm's model `name` gives; it is built once to find out, without changing random states.

    Raises InputError with the nearest name if timm has no such model, or with timm's reason if it gives no maps or does
    not take images of any size.
    """
    check_name(name)
    first: Exception | None = None
    for options in _ANY_SIZE:
        # Upstream raises what it happens to run into: a keyword unknown to a model, a shape, an assertion.
        try:
            with torch.random.fork_rng(devices=[]):
                return _described(name, create(name, **options), options)
        except (ValueError, TypeError, KeyError, AttributeError, IndexError, AssertionError, RuntimeError) as error:
            first = first or error
    reason = (str(first).strip().splitlines() or ["no reason given"])[0]
    raise InputError(
        f"model: timm's '{name}' cannot be a backbone for images of any size ({type(first).__name__}: {reason}); "
        "choose another, for example convnext_tiny, swin_tiny_patch4_window7_224 or vit_small_patch14_dinov2"
    ) from first


def choose_maps(name: str, out_indices: Sequence[int] | None, pyramid: Pyramid, pyramid_channels: int) -> Maps:
    """Return which maps a backbone returns; see `tlvision_timm.backbone.TimmBackbone` for the arguments.

    Raises InputError if the arguments do not fit the model.
    """
    model = timm_model(name)
    if pyramid not in ("auto", "simple", "none"):
        raise InputError(f"TimmBackbone: pyramid '{pyramid}' is unknown; expected 'auto', 'simple' or 'none'")
    if pyramid == "simple" and not model.is_plain:
        raise InputError(
            f"TimmBackbone: '{name}' has maps of strides {model.strides}, and needs no pyramid; set pyramid to 'none' "
            "or remove it"
        )
    in_levels = model.is_plain and pyramid != "none"
    strides = STRIDES if in_levels else model.strides
    if out_indices is None:
        plain_maps = model.is_plain and not in_levels
        chosen = model.ends if plain_maps else tuple(at for at, each in enumerate(strides) if each >= STRIDES[0])
    else:
        if not out_indices or any(not -len(strides) <= at < len(strides) for at in out_indices):
            raise InputError(
                f"TimmBackbone: out_indices {tuple(out_indices)} of '{name}' are not among its {len(strides)} maps; "
                f"choose some of 0 to {len(strides) - 1}"
            )
        chosen = tuple(sorted(at % len(strides) for at in out_indices))
    channels = tuple(pyramid_channels if in_levels else model.channels[at] for at in chosen)
    return Maps(chosen, channels, tuple(strides[at] for at in chosen), in_levels)


def create(name: str, **options: Any) -> Any:
    """Return timm's model as it gives its maps."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return import_timm().create_model(name, features_only=True, **options)


def run(net: Any, images: Tensor, model: TimmModel) -> list[Tensor]:
    """Return the maps of `net`, (N, C, H / stride, W / stride) each, of images (N, 3, H, W)."""
    if model.reduction[-1] != model.strides[-1]:
        height, width = (side // model.strides[-1] * model.reduction[-1] for side in images.shape[2:])
        images = F.interpolate(images, (height, width), mode="bilinear", align_corners=False)
    maps = net(images)
    if str(getattr(net, "output_fmt", "NCHW")).endswith("NHWC"):
        return [map_.permute(0, 3, 1, 2).contiguous() for map_ in maps]
    return list(maps)


def _described(name: str, net: Any, options: Mapping[str, bool]) -> TimmModel:
    # Of a plain transformer timm lists all blocks, and builds the last three.
    whole = net.feature_info.info
    reduction = tuple(int(each["reduction"]) for each in whole)
    config = import_timm().models.get_pretrained_cfg(name, allow_unregistered=True)
    mean, std = (config.mean, config.std) if config is not None else _IMAGENET
    channels = tuple(int(each["num_chs"]) for each in whole)
    found = TimmModel(name, channels, reduction, options, tuple(mean), tuple(std))
    if not found.is_plain and found.strides != reduction:
        raise ValueError(f"it has strides {reduction}, which are not powers of two")
    with torch.no_grad():
        maps = run(net.eval(), torch.zeros(1, 3, *PROBE_SIZE), found)
    expected = [PROBE_SIZE[0] // found.strides[reduction.index(each)] for each in net.feature_info.reduction()]
    if [map_.shape[2] for map_ in maps] != expected:
        raise ValueError(f"it gives maps of {[tuple(map_.shape[2:]) for map_ in maps]} for an image of {PROBE_SIZE}")
    return found
