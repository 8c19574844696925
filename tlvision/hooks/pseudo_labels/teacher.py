"""Run the teacher on the unlabelled images of a micro-batch, once for all hooks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from tlvision.data.padding import blank_padding, valid_pixels, without_padding
from tlvision.plugin import HasDenseLogits, class_probabilities, interpolate, score_kind
from tlvision.types import Prediction

if TYPE_CHECKING:
    from torch import Tensor

    from tlvision.hooks.base import Context

_KEY = "teacher"

TeacherOutput = Sequence[Prediction] | list["Tensor"]
"""A prediction for each image; of a model that scores every pixel, (C, H, W) probabilities for each image, which are
`PADDING` (-1) where the view shows no image, and so reach no threshold."""


def teacher_predictions(context: Context) -> TeacherOutput:
    """Return the predictions of `context.teacher` on the weak views of the current micro-batch, computed once.

    Tensors are ordinary ones without gradients, at the size and in the pixels of the network input.
    """
    import torch

    cache = context.step_data.cache
    if _KEY not in cache:
        assert context.teacher is not None
        assert context.step_data.unlabelled is not None
        weak, valid = context.step_data.unlabelled.weak, valid_pixels(context.step_data.unlabelled)
        with torch.inference_mode():
            if isinstance(context.teacher, HasDenseLogits):
                scores = interpolate(context.teacher.dense_logits(weak), weak.shape[-2:])
                found: TeacherOutput = list(class_probabilities(scores, score_kind(context.teacher)))
            else:
                found = context.teacher.predict(weak)
        output = [_savable(each) for each in found]
        if valid is not None:
            output = [_without_padding(each, where) for each, where in zip(output, valid, strict=True)]
        cache[_KEY] = output
    result: TeacherOutput = cache[_KEY]
    return result


def _without_padding(output: Any, valid: Tensor) -> Any:
    return without_padding(output, valid) if isinstance(output, Prediction) else blank_padding(output, valid)


def _savable(output: Any) -> Any:
    """Return a copy that autograd may save for the backward pass; it refuses tensors made in inference mode."""
    if not isinstance(output, Prediction):
        return output.clone()
    masks = None if output.masks is None else output.masks.clone()
    # Not by indexing: with a mask it waits for the device.
    return replace(
        output, boxes=output.boxes.clone(), scores=output.scores.clone(), labels=output.labels.clone(), masks=masks
    )


def best_score(output: Prediction | Tensor) -> float:
    """Return the highest score or probability of one image, 0..1; 0.0 if there is none."""
    scores = output.scores if isinstance(output, Prediction) else output
    return float(scores.max()) if scores.numel() else 0.0
