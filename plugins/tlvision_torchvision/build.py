"""A torchvision detector by name: its parts, its norms, and where its weights come from."""

from __future__ import annotations

from typing import Any

from torch import nn
from torchvision.models import get_model
from torchvision.models.detection import FCOS, FasterRCNN, MaskRCNN, RetinaNet
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool, LastLevelP6P7

from tlvision.plugin import BuildSpec, WeightReport
from tlvision_timm.models import timm_model
from tlvision_timm.names import timm_name
from tlvision_torchvision.adapter import OneStageAdapter, TorchvisionAdapter, TwoStageAdapter
from tlvision_torchvision.architectures import CLASSIFIER_EPS, Architecture
from tlvision_torchvision.backbones import EPS_MARK, build_body, freeze_norms, mark_eps
from tlvision_torchvision.losses import set_class_loss
from tlvision_torchvision.timm_backbones import TimmBody, make_pyramid
from tlvision_torchvision.transfer import load_weights
from tlvision_torchvision.weights import Source, find_weights

_NECK_CHANNELS = 256
# Of the light Faster R-CNN: a step takes about a tenth of the time, since of the full one's work the two wide layers
# that read 512 proposals an image are most.
_LIGHT_CHANNELS, _LIGHT_HEAD = 128, 512
_LIGHT_PROPOSALS = {
    "rpn_post_nms_top_n_train": 500,
    "rpn_post_nms_top_n_test": 300,
    "box_batch_size_per_image": 128,
}


def build_adapter(arch: Architecture, spec: BuildSpec) -> tuple[TorchvisionAdapter, WeightReport]:
    """Build `arch` with a head for `spec.classes` and load `spec.weights` into it; see `TorchvisionPlugin.build`."""
    source = find_weights(arch, spec.weights)
    model = build_model(arch, len(spec.classes), frozen_eps=frozen_eps(arch, source))
    set_class_loss(model, arch, spec)
    kind = TwoStageAdapter if hasattr(model, "roi_heads") else OneStageAdapter
    # Before the weights are loaded: what it finds out by a forward pass must not depend on them.
    adapter = kind(model, has_background=arch.has_background, predict=spec.predict)
    return adapter, _fill(model, arch, spec, source)


def build_upstream(arch: Architecture, spec: BuildSpec) -> Any:
    """Build the detector as torchvision has it, with its own transform and thresholds, and load its weights."""
    source = find_weights(arch, spec.weights)
    model = build_model(arch, len(spec.classes), frozen_eps=frozen_eps(arch, source))
    _fill(model, arch, spec, source)
    return model


def _fill(model: Any, arch: Architecture, spec: BuildSpec, source: Source | None) -> WeightReport:
    if source is None:
        return WeightReport(source="none", missing=tuple(model.state_dict()))
    return load_weights(model, arch, source, spec.classes.names, given=spec.weights)


def build_model(arch: Architecture, num_classes: int, *, frozen_eps: float | None) -> Any:
    """Build a freshly initialised detector in train mode, every parameter of it trainable.

    num_classes: of the dataset, without a background.
    frozen_eps:  the norms of the backbone become FrozenBatchNorm2d with this epsilon; None leaves them as they are.
    """
    rows = num_classes + int(arch.has_background)
    if arch.coco:
        model = get_model(arch.name, weights=None, weights_backbone=None, num_classes=rows)
    else:
        model = _compose(arch, rows)
    if frozen_eps is not None:
        freeze_norms(model.backbone.body, frozen_eps)
        if frozen_eps != arch.coco_eps:
            mark_eps(model.backbone.body, frozen_eps)
    model.train()
    return model


def _compose(arch: Architecture, rows: int) -> nn.Module:
    """Put torchvision's detector on a body of strides 4 to 32 (one-stage: 8 to 32), with upstream's default sizes."""
    two_stage = arch.detector in {"fasterrcnn", "maskrcnn"}
    min_stride = 4 if two_stage else 8
    width = _LIGHT_CHANNELS if arch.light else _NECK_CHANNELS
    extra = LastLevelMaxPool() if two_stage else LastLevelP6P7(width, width)
    detectors = {"fasterrcnn": FasterRCNN, "maskrcnn": MaskRCNN, "retinanet": RetinaNet, "fcos": FCOS}
    if arch.on_timm:
        name = timm_name(arch.backbone)
        timm_body = TimmBody(name, min_stride)
        backbone = BodyWithPyramid(timm_body, make_pyramid(timm_body, min_stride, width, extra), width)
        mean, std = timm_model(name).mean, timm_model(name).std
        on_timm: nn.Module = detectors[arch.detector](backbone, num_classes=rows, image_mean=mean, image_std=std)
        return on_timm
    body, channels = build_body(arch.backbone, min_stride)
    backbone = BodyWithPyramid(body, FeaturePyramidNetwork(channels, width, extra_blocks=extra), width)
    if arch.light:
        head, predictor = TwoMLPHead(width * 7**2, _LIGHT_HEAD), FastRCNNPredictor(_LIGHT_HEAD, rows)
        light: nn.Module = FasterRCNN(backbone, box_head=head, box_predictor=predictor, **_LIGHT_PROPOSALS)
        return light
    model: nn.Module = detectors[arch.detector](backbone, num_classes=rows)
    return model


class BodyWithPyramid(nn.Module):
    """A body and its feature pyramid, with the names of torchvision's own BackboneWithFPN."""

    def __init__(self, body: nn.Module, fpn: nn.Module, channels: int) -> None:
        super().__init__()
        self.body, self.fpn = body, fpn
        self.out_channels = channels

    def forward(self, images: Any) -> Any:
        """Return the pyramid's maps by name, from fine to coarse, of images (N, 3, H, W)."""
        return self.fpn(self.body(images))


def frozen_eps(arch: Architecture, source: Source | None) -> float | None:
    """Return the epsilon of the backbone's frozen norms as in upstream for these weights; None if they are trained.

    A trained norm counts its batches, and a frozen one does not. Upstream sets the epsilon to 0 for its first COCO
    weights alone (`overwrite_eps`). A detector's file without a mark is taken for one of these, or for one that was
    fine-tuned from them; our own files of detectors that began with a classifier have the mark.
    """
    if source is None or not arch.frozen:
        return None
    tensors = source.file.tensors
    if not source.whole:
        return CLASSIFIER_EPS
    if any(key.startswith("backbone.body.") and key.endswith("num_batches_tracked") for key in tensors):
        return None
    mark = next((tensor for key, tensor in tensors.items() if key.endswith(f".{EPS_MARK}")), None)
    return arch.coco_eps if mark is None else float(mark)
