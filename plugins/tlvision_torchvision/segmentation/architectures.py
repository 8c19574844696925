"""The segmenters by name. Data only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True, slots=True)
class Segmenter:
    """One of torchvision's segmenters.

    name:     its name in a config and in torchvision, for example "deeplabv3_resnet50".
    backbone: torchvision's name of its classifier.
    coco:     name of torchvision's enumeration of its weights, trained on COCO with the labels of Pascal VOC.
    """

    name: str
    backbone: str
    coco: str

    @property
    def has_auxiliary(self) -> bool:
        """True if a second head on an earlier map is trained as well, as in upstream's recipe: all but LR-ASPP."""
        return not self.name.startswith("lraspp")


SEGMENTERS: Mapping[str, Segmenter] = MappingProxyType(
    {
        segmenter.name: segmenter
        for segmenter in (
            Segmenter("deeplabv3_resnet50", "resnet50", "DeepLabV3_ResNet50_Weights"),
            Segmenter("deeplabv3_resnet101", "resnet101", "DeepLabV3_ResNet101_Weights"),
            Segmenter("deeplabv3_mobilenet_v3_large", "mobilenet_v3_large", "DeepLabV3_MobileNet_V3_Large_Weights"),
            Segmenter("fcn_resnet50", "resnet50", "FCN_ResNet50_Weights"),
            Segmenter("fcn_resnet101", "resnet101", "FCN_ResNet101_Weights"),
            Segmenter("lraspp_mobilenet_v3_large", "mobilenet_v3_large", "LRASPP_MobileNet_V3_Large_Weights"),
        )
    }
)
"""All of torchvision's segmenters."""
