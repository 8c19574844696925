"""The segmenters by name: '<decoder>/<encoder>'. Plain text, so that listing them imports neither torch nor smp."""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from tlvision.types import InputError, listing, nearest

DECODERS = (
    "unet",
    "unetplusplus",
    "deeplabv3",
    "deeplabv3plus",
    "fpn",
    "pspnet",
    "pan",
    "linknet",
    "manet",
    "upernet",
    "segformer",
    "dpt",
)
DILATED = {"deeplabv3": 8, "deeplabv3plus": 16, "pan": 16}
"""Decoders whose encoder is dilated, so that its coarsest map has this stride."""

_FAMILIES = (
    ("resnet", ("18", "34", "50", "101", "152")),
    ("resnext", ("50_32x4d", "101_32x4d", "101_32x8d", "101_32x16d", "101_32x32d", "101_32x48d")),
    ("mobilenet_v2", ("",)),
    ("efficientnet-b", tuple("01234567")),
    ("mit_b", tuple("012345")),
    ("mobileone_s", tuple("01234")),
    ("densenet", ("121", "169", "201", "161")),
    ("dpn", ("68", "68b", "92", "98", "107", "131")),
    ("vgg", ("11", "11_bn", "13", "13_bn", "16", "16_bn", "19", "19_bn")),
    ("senet", ("154",)),
    ("se_resnet", ("50", "101", "152")),
    ("se_resnext", ("50_32x4d", "101_32x4d")),
    ("inception", ("resnetv2", "v4")),
    ("xception", ("",)),
    ("timm-efficientnet-", ("b0", "b1", "b2", "b3", "b4", "b5", "b6", "b7", "b8", "l2")),
    ("timm-tf_efficientnet_lite", tuple("01234")),
    ("timm-sk", ("resnet18", "resnet34", "resnext50_32x4d")),
)
ENCODERS = tuple(family + size for family, sizes in _FAMILIES for size in sizes)
"""smp's own encoders; 'tu-<name>' is any other that timm has."""

_NOT_DILATABLE = ("densenet", "inception", "vgg", "xception")
_NO_MAP_OF_STRIDE_2 = ("mit_b",)
_VITS = (
    *(f"tu-vit_{size}_patch16_224" for size in ("tiny", "small", "base", "large")),
    *(f"tu-vit_{size}_patch16_384" for size in ("tiny", "small", "base", "large")),
    *(f"tu-deit_{size}_patch16_224" for size in ("tiny", "small", "base")),
    *(f"tu-deit3_{size}_patch16_224" for size in ("small", "base", "large")),
)
"""Of timm's vision transformers, for which DPT is made, the ones that are listed; others work as well."""

_EXAMPLE = "'<decoder>/<encoder>', for example 'unet/mobilenet_v2'"


@dataclass(frozen=True, slots=True)
class Architecture:
    """One segmenter: smp's name of its decoder, in lower case, and smp's name of its encoder."""

    decoder: str
    encoder: str

    @property
    def name(self) -> str:
        """As a config names it."""
        return f"{self.decoder}/{self.encoder}"


def listed() -> tuple[str, ...]:
    """Return the names of all decoders on all of smp's own encoders that they work with, and of DPT on timm's ViTs."""
    own = [f"{decoder}/{encoder}" for decoder in DECODERS for encoder in ENCODERS if not why_not(decoder, encoder)]
    return (*own, *(f"dpt/{encoder}" for encoder in _VITS))


def find_architecture(name: str) -> Architecture:
    """Return the segmenter called `name`; timm is imported only for an encoder of timm.

    Raises InputError with the nearest name where decoder or encoder are unknown, or with the reason where they do not
    go together.
    """
    decoder, slash, encoder = name.partition("/")
    if not slash:
        raise InputError(f"model.arch: plugin 'smp' expects {_EXAMPLE}, got '{name}'.{_nearest(name, listed())}")
    if decoder not in DECODERS:
        raise InputError(
            f"model.arch: smp has no decoder '{decoder}' (in '{name}'; expected {_EXAMPLE})."
            f"{nearest(decoder, DECODERS)}"
        )
    _check_encoder(decoder, encoder)
    reason = why_not(decoder, encoder)
    if reason:
        raise InputError(f"model.arch: '{name}' cannot be: {reason}")
    return Architecture(decoder, encoder)


def why_not(decoder: str, encoder: str) -> str:
    """Return why decoder and encoder do not fit and a pair that does, or "" if no problem is known."""
    if decoder == "dpt" and not encoder.startswith("tu-"):
        return (
            "DPT takes encoders of timm alone, and is made for its vision transformers; take for example "
            "'dpt/tu-vit_small_patch16_224', or the decoder 'fpn' for this encoder"
        )
    if decoder in DILATED and encoder.startswith(_NOT_DILATABLE):
        return (
            f"{decoder} wants its encoder dilated to stride {DILATED[decoder]}, which smp does not do with this one; "
            f"take for example '{decoder}/resnet34', '{decoder}/mobilenet_v2' or '{decoder}/efficientnet-b0', or the "
            "decoder 'fpn' for this encoder"
        )
    if decoder in {"unetplusplus", "linknet"} and encoder.startswith(_NO_MAP_OF_STRIDE_2):
        return (
            f"{decoder} needs a map of stride 2, which this transformer does not have; take 'unet/{encoder}' or "
            f"'{decoder}/resnet34'"
        )
    return ""


def _check_encoder(decoder: str, encoder: str) -> None:
    """Raise InputError with the nearest name where neither smp nor timm has `encoder`."""
    if encoder in ENCODERS or (decoder == "dpt" and encoder in _VITS):
        return
    names = [f"{decoder}/{each}" for each in ENCODERS if not why_not(decoder, each)]
    if encoder.startswith("tu-"):
        timm = import_upstream("timm")
        if timm.is_model(encoder.removeprefix("tu-")):
            return
        names = [f"{decoder}/tu-{each}" for each in timm.list_models()]
    raise InputError(
        f"model.arch: smp has no encoder '{encoder}' (expected {_EXAMPLE}; those of timm begin with 'tu-')."
        f"{_nearest(f'{decoder}/{encoder}', names)}"
    )


def import_upstream(module: str) -> Any:
    """Import smp or timm; InputError with the pip command where it is not installed."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise InputError(
            f"model.plugin: 'smp' needs segmentation-models-pytorch ({error}); pip install 'tlvision[smp]'"
        ) from error


def _nearest(name: str, options: Iterable[str]) -> str:
    """Say which was probably meant, or name the first few: there are hundreds."""
    options = list(options)
    said = nearest(name, options)
    return said if said.startswith(" Did") else f" Known: {listing(options)}."
