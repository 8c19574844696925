"""From class scores to probabilities and label maps, the same way for every segmenter."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, get_args

from tlvision.types import InputError, Prediction

if TYPE_CHECKING:
    from torch import Tensor


ScoreKind = Literal["logits", "sigmoid", "probabilities"]
"""What `HasDenseLogits.dense_logits` gives: logits of one softmax over the classes; logits of one sigmoid for each
class; or probabilities, at least 0, whose sum over the classes need not be 1."""

_SMALLEST = 1e-7


def score_kind(adapter: Any) -> ScoreKind:
    """Return the kind of an adapter's scores: its attribute `score_kind`, or "logits" if it has none.

    Raises InputError if the attribute is none of the three.

    >>> score_kind(object())
    'logits'
    """
    kind: ScoreKind = getattr(adapter, "score_kind", "logits")
    if kind not in get_args(ScoreKind):
        raise InputError(
            f"plugin: score_kind is {kind!r}. Set it to one of {', '.join(get_args(ScoreKind))}. "
            "An adapter without it gives logits."
        )
    return kind


def class_probabilities(scores: Tensor, kind: ScoreKind, dim: int = 1) -> Tensor:
    """Return the probability of each class, float32, 0..1, with a sum of 1 over `dim`; gradients kept.

    scores: of any shape, the classes along `dim`. kind: logits, sigmoid logits or probabilities.

    Probabilities with a sum above 1 are divided by it. What is missing to a sum of 1 goes to all classes alike: a mask
    classifier (Cheng et al., "Per-Pixel Classification is Not All You Need for Semantic Segmentation", NeurIPS 2021,
    section 3.4) adds up the masks of its queries, and a pixel that no query claims is one of which nothing is known.
    The paper takes the class with the highest score alone; that class is the same here.

    >>> import torch
    >>> class_probabilities(torch.tensor([[0.9, 0.0], [0.2, 0.0], [1.5, 0.5]]), "probabilities").tolist()[2]
    [0.75, 0.25]
    """
    if kind == "logits":
        return scores.float().softmax(dim)
    chances = unnormalised(scores, kind)
    total = chances.sum(dim, keepdim=True)
    return chances / total.clamp(min=1) + (1 - total).clamp(min=0) / scores.shape[dim]


def class_log_probabilities(scores: Tensor, kind: ScoreKind, dim: int = 1) -> Tensor:
    """Return the logarithm of `class_probabilities`, finite, float32; arguments as there."""
    if kind == "logits":
        return scores.float().log_softmax(dim)
    return class_probabilities(scores, kind, dim).clamp(min=_SMALLEST).log()


def unnormalised(scores: Tensor, kind: ScoreKind) -> Tensor:
    """Return a probability for each class by itself, float32: of scores that are no logits of a softmax."""
    return scores.float().sigmoid() if kind == "sigmoid" else scores.float().clamp(min=0)


def interpolate(scores: Tensor, size: Sequence[int]) -> Tensor:
    """Return (N, C, H, W) float32 scores at `size` (H, W): bilinear, pixel areas aligned, gradients kept.

    scores: (N, C, h, w) of any floating-point type.

    >>> import torch
    >>> interpolate(torch.tensor([[[[0.0, 1.0]]]]), (1, 4)).flatten().tolist()
    [0.0, 0.25, 0.75, 1.0]
    """
    from torch.nn import functional

    scores = scores.float()
    if tuple(scores.shape[-2:]) == tuple(size):
        return scores
    return functional.interpolate(scores, size=tuple(size), mode="bilinear", align_corners=False)


def label_maps(scores: Tensor, size: Sequence[int]) -> list[Prediction]:
    """Return what `Adapter.predict` of a segmenter owes: for each image the best class at each pixel, and no boxes.

    scores: (N, C, h, w), as `HasDenseLogits.dense_logits` gives them. size: height and width of the network input.
    """
    return [Prediction.empty(label_map) for label_map in interpolate(scores, size).argmax(dim=1)]
