"""Layer groups and taps of torchvision's segmenters, whose last stages are dilated and keep their stride."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tlvision.plugin import LayerGroup, Tap
from tlvision_torchvision.backbones import Layer

# Both DeepLabV3's and FCN's head end with a convolution of 1 x 1, the fifth layer.
_BEFORE_CLASSES = "classifier.3"


def find_stages(model: Any) -> list[list[str]]:
    """Return the names of the backbone's layers, the stem's and then those of each stage.

    A stage begins where the classifier that is not dilated halves its map: torchvision marks these blocks of a
    MobileNetV3, and gives a ResNet a layer for each stage.
    """
    stages: list[list[str]] = [[]]
    for name, layer in model.backbone.items():
        if name.startswith("layer") or getattr(layer, "_is_cn", False):
            stages.append([])
        stages[-1].append(name)
    return stages


def find_groups(model: Any) -> tuple[LayerGroup, ...]:
    """Return stem, backbone.stage1 to 4, head and, where it is trained as well, auxiliary_head."""
    stages = find_stages(model)
    names = ["stem", *(f"backbone.stage{at}" for at in range(1, len(stages)))]
    groups = [
        LayerGroup(name, "backbone" if at else "stem", tuple(f"backbone.{layer}" for layer in stage))
        for at, (name, stage) in enumerate(zip(names, stages, strict=True))
    ]
    layer_of = {output: layer for layer, output in model.backbone.return_layers.items()}
    stage_of = {output: next(at for at, stage in enumerate(stages) if layer in stage)
                for output, layer in layer_of.items()}  # fmt: skip
    read = {output: names[at] for output, at in stage_of.items()}
    auxiliary = read.pop("aux", None)
    groups.append(LayerGroup("head", "head", ("classifier",), reads=tuple(read.values())))
    if auxiliary is not None:
        groups.append(LayerGroup("auxiliary_head", "head", ("aux_classifier",), reads=(auxiliary,)))
    return tuple(groups)


def find_taps(model: Any, layers: Mapping[str, Layer]) -> tuple[Tap, ...]:
    """Return c2 to c5, the last map of each stage, and "decode", what the head's last convolution reads.

    layers: of the backbone, by name.

    Several have one stride, because the last stages are dilated. LR-ASPP adds the scores of two maps, and has no map
    "decode".
    """
    taps = []
    for number, stage in enumerate(find_stages(model)[1:], 2):
        layer = layers[stage[-1]]
        taps.append(Tap(f"c{number}", f"backbone.{layer.path}", layer.channels, layer.stride))
    if "out" in model.backbone.return_layers.values():
        taps.append(Tap("decode", _BEFORE_CLASSES, model.classifier[4].in_channels, taps[-1].stride))
    return tuple(taps)
