"""Checks that weights and predictions are finite: a model of nan predicts nothing, which must not count as AP 0."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

from tlvision.types import Prediction, RunError

if TYPE_CHECKING:
    from torch import Tensor, nn


def first_bad_tensor(module: nn.Module) -> str | None:
    """Return the name of the first parameter that is not finite, or buffer that holds nan; None if there is none."""
    # Buffers may hold infinity on purpose: attention masks, and the limits of anchors or of distances.
    named = [(name, torch.isfinite(parameter.detach()).all()) for name, parameter in module.named_parameters()]
    named += [(name, ~torch.isnan(buffer).any()) for name, buffer in module.named_buffers()]
    return next((name for name, good in named if not bool(good)), None)


def check_weights(module: nn.Module) -> None:
    """Raise RunError that names the tensor if the weights of a model that is to predict are not finite."""
    name = first_bad_tensor(module)
    if name is not None:
        raise RunError(
            f"the model gives nan: its weights are not finite ('{name}'). Training has diverged. Lower train.lr, or "
            "use a longer train.warmup or a smaller train.clip"
        )


def check_outputs(found: Sequence[Prediction] | Tensor, image_ids: Sequence[object]) -> None:
    """Raise RunError that names the image if boxes, scores of objects or scores of pixels are not finite.

    found: a prediction for each image, or (N, C, H, W) scores.
    """
    if isinstance(found, torch.Tensor):
        # The maximum is nan if any score is. A class may have -inf on purpose.
        bad = (~torch.isfinite(found.amax(dim=(1, 2, 3)))).nonzero().flatten().tolist()
        kind = "scores of pixels"
    else:
        bad = [row for row, prediction in enumerate(found) if not _is_finite(prediction)]
        kind = "boxes or scores"
    if bad:
        raise RunError(
            f"the model gives nan: its {kind} for the image {image_ids[bad[0]]} are not finite. Check the weights, or "
            "train with a lower train.lr"
        )


def _is_finite(prediction: Prediction) -> bool:
    return all(bool(torch.isfinite(torch.as_tensor(values)).all()) for values in (prediction.boxes, prediction.scores))


@contextmanager
def watch_for_nan(module: nn.Module, nan_in: list[str]) -> Iterator[None]:
    """Append to `nan_in` the first layer whose output holds nan inside the with-block.

    Detectors drop boxes whose score is not above a threshold, and nan is above none: the predictions do not show it.
    """
    flags: list[tuple[str, Tensor]] = []
    handles = []
    for name, child in module.named_modules():
        if not any(True for _ in child.children()):

            def record(_: nn.Module, __: Any, output: Any, name: str = name) -> None:
                if isinstance(output, torch.Tensor) and output.is_floating_point():
                    flags.append((name, torch.isnan(output).any()))

            handles.append(child.register_forward_hook(record))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
    nan_in += [name for name, flag in flags if bool(flag)][:1]


def fail_if_silenced(found: Sequence[Prediction] | Tensor, nan_in: Sequence[str]) -> None:
    """Raise RunError if a layer computed nan and not one object was predicted."""
    if nan_in and not isinstance(found, torch.Tensor) and not any(len(prediction.scores) for prediction in found):
        raise RunError(
            f"the model gives nan (first in the layer '{nan_in[0]}'), so it has no predictions. Check the weights, or "
            "train with a lower train.lr"
        )
