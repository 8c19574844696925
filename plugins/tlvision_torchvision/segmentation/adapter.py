"""A torchvision segmenter behind the contract of `tlvision.plugin.Adapter`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from tlvision.plugin import capture, interpolate, label_maps
from tlvision.plugin.export import DenseScores, ExportGraphs, Graph
from tlvision.types import InputError, InputSpec, Prediction, Target
from tlvision_torchvision.backbones import probe
from tlvision_torchvision.segmentation.groups import find_groups, find_taps
from tlvision_torchvision.segmentation.losses import cross_entropy, stack_labels

_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# As in torchvision's references/segmentation/train.py.
_AUXILIARY_WEIGHT = 0.5


class Scores(nn.Module):
    """Backbone and main head of a segmenter, whose modules it shares, without resizing."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.backbone, self.classifier = model.backbone, model.classifier

    def forward(self, images: Tensor) -> Tensor:
        """Return scores (N, C, h, w) of images (N, 3, H, W)."""
        return main_scores(self, images)


def main_scores(model: Any, images: Tensor) -> Tensor:
    """Return the scores (N, C, h, w) of the main head, of its own size, without running the auxiliary head."""
    maps = model.backbone(images)
    scores: Tensor = model.classifier(maps.get("out", maps))
    return scores


class SegmenterAdapter:
    """One segmenter of torchvision, ready to be fine-tuned. Has the capability `HasDenseLogits`.

    model:         the segmenter, on the CPU.
    arch:          its name, for messages.
    class_weights: of the classes in the loss, in their order; None for 1 each.
    """

    module: nn.Module

    def __init__(self, model: Any, arch: str, class_weights: Sequence[float] | None) -> None:
        layers = {layer.path: layer for layer in probe(model.backbone.items())}
        self.groups, self.taps = find_groups(model), find_taps(model, layers)
        self.input_spec = _input_spec(max(layer.stride for layer in layers.values()))
        self.module = self._model = model
        self._arch, self._class_weights = arch, class_weights

    def loss(self, images: Tensor, targets: Sequence[Target]) -> Mapping[str, Tensor]:
        """Return "loss_cross_entropy" and, of models with an auxiliary head, "loss_auxiliary" with upstream's 0.5.

        images:  (N, 3, H, W) float32, normalised by `input_spec`.
        targets: N targets with label maps on the device of `images`.

        Each is a mean over the labelled pixels of an image, then over the images. Upstream's recipe takes the mean over
        all labelled pixels of the batch, which is the same where every image has as many.

        Raises InputError if a target has no label map, or a model that normalises over what it has pooled to a pixel
        is trained on one image.
        """
        labels = stack_labels(targets, self._arch)
        with _one_image_explained(self._arch, images):
            scores = self.module(images)
        losses = {"loss_cross_entropy": cross_entropy(scores["out"], labels, self._class_weights)}
        if "aux" in scores:
            auxiliary = cross_entropy(scores["aux"], labels, self._class_weights)
            losses["loss_auxiliary"] = _AUXILIARY_WEIGHT * auxiliary
        return losses

    def features(self, images: Tensor) -> Mapping[str, Tensor]:
        """Return `{tap name: (N, C, H / s, W / s)}` of the current mode, with gradients if they are enabled."""
        with capture(self._model, self.taps) as features:
            self._scores(images)
        return features

    def predict(self, images: Tensor) -> Sequence[Prediction]:
        """Return a label map of the size of the network input for each image, and no boxes.

        Raises RuntimeError if the module is in train mode.
        """
        if self._model.training:
            raise RuntimeError("SegmenterAdapter.predict: the module must be in eval mode; call module.eval() first")
        with torch.no_grad():
            return label_maps(self.dense_logits(images), images.shape[-2:])

    def dense_logits(self, images: Tensor) -> Tensor:
        """Return (N, C, H, W) scores of the main head in the current mode, with gradients if they are enabled."""
        return interpolate(self._scores(images), images.shape[-2:])

    def export_graphs(self, images: Tensor) -> ExportGraphs:
        """Return backbone and main head, without resizing; see `tlvision.plugin.Exportable`."""
        graph = Graph(
            module=Scores(self._model).eval(),
            inputs={"images": images},
            outputs=("scores",),
            free={"images": {2: "height", 3: "width"}},
        )
        return ExportGraphs(graphs={"model": graph}, decoder=DenseScores())

    def _scores(self, images: Tensor) -> Tensor:
        with _one_image_explained(self._arch, images):
            return main_scores(self._model, images)


def _input_spec(multiple_of: int) -> InputSpec:
    """Return the image format of upstream's weights: RGB in 0..1, and padding that is 0 once normalised."""
    red, green, blue = (round(255 * value) for value in _MEAN)
    return InputSpec(place="corner", multiple_of=multiple_of, mean=_MEAN, std=_STD, pad_value=(red, green, blue))


@contextmanager
def _one_image_explained(arch: str, images: Tensor) -> Iterator[None]:
    """Raise InputError with a remedy where the batch norm behind a global pooling is trained on one image."""
    try:
        yield
    except ValueError as error:
        if len(images) != 1 or "more than 1 value per channel" not in str(error):
            raise
        raise InputError(
            f"{arch} cannot be trained on a batch of one image: it normalises over what it has pooled to a single "
            "pixel; set data.batch.labelled to 2 or more"
        ) from error
