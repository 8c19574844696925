"""Turn the masks and classes of the queries of a mask transformer into scores of pixels."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tlvision.plugin import interpolate


def class_scores(model: Any, images: Tensor) -> Tensor:
    """Return (N, classes, h, w), the sum over queries of P(class) P(mask): at least 0, any sum over the classes.

    The mask logits of Mask2Former and EoMT are interpolated to the input before their sigmoid; MaskFormer's scores
    have a quarter of its height and width. Both as in upstream.

    model: upstream's. images: (N, 3, H, W) float32, normalised.
    """
    outputs = model(pixel_values=images)
    classes = outputs.class_queries_logits.float().softmax(dim=-1)[..., :-1]
    logits = outputs.masks_queries_logits.float()
    if model.config.model_type != "maskformer":
        logits = interpolate(logits, images.shape[-2:])
    with torch.autocast(images.device.type, enabled=False):
        return torch.einsum("bqc,bqhw->bchw", classes, logits.sigmoid())
