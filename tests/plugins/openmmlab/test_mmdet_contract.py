"""Everything that tlvision promises its users about every plugin, on each kind of detector of mmdet."""

from __future__ import annotations

from pathlib import Path

import pytest

from tlvision.conformance import PluginCheck, plugin_checks
from zoo import contract

CONFIGS = Path(__file__).parent / "configs"
# The zoo's own where they are small, narrower ones of the same make where they are not.
ARCHITECTURES = {
    "Faster R-CNN, ResNet": str(CONFIGS / "faster-rcnn_tiny.py"),
    "Faster R-CNN, MobileNetV2": "faster-rcnn_mobilenet-v2_fpn",
    "Mask R-CNN": str(CONFIGS / "mask-rcnn_tiny.py"),
    "Cascade R-CNN": str(CONFIGS / "cascade-rcnn_tiny.py"),
    "RetinaNet": "retinanet_r18_fpn_1x_coco",
    "FCOS": "fcos_r18_fpn_gn-head-center-normbbox-centeronreg-giou_8xb8-amp-lsj-200e_coco",
    "ATSS": "atss_r18_fpn_8xb8-amp-lsj-200e_coco",
    "YOLOX": "yolox_tiny_8xb8-300e_coco",
    "RTMDet": "rtmdet_tiny_8xb32-300e_coco",
    "Deformable DETR": str(CONFIGS / "deformable-detr_tiny.py"),
    "DINO": str(CONFIGS / "dino_tiny.py"),
    "Faster R-CNN, timm": str(CONFIGS / "faster-rcnn_timm.py"),
    "RetinaNet, plain transformer of timm": str(CONFIGS / "retinanet_timm.py"),
}
EXPECTED = {
    "Mask R-CNN": {
        "frozen_prefix": "where the box head is frozen and the mask head is not, the box head is shown other proposals "
        "in each step: upstream draws them at random"
    },
    "RTMDet": {
        "loss_is_a_mean_over_images": "upstream divides by the sum of the assigned scores, but by 1 at least, and a "
        "fresh model's scores do not reach that"
    },
}
CHECKS = {
    name: plugin_checks("mmdet", arch=arch, expected_failures=EXPECTED.get(name))
    for name, arch in ARCHITECTURES.items()
}


@pytest.mark.parametrize("check", contract(CHECKS))
def test_contract(check: PluginCheck) -> None:
    check()
