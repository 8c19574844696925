"""The detectors by name: torchvision's own, and each detector on each backbone. Data only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from tlvision.types import InputError, nearest
from tlvision_timm.names import PREFIX, check_name, is_timm
from tlvision_torchvision.segmentation.architectures import SEGMENTERS

DETECTORS = ("fasterrcnn", "maskrcnn", "retinanet", "fcos")
"""What can be put on any backbone."""

BACKBONES: Mapping[str, str] = MappingProxyType(
    {
        **dict.fromkeys(("mobilenet_v2", "mobilenet_v3_small", "mobilenet_v3_large"), "features"),
        **dict.fromkeys(("resnet18", "resnet34", "resnet50", "resnet101", "resnet152"), "whole"),
        **dict.fromkeys(("resnext50_32x4d", "resnext101_32x8d", "resnext101_64x4d"), "whole"),
        **dict.fromkeys(("wide_resnet50_2", "wide_resnet101_2"), "whole"),
        **{f"efficientnet_b{size}": "features" for size in range(8)},
        **{f"efficientnet_v2_{size}": "features" for size in "sml"},
        **{f"convnext_{size}": "features" for size in ("tiny", "small", "base", "large")},
        **{f"swin_{size}": "channels_last" for size in "tsb"},
        **{f"swin_v2_{size}": "channels_last" for size in "tsb"},
        **{f"regnet_{kind}_{size}": "regnet" for kind in "xy" for size in ("400mf", "800mf", "1_6gf", "3_2gf", "8gf")},
        **{f"regnet_{kind}_{size}": "regnet" for kind in "xy" for size in ("16gf", "32gf")},
        **{f"densenet{depth}": "features" for depth in (121, 161, 169, 201)},
        **{f"mnasnet{width}": "layers" for width in ("0_5", "0_75", "1_0", "1_3")},
        **{f"shufflenet_v2_x{width}": "whole" for width in ("0_5", "1_0", "1_5", "2_0")},
        **{f"vgg{depth}{norm}": "features" for depth in (11, 13, 16, 19) for norm in ("", "_bn")},
    }
)
"""`{torchvision's name of a classifier: where its layers lie in it}`; see `tlvision_torchvision.backbones`."""


CLASSIFIER_EPS = 1e-5
"""The epsilon of batch norm in every classifier of torchvision that a detector freezes, as upstream builds it."""


@dataclass(frozen=True, slots=True)
class Architecture:
    """One detector on one backbone.

    name:     its name in a config, for example "fasterrcnn_resnet50_fpn".
    detector: "fasterrcnn", "maskrcnn", "retinanet", "fcos" or "ssdlite".
    backbone: torchvision's name of its classifier, or timm's behind "timm/".
    coco:     name of torchvision's enumeration of COCO weights; empty if there are none. An architecture that has
              them is built by torchvision's own function of the same name, any other out of torchvision's parts.
    frozen:   whether the norms of the backbone are FrozenBatchNorm2d when it is pretrained, as in upstream; they
              are trained (BatchNorm2d) otherwise.
    coco_eps: the epsilon of those frozen norms under the COCO weights: the first of these were trained when upstream's
              norms had none. Weights of a classifier have torch's own, 1e-5.
    light:    half of the channels and fewer proposals, for a machine without a GPU; see `tlvision_torchvision.build`.
    """

    name: str
    detector: str
    backbone: str
    coco: str = ""
    frozen: bool = True
    coco_eps: float = CLASSIFIER_EPS
    light: bool = False

    @property
    def task(self) -> str:
        """The task of the architecture."""
        return "instance" if self.detector == "maskrcnn" else "detect"

    @property
    def on_timm(self) -> bool:
        """True if the backbone is one of timm."""
        return is_timm(self.backbone)

    @property
    def has_background(self) -> bool:
        """True if the first row of the head's class scores is the background (softmax), not a class (sigmoid)."""
        return self.detector not in {"retinanet", "fcos"}


def _zoo() -> list[Architecture]:
    mobile = "mobilenet_v3_large"
    return [
        Architecture(
            "fasterrcnn_resnet50_fpn", "fasterrcnn", "resnet50", "FasterRCNN_ResNet50_FPN_Weights", coco_eps=0.0
        ),
        Architecture(
            "fasterrcnn_resnet50_fpn_v2", "fasterrcnn", "resnet50", "FasterRCNN_ResNet50_FPN_V2_Weights", frozen=False
        ),
        Architecture(f"fasterrcnn_{mobile}_fpn", "fasterrcnn", mobile, "FasterRCNN_MobileNet_V3_Large_FPN_Weights"),
        Architecture(
            f"fasterrcnn_{mobile}_320_fpn", "fasterrcnn", mobile, "FasterRCNN_MobileNet_V3_Large_320_FPN_Weights"
        ),
        Architecture("maskrcnn_resnet50_fpn", "maskrcnn", "resnet50", "MaskRCNN_ResNet50_FPN_Weights", coco_eps=0.0),
        Architecture(
            "maskrcnn_resnet50_fpn_v2", "maskrcnn", "resnet50", "MaskRCNN_ResNet50_FPN_V2_Weights", frozen=False
        ),
        Architecture("retinanet_resnet50_fpn", "retinanet", "resnet50", "RetinaNet_ResNet50_FPN_Weights", coco_eps=0.0),
        Architecture(
            "retinanet_resnet50_fpn_v2", "retinanet", "resnet50", "RetinaNet_ResNet50_FPN_V2_Weights", frozen=False
        ),
        Architecture("fcos_resnet50_fpn", "fcos", "resnet50", "FCOS_ResNet50_FPN_Weights"),
        Architecture(f"ssdlite320_{mobile}", "ssdlite", mobile, "SSDLite320_MobileNet_V3_Large_Weights", frozen=False),
    ]


def _table() -> Mapping[str, Architecture]:
    composed = [
        Architecture(f"{detector}_{backbone}_fpn", detector, backbone)
        for detector in DETECTORS
        for backbone in BACKBONES
    ]
    light = [
        Architecture(f"fasterrcnn_{backbone}_fpn_light", "fasterrcnn", backbone, light=True) for backbone in BACKBONES
    ]
    return MappingProxyType({arch.name: arch for arch in (*composed, *light, *_zoo())})


ARCHITECTURES = _table()


def _on_timm(name: str) -> Architecture | None:
    """Return the detector on a backbone of timm that `name` describes, "<detector>_timm/<name>"; None if it is none.

    timm is imported only for such a name. Raises InputError with the nearest name if timm has no such model.
    """
    detector, _, backbone = name.partition(f"_{PREFIX}")
    if detector not in DETECTORS or not backbone:
        return None
    try:
        check_name(backbone)
    except InputError as error:
        own = f"one of torchvision's own is '{detector}_resnet50_fpn'"
        raise InputError(f"{error} The value of model.arch is '{name}'; {own}.") from None
    # Norms of timm may have an activation inside, and are not replaced by frozen ones.
    return Architecture(name, detector, f"{PREFIX}{backbone}", frozen=False)


def find_architecture(name: str) -> Architecture:
    """Return the detector called `name`; InputError with the nearest name, of segmenters too, where there is none."""
    found = ARCHITECTURES.get(name) or _on_timm(name)
    if found is not None:
        return found
    backbones = ""
    if not name.startswith(DETECTORS):
        backbones = " Others are '<detector>_<backbone>_fpn' and '<detector>_timm/<name>'."
    names = (*ARCHITECTURES, *SEGMENTERS)
    raise InputError(f"model.arch: plugin 'torchvision' has no architecture '{name}'.{nearest(name, names)}{backbones}")
