"""The contract with the core, for all three models: groups and taps are data, the rest is a few lines each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import torch
from torch import Tensor, nn

from tlvision.plugin import (
    Adapter,
    BuildSpec,
    InputSpec,
    LayerGroup,
    PredictSpec,
    Tap,
    WeightReport,
    label_maps,
    tap_features,
)
from tlvision.plugin.export import Candidates, DenseScores, ExportGraphs, Graph
from tlvision.plugin.weights.files import read_tensors
from tlvision.plugin.weights.head_rows import load_by_class_name, require_same_architecture
from tlvision.types import InputError, Prediction, Target
from tlvision_toy.backbone import STAGES
from tlvision_toy.detection_loss import detection_losses
from tlvision_toy.detector import LEVELS, NMS_IOU, WIDTH, DenseGraph, TinyDetector, select
from tlvision_toy.instance import TinyInstanceSegmenter, cut_masks, mask_losses
from tlvision_toy.segmenter import WIDTH as DECODER_WIDTH
from tlvision_toy.segmenter import TinySegmenter, segmentation_losses

SIZE = {"images": {2: "height", 3: "width"}}
"""Free axes of a graph."""
INPUT = InputSpec(multiple_of=32, mean=(0.45, 0.45, 0.45), std=(0.25, 0.25, 0.25))

BACKBONE_GROUPS = (
    LayerGroup("stem", "stem", ("backbone.stem",)),
    *(LayerGroup(f"backbone.{stage}", "backbone", (f"backbone.{stage}",)) for stage in STAGES),
)
BACKBONE_TAPS = tuple(Tap(stage, f"backbone.{stage}", channels, stride) for stage, (channels, stride) in STAGES.items())
DECODER_TAP = Tap("decoder", "decoder", DECODER_WIDTH, 4)
PYRAMID_TAPS = tuple(Tap(level, f"neck.smooth.{level}", WIDTH, STAGES[stage][1]) for level, stage in LEVELS.items())


class DetectorAdapter:
    """`TinyDetector` behind the contract; see `tlvision.plugin.Adapter` for every member."""

    class_keys = ("head.classify.weight", "head.classify.bias")
    input_spec = INPUT
    groups = (*BACKBONE_GROUPS, LayerGroup("neck", "neck", ("neck",)), LayerGroup("head", "head", ("head",)))
    taps = tuple(sorted((*BACKBONE_TAPS, *PYRAMID_TAPS), key=lambda tap: tap.stride))

    def __init__(self, classes: int, predict: PredictSpec) -> None:
        self.module: nn.Module = TinyDetector(classes)
        self._predict = predict

    def loss(self, images: Tensor, targets: Sequence[Target]) -> Mapping[str, Tensor]:
        """{"loss_class", "loss_box"}."""
        return detection_losses(self.module(images), targets)

    def features(self, images: Tensor) -> Mapping[str, Tensor]:
        """Return the features of the taps."""
        return tap_features(self.module, self.taps, images)

    @torch.no_grad()
    def predict(self, images: Tensor) -> Sequence[Prediction]:
        """Return objects within the limits of `BuildSpec.predict`."""
        return self.predict_with_gradients(images)

    def predict_with_gradients(self, images: Tensor) -> Sequence[Prediction]:
        """Return what `predict` does, with gradients of the scores if they are enabled."""
        found = select(self.module(images), (images.shape[2], images.shape[3]), self._predict)
        return [Prediction(boxes=boxes, scores=scores, labels=labels) for boxes, scores, labels in found]

    def export_graphs(self, images: Tensor) -> ExportGraphs:
        """Return the model up to the boxes and scores of every cell; see `tlvision.plugin.Exportable`."""
        most = self._predict.most()
        decoder = Candidates(
            score_floor=self._predict.floor,
            nms_iou=self._predict.overlap(NMS_IOU),
            most=most,
            most_before=max(1000, 4 * most),
            clip="before",
        )
        graph = Graph(
            module=DenseGraph(self.module).eval(), inputs={"images": images}, outputs=("boxes", "scores"), free=SIZE
        )
        return ExportGraphs(graphs={"model": graph}, decoder=decoder)


class SegmenterAdapter:
    """`TinySegmenter` behind the contract; see `tlvision.plugin.Adapter` for every member."""

    class_keys = ("classify.weight", "classify.bias")
    input_spec = INPUT
    groups = (
        *BACKBONE_GROUPS,
        LayerGroup("neck", "neck", ("decoder",)),
        LayerGroup("head", "head", ("classify",)),
    )
    taps = (DECODER_TAP, *BACKBONE_TAPS)

    def __init__(self, classes: int, predict: PredictSpec) -> None:
        self.module: nn.Module = TinySegmenter(classes)

    def loss(self, images: Tensor, targets: Sequence[Target]) -> Mapping[str, Tensor]:
        """{"loss_pixel"}; every target needs its `semantic` label map."""
        return segmentation_losses(self.module(images), targets)

    def features(self, images: Tensor) -> Mapping[str, Tensor]:
        """Return the features of the taps."""
        return tap_features(self.module, self.taps, images)

    @torch.no_grad()
    def predict(self, images: Tensor) -> Sequence[Prediction]:
        """A label map per image, and no boxes."""
        return label_maps(self.dense_logits(images), images.shape[-2:])

    def dense_logits(self, images: Tensor) -> Tensor:
        """(N, classes, H, W)."""
        logits: Tensor = self.module(images)
        return logits

    def export_graphs(self, images: Tensor) -> ExportGraphs:
        """Return the whole model; see `tlvision.plugin.Exportable`."""
        graph = Graph(module=self.module, inputs={"images": images}, outputs=("scores",), free=SIZE)
        return ExportGraphs(graphs={"model": graph}, decoder=DenseScores())


class InstanceAdapter:
    """`TinyInstanceSegmenter` behind the contract; see `tlvision.plugin.Adapter` for every member."""

    class_keys = ("head.classify.weight", "head.classify.bias", "mask.weight", "mask.bias")
    input_spec = INPUT
    groups = (
        *BACKBONE_GROUPS,
        LayerGroup("neck", "neck", ("neck", "decoder")),
        LayerGroup("head", "head", ("head", "mask")),
    )
    taps = tuple(sorted((DECODER_TAP, *BACKBONE_TAPS, *PYRAMID_TAPS), key=lambda tap: tap.stride))

    def __init__(self, classes: int, predict: PredictSpec) -> None:
        self.module: nn.Module = TinyInstanceSegmenter(classes)
        self._predict = predict

    def loss(self, images: Tensor, targets: Sequence[Target]) -> Mapping[str, Tensor]:
        """{"loss_class", "loss_box", "loss_mask"}; every target with objects needs its `masks`."""
        dense, masks = self.module(images)
        return detection_losses(dense, targets) | mask_losses(masks, targets)

    def features(self, images: Tensor) -> Mapping[str, Tensor]:
        """Return the features of the taps."""
        return tap_features(self.module, self.taps, images)

    @torch.no_grad()
    def predict(self, images: Tensor) -> Sequence[Prediction]:
        """Return objects and their masks within the limits of `BuildSpec.predict`."""
        return self.predict_with_gradients(images)

    def predict_with_gradients(self, images: Tensor) -> Sequence[Prediction]:
        """Return what `predict` does, with gradients of the scores if they are enabled."""
        dense, masks = self.module(images)
        found = select(dense, (images.shape[2], images.shape[3]), self._predict, masks=True)
        return [
            Prediction(boxes=boxes, scores=scores, labels=labels, masks=cut_masks(logits, boxes, labels))
            for logits, (boxes, scores, labels) in zip(masks, found, strict=True)
        ]


ADAPTERS: Mapping[str, type[DetectorAdapter | SegmenterAdapter | InstanceAdapter]] = MappingProxyType(
    {"tiny_detector": DetectorAdapter, "tiny_segmenter": SegmenterAdapter, "toy-instance": InstanceAdapter}
)


def build_adapter(spec: BuildSpec) -> tuple[Adapter, WeightReport]:
    """Build the model of `spec` and load its weights; see `Plugin.build`."""
    kind = ADAPTERS[spec.arch]
    adapter = kind(len(spec.classes), spec.predict)
    if spec.weights == "none":
        return adapter, WeightReport(source="none", missing=tuple(adapter.module.state_dict()))
    if spec.weights in {"coco", "imagenet"}:
        raise InputError(
            f"model.weights: toy has no '{spec.weights}' weights for '{spec.arch}'; use 'none' or the path of a file"
        )
    report = load_by_class_name(adapter.module, read_tensors(spec.weights), spec.classes.names, adapter.class_keys)
    require_same_architecture(report, spec.arch, adapter.class_keys)
    return adapter, report
