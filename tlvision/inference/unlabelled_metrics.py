"""Label-free validation metrics: prediction stability, teacher agreement, confidence, objects per image.

    stability    its predictions on an image and on the mirrored image, compared
    agreement    those of the model in training and of its average (the teacher), compared
    certainty    how sure it is
    objects      how many it finds in an image: selects no checkpoint, and shows prediction collapse

The first three are 0..1, more is better, and none of them uses labels: a model that predicts the same for every image
is stable. The problem is that of Saito et al., "Tune it the Right Way: Unsupervised Validation of Domain Adaptation via
Soft Neighborhood Density", ICCV 2021; the measures are ours.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torchvision.ops import box_iou

from tlvision.data.padding import blank_padding, without_padding
from tlvision.inference.predict import using_weights
from tlvision.plugin import HasDenseLogits, class_probabilities, interpolate, score_kind
from tlvision.types import Prediction

if TYPE_CHECKING:
    from torch import Tensor

    from tlvision.plugin import Adapter

MEASURES = ("stability", "agreement", "certainty")
_LEAST_SCORE = 0.1
_IOU = 0.5
_SURE = 0.5

Outputs = list[Prediction] | list["Tensor"]


def measure_unlabelled(
    adapter: Adapter,
    batches: Sequence[Tensor],
    weights: Mapping[str, Tensor] | None,
    valid: Sequence[Tensor] | None = None,
) -> dict[str, float]:
    """Return stability and certainty of the model with `weights`, its agreement with the model's own, and of detectors
    the number of objects.

    batches: (N, 3, H, W) float32 each, normalised. weights: by state-dict name; None are the model's own, and then
    there is no agreement to measure. valid: (N, H, W) bool for each batch, False in padding, which counts nowhere; None
    if there is none. The module is put into eval mode and left in it.
    """
    adapter.module.eval()
    places: Sequence[Tensor | None] = valid or [None] * len(batches)
    pairs = list(zip(batches, places, strict=True))
    with using_weights(adapter.module, weights):
        plain = [_say(adapter, *pair) for pair in pairs]
        mirrored = [
            _mirror(_say(adapter, images.flip(-1), None if where is None else where.flip(-1)), images.shape[-1])
            for images, where in pairs
        ]
    found = {"stability": compare(_flat(plain), _flat(mirrored)), "certainty": certainty(_flat(plain))}
    if not isinstance(adapter, HasDenseLogits):
        found["objects"] = objects_per_image(_flat(plain))
    if weights is not None:
        found["agreement"] = compare(_flat(plain), _flat(_say(adapter, *pair) for pair in pairs))
    return found


def _flat(batches: Iterable[Outputs]) -> Outputs:
    return [each for batch in batches for each in batch]  # type: ignore[return-value]


def _say(adapter: Adapter, images: Tensor, valid: Tensor | None) -> Outputs:
    """Return predictions, or (C, H, W) probabilities, for each image; nothing that a later backward pass could meet."""
    where = [None] * len(images) if valid is None else list(valid)
    with torch.no_grad():
        if isinstance(adapter, HasDenseLogits):
            scores = interpolate(adapter.dense_logits(images), images.shape[-2:])
            chances = class_probabilities(scores, score_kind(adapter))
            pairs = zip(chances, where, strict=True)
            return [(one if shown is None else blank_padding(one, shown)).cpu() for one, shown in pairs]
        found = adapter.predict(images)
        return [one if shown is None else without_padding(one, shown) for one, shown in zip(found, where, strict=True)]


def _mirror(said: Outputs, width: int) -> Outputs:
    return [_mirrored(each, width) for each in said]  # type: ignore[return-value]


def _mirrored(said: Prediction | Tensor, width: int) -> Prediction | Tensor:
    if not isinstance(said, Prediction):
        return said.flip(-1)
    x0, y0, x1, y1 = said.boxes.unbind(1)
    return Prediction(
        boxes=torch.stack([width - x1, y0, width - x0, y1], dim=1), scores=said.scores, labels=said.labels
    )


def compare(one: Outputs, other: Outputs) -> float:
    """Return how much two models, or two looks of one, agree on the same images, 0..1.

    Label maps: the mean over classes that either side sees of the intersection over the union. Objects from a score of
    0.1 on: 2 * sum over matched pairs of IoU * min(score) / sum of all scores, pairs of one class with an IoU of at
    least 0.5, best score first; 0 if no prediction has any.

    Raises ValueError if the two do not have the same number of images.
    """
    maps: list[tuple[Tensor, Tensor]] = []
    shared = total = 0.0
    for a, b in zip(one, other, strict=True):
        if isinstance(a, Prediction) and isinstance(b, Prediction):
            some, all_of_it = _box_agreement(a, b)
            shared, total = shared + some, total + all_of_it
        elif isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
            maps.append((a, b))
    if maps:
        return _map_agreement(maps)
    return 2 * shared / total if total else 0.0


def _map_agreement(maps: Sequence[tuple[Tensor, Tensor]]) -> float:
    classes = len(maps[0][0])
    pairs = ((a.argmax(0) * classes + b.argmax(0))[(a[0] >= 0) & (b[0] >= 0)] for a, b in maps)  # without padding
    counts = sum(torch.bincount(pair, minlength=classes**2) for pair in pairs)
    matrix = torch.as_tensor(counts).reshape(classes, classes).double()  # (C, C)
    union = matrix.sum(0) + matrix.sum(1) - matrix.diagonal()
    return float((matrix.diagonal()[union > 0] / union[union > 0]).mean())


def _box_agreement(one: Prediction, other: Prediction) -> tuple[float, float]:
    """Return the sum over pairs of IoU * min(score), and the sum of the scores of both sides."""
    (boxes, scores, labels), (others, other_scores, other_labels) = _strong(one), _strong(other)
    total = float(scores.sum() + other_scores.sum())
    if not len(boxes) or not len(others):
        return 0.0, total
    overlaps = box_iou(boxes, others).nan_to_num(0.0)  # (K, L); two boxes without an area make 0 / 0
    overlaps *= labels[:, None] == other_labels[None]
    shared = 0.0
    for row in range(len(boxes)):
        value, place = overlaps[row].max(dim=0)
        if value >= _IOU:
            shared += float(value * torch.minimum(scores[row], other_scores[place]))
            overlaps[:, place] = 0  # each is matched once
    return shared, total


def _strong(said: Prediction) -> tuple[Tensor, Tensor, Tensor]:
    """Return boxes, scores and labels from a score of 0.1 on, best first, on the CPU."""
    order = said.scores.argsort(descending=True, stable=True)
    order = order[said.scores[order] >= _LEAST_SCORE]
    return said.boxes[order].cpu(), said.scores[order].cpu(), said.labels[order].cpu()


def certainty(said: Outputs) -> float:
    """Return 1 minus the mean entropy of the predictions, each as a share of the highest possible, 0..1.

    Of label maps the entropy over classes at each pixel that shows an image, and 1 with a single class, which leaves
    nothing to be unsure of; of objects from a score of 0.1 on that of score and 1 - score, and 0 if there is none.

    >>> certainty([torch.ones(1, 4, 4)])
    1.0
    """
    values: list[Tensor] = []
    for each in said:
        if isinstance(each, Prediction):
            score = each.scores[each.scores >= _LEAST_SCORE].double().cpu().clamp(1e-9, 1 - 1e-9)
            values.append(-(score * score.log2() + (1 - score) * (1 - score).log2()))
        else:
            p = each[:, each[0] >= 0].double().clamp(min=1e-12)  # (C, pixels)
            highest = math.log(len(p)) if len(p) > 1 else 1.0
            values.append((-(p * p.log()).sum(0) / highest).mean()[None] if p.numel() else p.new_zeros(0))
    entropy = torch.cat(values) if values else torch.zeros(0)
    return 1 - float(entropy.mean()) if len(entropy) else 0.0


def objects_per_image(said: Outputs) -> float:
    """Return the mean number of objects with a score of 0.5 or more; 0 for no images.

    >>> scores = torch.tensor([0.5, 0.4])
    >>> objects_per_image([Prediction(boxes=torch.zeros(2, 4), scores=scores, labels=torch.zeros(2).long())])
    1.0
    """
    counts = [int((each.scores >= _SURE).sum()) for each in said if isinstance(each, Prediction)]
    return sum(counts) / len(counts) if counts else 0.0
