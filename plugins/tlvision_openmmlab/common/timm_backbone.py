"""Backbones of timm in configs of OpenMMLab: the channels of their maps go to what reads them.

A config names one as `backbone=dict(_delete_=True, type="tlvision_timm.backbone.TimmBackbone", name="convnext_tiny")`;
mmengine imports a type with dots by its path, so nothing is registered.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from tlvision.plugin import InputSpec
from tlvision.types import InputError
from tlvision_openmmlab.common.engine import ConfigDict
from tlvision_timm.backbone import PYRAMID_CHANNELS, TimmBackbone
from tlvision_timm.models import choose_maps, timm_model
from tlvision_timm.names import timm_name
from tlvision_timm.pyramid import STRIDES

TYPE = f"{TimmBackbone.__module__}.{TimmBackbone.__name__}"

_SEGMENTER_HEADS = ("decode_head", "auxiliary_head")
_DETECTOR_HEADS = ("panoptic_head", "bbox_head", "mask_head")
# Backbones of one stride: a config that has one is written for maps of one stride.
_PLAIN = frozenset({"VisionTransformer", "BEiT", "MAE"})


def is_timm_backbone(model: Mapping[str, Any]) -> bool:
    """Return whether the backbone of a config's model is one of timm."""
    return bool(model["backbone"].get("type") == TYPE)


def with_timm(config: Any, backbone: str | None, name: str) -> None:
    """Make the model of a config, in place, one that can be built on a backbone of timm, its own or `backbone`.

    backbone: "timm/<name>" in the place of the config's own backbone; None keeps that.
    name:     of the config's file, for messages.

    Raises InputError as `fill_channels`.
    """
    if backbone is not None:
        _replace_backbone(config["model"], backbone)
        config["load_from"] = None  # of the other backbone
    fill_channels(config["model"], name)


def _replace_backbone(model: ConfigDict, backbone: str) -> None:
    plain = model["backbone"].get("type") in _PLAIN and timm_model(timm_name(backbone)).is_plain
    model["backbone"] = ConfigDict(type=TYPE, name=timm_name(backbone), pyramid="none" if plain else "auto")
    model.pop("pretrained", None)


def timm_input_spec(spec: InputSpec, backbone: str) -> InputSpec:
    """Return an image format with the normalisation of timm's weights: RGB in 0..1, padding with the mean."""
    found = timm_model(timm_name(backbone))
    red, green, blue = (round(255 * value) for value in found.mean)
    return replace(
        spec,
        mean=found.mean,
        std=found.std,
        channel_order="rgb",
        value_range=1.0,
        pad_value=(red, green, blue),
    )


def fill_channels(model: ConfigDict, config: str) -> None:
    """Write the channels of a timm backbone into what reads its maps, in place; nothing if there is none.

    model:  the model of a config. Its neck reads the maps, or else its heads. Where the backbone has no `out_indices`,
            and one part reads all maps, the backbone gives as many maps as that part reads, the coarsest ones.
    config: the name of its file, for messages.

    Raises InputError if the backbone has a key that TimmBackbone does not take, no part reads its maps, or a part reads
    another number of maps than it gives.
    """
    if not is_timm_backbone(model):
        return
    backbone = model["backbone"]
    allowed = set(inspect.signature(TimmBackbone).parameters)
    unknown = sorted(set(backbone) - allowed - {"type", "init_cfg"})
    if unknown or "name" not in backbone:
        raise InputError(
            f"model.arch: the backbone of '{config}' has {', '.join(unknown) or 'no name'}, but TimmBackbone takes "
            f"{', '.join(sorted(allowed))} and needs a name; add _delete_=True to what replaces an inherited backbone"
        )
    backbone.pop("init_cfg", None)
    readers = list(_readers(model))
    if not readers:
        raise InputError(
            f"model.arch: in '{config}' neither a neck nor a head has `in_channels` for the maps of the backbone, so a "
            "backbone of timm cannot take its place; choose a config with a neck (FPN)"
        )
    if backbone.get("out_indices") is None and len(readers) == 1 and "in_index" not in readers[0]:
        backbone["out_indices"] = _coarsest(backbone, len(_as_list(readers[0]["in_channels"])))
    maps = choose_maps(
        backbone["name"],
        backbone.get("out_indices"),
        backbone.get("pyramid", "auto"),
        backbone.get("pyramid_channels", PYRAMID_CHANNELS),
    )
    for reader in readers:
        _fill(reader, maps.channels, f"{config}: {backbone['name']}")


@contextmanager
def misfits_explained(model: Mapping[str, Any], config: str) -> Iterator[None]:
    """Turn what upstream raises because a config does not fit its backbone of timm into an InputError.

    model: the model of the config. config: the name of its file. Errors of models on other backbones pass.
    """
    try:
        yield
    except InputError:
        raise
    except (AssertionError, AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
        if not is_timm_backbone(model):
            raise
        reason = (str(error).strip().splitlines() or ["no reason given"])[0][:200]
        raise InputError(
            f"model.arch: the model of '{config}' cannot be built on timm's '{model['backbone']['name']}' "
            f"({type(error).__name__}: {reason}); choose a config with a neck (FPN), or another backbone"
        ) from error


def _readers(model: ConfigDict) -> Iterator[ConfigDict]:
    """Yield the parts that read the maps of the backbone."""
    neck = model.get("neck")
    first = neck[0] if isinstance(neck, list | tuple) and neck else neck
    if first:
        if "in_channels" in first:
            yield first
        return
    heads = [each for name in _SEGMENTER_HEADS for each in _as_list(model.get(name))]
    yield from (head for head in heads if isinstance(head, dict) and "in_channels" in head)
    # The heads of other detectors without a neck read one map of a certain ResNet.
    found = (model.get(name) for name in _DETECTOR_HEADS)
    yield from (head for head in found if head and isinstance(head.get("in_channels"), list | tuple))


def _as_list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]


def _coarsest(backbone: Mapping[str, Any], count: int) -> tuple[int, ...]:
    """Return the positions of the `count` coarsest maps that the backbone can give; all if there are fewer."""
    found = timm_model(backbone["name"])
    if not found.is_plain:
        usable = [at for at, stride in enumerate(found.strides) if stride >= STRIDES[0]]
        return tuple(usable[-count:])
    if backbone.get("pyramid", "auto") != "none":
        return tuple(range(len(STRIDES)))[-count:]
    return tuple(len(found.strides) * at // count - 1 for at in range(1, count + 1))


def _fill(reader: ConfigDict, channels: tuple[int, ...], where: str) -> None:
    before = reader["in_channels"]
    several = isinstance(before, list | tuple)
    index = reader.get("in_index")
    if index is None and several:
        index = list(range(len(channels)))
        if before[0] > before[-1]:  # necks that list maps from coarse to fine
            index.reverse()
    wanted = _as_list(-1 if index is None else index)
    if several and len(wanted) != len(before):
        raise InputError(
            f"model.arch: {where} gives {len(channels)} maps, but {reader.get('type')} reads {len(before)}; set "
            "out_indices of the backbone to as many"
        )
    if any(not -len(channels) <= at < len(channels) for at in wanted):
        raise InputError(
            f"model.arch: {where} gives {len(channels)} maps, but {reader.get('type')} reads those at {index}; set "
            "out_indices of the backbone, or in_index"
        )
    found = [channels[at] for at in wanted]
    reader["in_channels"] = found if several else found[0]
    if "c1_in_channels" in reader:  # DeepLabV3+ also reads the finest map
        reader["c1_in_channels"] = channels[0]
