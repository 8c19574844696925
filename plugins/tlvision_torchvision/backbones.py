"""Any of torchvision's classifiers as the body of a detector: its layers in order, cut where the stride changes.

torchvision's own `create_feature_extractor` is not used: the graph module that it makes overrides `train()` and has a
graph for each mode, so the mode of a single layer, which is how the core freezes, would not count.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models import get_model
from torchvision.models._utils import IntermediateLayerGetter

from tlvision_torchvision.architectures import BACKBONES

# A multiple of every stride of a body, and windows of Swin's size on the coarsest map.
_PROBE_SIZE = 256

EPS_MARK = "norm_eps"
"""The name of the buffer that holds the epsilon of frozen norms, where it is another than the COCO weights' one."""


@dataclass(frozen=True, slots=True)
class Layer:
    """One child of a body, in the order of the computation.

    path:     its dotted name in the body.
    channels: of its output.
    stride:   of its output, in input pixels per cell.
    """

    path: str
    channels: int
    stride: int


class ChannelsLastBody(nn.Module):
    """The layers of a transformer that works on (N, H, W, C), its stages normalised and brought to (N, C, H, W).

    layers:  by name, in order; the first takes an image.
    outputs: `{layer: (name of its output, channels)}`; each gets a LayerNorm of its own, as Swin's authors do it.
    """

    def __init__(self, layers: OrderedDict[str, nn.Module], outputs: dict[str, tuple[str, int]]) -> None:
        super().__init__()
        self.layers = nn.ModuleDict(layers)
        self.names = {layer: name for layer, (name, _) in outputs.items()}
        self.stages = nn.ModuleDict({layer: ChannelsFirstNorm(width) for layer, (_, width) in outputs.items()})

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Return `{name of an output: (N, C, H / s, W / s)}` of images (N, 3, H, W)."""
        found, x = OrderedDict(), images
        for layer, module in self.layers.items():
            x = module(x)
            if layer in self.names:
                found[self.names[layer]] = self.stages[layer](x)
        return found


class ChannelsFirstNorm(nn.LayerNorm):
    """LayerNorm over the last axis of (N, H, W, C), then (N, C, H, W)."""

    def forward(self, input: Tensor) -> Tensor:
        """Return the normalised map."""
        return super().forward(input).permute(0, 3, 1, 2)


def build_body(backbone: str, min_stride: int) -> tuple[nn.Module, list[int]]:
    """Build torchvision's classifier `backbone`, freshly initialised, without its head.

    Returns a module that gives `{"0": …, "1": …}`, the last map of each stride from `min_stride` to 32, and their
    channels.
    """
    kind = BACKBONES[backbone]
    layers = _layers_of(get_model(backbone, weights=None), kind)
    channels_last = kind == "channels_last"
    shapes = probe(layers.items(), channels_last=channels_last)
    last = {layer.stride: layer for layer in shapes}
    stages = [last[stride] for stride in (4, 8, 16, 32) if stride >= min_stride]
    channels = [layer.channels for layer in stages]
    if channels_last:
        outputs = {layer.path: (str(at), layer.channels) for at, layer in enumerate(stages)}
        return ChannelsLastBody(layers, outputs), channels
    return IntermediateLayerGetter(
        nn.Sequential(layers), {each.path: str(at) for at, each in enumerate(stages)}
    ), channels


def _layers_of(classifier: Any, kind: str) -> OrderedDict[str, nn.Module]:
    """Return what lies before the pooling and the classification layer, by name and in order."""
    if kind == "regnet":
        return OrderedDict([("stem", classifier.stem), *classifier.trunk_output.named_children()])
    if kind == "whole":
        return OrderedDict(
            (name, child) for name, child in classifier.named_children() if name not in {"avgpool", "fc"}
        )
    return OrderedDict(getattr(classifier, "layers" if kind == "layers" else "features").named_children())


def classifier_prefixes(backbone: str, detector: str) -> tuple[tuple[str, str], ...]:
    """Return how keys of the classifier's state dict begin, and how the same tensors begin in the detector's.

    The first pair that fits counts.
    """
    if detector == "ssdlite":
        # Upstream cuts block 13 after its first convolution: what follows begins the second stretch.
        tail = [(f"features.{at}.", f"backbone.features.1.{at - 13}.") for at in range(14, 17)]
        cut = [("features.13.block.0.", "backbone.features.0.13."), ("features.13.block.", "backbone.features.1.0.")]
        return (*cut, *tail, ("features.", "backbone.features.0."))
    kind = BACKBONES[backbone]
    return {
        "whole": (("", "backbone.body."),),
        "features": (("features.", "backbone.body."),),
        "layers": (("layers.", "backbone.body."),),
        "regnet": (("stem.", "backbone.body.stem."), ("trunk_output.", "backbone.body.")),
        "channels_last": (("features.", "backbone.body.layers."),),
    }[kind]


def probe(layers: Iterable[tuple[str, nn.Module]], *, channels_last: bool = False) -> list[Layer]:
    """Return path, channels and stride of each layer of a chain, found by passing a black image through it.

    Modes and state of the layers are left as they were.
    """
    chain = list(layers)
    modes = [(module, module.training) for _, layer in chain for module in layer.modules()]
    found, x = [], torch.zeros(1, 3, _PROBE_SIZE, _PROBE_SIZE)
    try:
        with torch.no_grad():
            for path, layer in chain:
                x = layer.eval()(x)
                channels, side = (x.shape[3], x.shape[1]) if channels_last else (x.shape[1], x.shape[2])
                found.append(Layer(path, channels, _PROBE_SIZE // side))
    finally:
        for module, training in modes:
            module.training = training
    return found


def freeze_norms(module: nn.Module, eps: float) -> None:
    """Replace every BatchNorm2d in `module` by torchvision's FrozenBatchNorm2d, whose values never change."""
    from torchvision.ops import FrozenBatchNorm2d

    for name, child in list(module.named_children()):
        if isinstance(child, nn.BatchNorm2d):
            setattr(module, name, FrozenBatchNorm2d(child.num_features, eps=eps))
        else:
            freeze_norms(child, eps)


def mark_eps(body: nn.Module, eps: float) -> None:
    """Store the epsilon of frozen norms in the state of the first one, because a weight file does not contain it."""
    from torchvision.ops import FrozenBatchNorm2d

    first = next(child for child in body.modules() if isinstance(child, FrozenBatchNorm2d))
    first.register_buffer(EPS_MARK, torch.tensor(eps, dtype=torch.float64))


def chain_of(model: Any) -> Sequence[tuple[str, nn.Module]]:
    """Return the layers of a detector's body in order, by their dotted names in the detector."""
    backbone = model.backbone
    if hasattr(backbone, "features"):
        blocks = [(f"backbone.features.{at}", block) for at, block in enumerate(backbone.features)]
        return [(f"{path}.{name}", child) for path, block in blocks for name, child in block.named_children()]
    body = backbone.body
    path, layers = (
        ("backbone.body.layers", body.layers) if isinstance(body, ChannelsLastBody) else ("backbone.body", body)
    )
    return [(f"{path}.{name}", child) for name, child in layers.named_children()]
