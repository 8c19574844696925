"""A segmenter of smp behind the contract of `tlvision.plugin.Adapter`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from tlvision.plugin import label_maps, tap_features
from tlvision.plugin.export import DenseScores, ExportGraphs, Graph
from tlvision.types import InputError, InputSpec, Prediction, Target
from tlvision_smp.groups import Probe, add_taps, find_groups
from tlvision_smp.losses import Losses, stack_labels


class SmpAdapter:
    """One segmenter, ready to be fine-tuned.

    model:      smp's, in train mode; it gets places for taps, which have no state.
    arch:       its name, for messages.
    seen:       observations of a forward pass.
    losses:     what `loss` returns.
    input_spec: image format of its encoder.
    """

    module: nn.Module

    def __init__(self, model: Any, arch: str, seen: Probe, losses: Losses, input_spec: InputSpec) -> None:
        self.module = model
        self._arch, self._losses, self.input_spec = arch, losses, input_spec
        self.groups, self.taps = find_groups(model, seen), add_taps(model, seen)

    def loss(self, images: Tensor, targets: Sequence[Target]) -> Mapping[str, Tensor]:
        """{"loss_<name>"} for each of `model.options.losses`; every target needs its `semantic` label map."""
        labels = stack_labels(targets, self._arch)
        try:
            logits = self.dense_logits(images)
        except ValueError as error:
            # The batch norm behind a global pooling; torch says it so, and only in train mode.
            if len(images) == 1 and "more than 1 value per channel" in str(error):
                raise InputError(
                    f"{self._arch} cannot be trained on a batch of one image: it normalises over what it has pooled to "
                    "a single pixel; set data.batch.labelled to 2 or more"
                ) from error
            raise
        return self._losses(logits, labels)

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
        graph = Graph(
            module=self.module,
            inputs={"images": images},
            outputs=("scores",),
            free={"images": {2: "height", 3: "width"}},
        )
        return ExportGraphs(graphs={"model": graph}, decoder=DenseScores())
