"""Build a segmenter of smp by name, with its image format."""

from __future__ import annotations

import math
import warnings
from typing import Any

from tlvision.plugin import BuildSpec, WeightReport
from tlvision.types import InputError, InputSpec
from tlvision_smp.adapter import SmpAdapter
from tlvision_smp.architectures import DILATED, Architecture, import_upstream
from tlvision_smp.groups import Probe, probe
from tlvision_smp.losses import Losses
from tlvision_smp.options import SmpOptions
from tlvision_smp.transfer import load_weights
from tlvision_smp.weights import find_weights

# PAN halves the map of stride 16 three times; DPT brings a transformer's maps to strides 4 to 32.
_LEAST_MULTIPLE = {"pan": 128, "dpt": 32}

# How timm is asked to take images of any size, where it is not what a model does anyway.
_ANY_SIZE: tuple[dict[str, bool], ...] = ({}, {"dynamic_img_size": True})

_IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_DPN = (124 / 255, 117 / 255, 104 / 255), (1 / (0.0167 * 255),) * 3
_HALF = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)
_NORMALISATION = {"dpn": _DPN, "inception": _HALF, "xception": _HALF, "timm-tf_efficientnet_lite": _HALF}
"""Mean and deviation of smp's own encoders by the beginning of their name, ImageNet's where it is not here.

smp reads them from a file next to the weights on huggingface.co, which is not there without a network.
"""


def build_adapter(arch: Architecture, spec: BuildSpec) -> tuple[SmpAdapter, WeightReport]:
    """Build `arch` with a head for `spec.classes` and load `spec.weights` into it; see `SmpPlugin.build`."""
    options = spec.options if spec.options is not None else SmpOptions()
    if not isinstance(options, SmpOptions):
        raise InputError(f"model.options: plugin 'smp' expects SmpOptions, got {type(options).__name__}")
    losses = Losses(options, spec.classes.names)
    source = find_weights(arch, spec.weights)
    model, seen, multiple_of = build_model(arch, len(spec.classes))
    adapter = SmpAdapter(model, arch.name, seen, losses, input_spec(arch, multiple_of))
    if source is None:
        return adapter, WeightReport(source="none", missing=tuple(model.state_dict()))
    return adapter, load_weights(model, arch, source, spec.classes.names, given=spec.weights)


def build_upstream(arch: Architecture, spec: BuildSpec) -> tuple[Any, InputSpec]:
    """Build the model as smp defines it and load its weights; return it and its image format."""
    source = find_weights(arch, spec.weights)
    model, _, multiple_of = build_model(arch, len(spec.classes))
    if source is not None:
        load_weights(model, arch, source, spec.classes.names, given=spec.weights)
    return model, input_spec(arch, multiple_of)


def build_model(arch: Architecture, num_classes: int) -> tuple[Any, Probe, int]:
    """Build a freshly initialised model in train mode that takes images of any size.

    Returns the model, what a pass of a black image through it shows, and of what its input must be a multiple.

    Raises InputError where smp cannot build it or cannot pass an image through it, with smp's reason.
    """
    smp = import_upstream("segmentation_models_pytorch")
    first: Exception | None = None
    for size in _ANY_SIZE if arch.encoder.startswith("tu-") else ({},):
        try:
            with warnings.catch_warnings():
                # smp would rather have its own timm encoders called 'tu-'; a transformer without tokens is allowed.
                warnings.filterwarnings("ignore", "`timm-` encoders are deprecated", DeprecationWarning)
                warnings.filterwarnings("ignore", "Encoder does not have prefix tokens", UserWarning)
                model = smp.create_model(
                    arch.decoder, encoder_name=arch.encoder, encoder_weights=None, classes=num_classes, **size
                )
            multiple_of = _multiple_of(arch, model)
            return model.train(), probe(model, multiple_of), multiple_of
        # Upstream raises what it happens to run into: a keyword unknown to a model, a shape, an assertion.
        except (ValueError, TypeError, KeyError, AttributeError, IndexError, AssertionError, RuntimeError) as error:
            first = first or error
    raise InputError(
        f"model.arch: smp cannot make '{arch.name}' ({type(first).__name__}: {_first_line(first)}); {_advice(arch)}"
    ) from first


def _multiple_of(arch: Architecture, model: Any) -> int:
    return math.lcm(int(model.encoder.output_stride), _LEAST_MULTIPLE.get(arch.decoder, 1))


def _first_line(error: Exception | None) -> str:
    return (str(error).strip().splitlines() or ["no reason given"])[0]


def _advice(arch: Architecture) -> str:
    if arch.decoder == "dpt":
        return "DPT works with vision transformers of timm with patches of 8, 16 or 32 pixels"
    if arch.decoder in DILATED:
        return (
            f"{arch.decoder} wants an encoder that can be dilated to stride {DILATED[arch.decoder]}, such as resnet34, "
            "mobilenet_v2, efficientnet-b0 or tu-resnet18"
        )
    return (
        "take an encoder that gives maps of strides 2 (or 4) to 32 for images of any size, such as resnet34, mit_b0 or "
        "tu-convnext_tiny; vision transformers with maps of one stride alone are for the decoder 'dpt'"
    )


def input_spec(arch: Architecture, multiple_of: int) -> InputSpec:
    """Return the image format of the encoder's weights: RGB in 0..1, and padding that is 0 once normalised."""
    mean, std = _normalisation(arch.encoder)
    red, green, blue = (round(value * 255) for value in mean)
    return InputSpec(place="corner", multiple_of=multiple_of, mean=mean, std=std, pad_value=(red, green, blue))


def _normalisation(encoder: str) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    if encoder.startswith("tu-"):
        config = import_upstream("timm").models.get_pretrained_cfg(encoder.removeprefix("tu-"), allow_unregistered=True)
        if config is None:
            return _IMAGENET
        return tuple(config.mean), tuple(config.std)
    return next((values for name, values in _NORMALISATION.items() if encoder.startswith(name)), _IMAGENET)
