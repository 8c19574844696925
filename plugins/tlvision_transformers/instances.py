"""Mask2Former or EoMT for objects with masks, behind the contract of `tlvision.plugin.Adapter`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torchvision.ops import masks_to_boxes

from tlvision.plugin import PredictSpec, constants, interpolate
from tlvision.plugin.export import ExportGraphs
from tlvision.types import InputError, InputSpec, Prediction, Target
from tlvision_transformers.masks import MaskTransformer


class InstanceAdapter(MaskTransformer):
    """Mask2Former or EoMT for the task "instance", ready to be fine-tuned.

    predict: limits on the objects of `predict`.
    """

    def __init__(self, model: Any, input_spec: InputSpec, predict: PredictSpec) -> None:
        super().__init__(model, input_spec)
        self._floor, self._most = predict.floor, predict.most(masks=True)

    def loss(self, images: Tensor, targets: Sequence[Target]) -> Mapping[str, Tensor]:
        """Return upstream's own losses.

        images:  (N, 3, H, W) float32, normalised by `input_spec`.
        targets: N targets with `masks`, (M, H, W) of 0 and 1; M may be 0.
        """
        empty = torch.zeros((0, *images.shape[-2:]), device=images.device)
        masks = [empty if target.masks is None else target.masks.float() for target in targets]
        return self.mask_losses(images, masks, [target.labels for target in targets])

    def predict(self, images: Tensor) -> Sequence[Prediction]:
        """Return one prediction per image, highest score first, always in float32.

        images: as in `loss`. The score of a query and class is P(class) times the mean of P(mask) inside the mask, as
        in Mask2Former's own evaluation of instances. Masks are those above 0.5; boxes lie around them.

        Raises RuntimeError if the module is in train mode.
        """
        with torch.no_grad():
            return self.predict_with_gradients(images)

    def predict_with_gradients(self, images: Tensor) -> Sequence[Prediction]:
        """Return what `predict` does, with gradients of the scores if they are enabled."""
        if self._model.training:
            raise RuntimeError("InstanceAdapter.predict: the module must be in eval mode; call module.eval() first")
        with torch.autocast(images.device.type, enabled=False), _same_kernels():
            outputs = self._model(pixel_values=images.float())
        chances = outputs.class_queries_logits.softmax(dim=-1)[..., :-1]  # (N, Q, C)
        size = (images.shape[-2], images.shape[-1])
        return [
            self._prediction(own, logits, size)
            for own, logits in zip(chances, outputs.masks_queries_logits, strict=True)
        ]

    def export_graphs(self, images: Tensor) -> ExportGraphs:
        """Raise InputError: the runtime has no way to read the masks of queries."""
        raise InputError(
            "transformers: the export of a mask transformer for the task 'instance' is not written, because its scores "
            "depend on its masks at the size of the image, which bundles do not hold; export another architecture"
        )

    def _prediction(self, chances: Tensor, logits: Tensor, size: tuple[int, int]) -> Prediction:
        """Return the best objects of one image. chances: (Q, C). logits: (Q, h, w)."""
        values, places = chances.flatten().topk(min(self._most, chances.numel()))
        queries, labels = places // chances.shape[1], places % chances.shape[1]
        scaled = interpolate(logits[None], size)[0][queries]  # (K, H, W)
        masks = scaled > 0
        area = masks.flatten(1).sum(1)
        scores = values * (scaled.sigmoid() * masks).flatten(1).sum(1) / area.clamp(min=1)
        order = scores.argsort(descending=True, stable=True)
        order = order[(area[order] > 0) & (scores[order] >= self._floor)]
        masks = masks[order]
        boxes = masks_to_boxes(masks) if len(masks) else scaled.new_zeros((0, 4))
        # torchvision's bounds end with the last pixel, boxes behind it.
        boxes = boxes.float() + constants([0, 0, 1, 1], boxes.float())
        return Prediction(boxes=boxes, scores=scores[order], labels=labels[order], masks=masks.to(torch.uint8))


@contextmanager
def _same_kernels() -> Iterator[None]:
    """Let attention run the same kernels with and without gradients inside the with-block, so that scores are equal."""
    enabled = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(enabled)
