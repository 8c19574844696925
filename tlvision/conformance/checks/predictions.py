"""Predictions: what `Adapter.predict` promises, on trained and on fresh models."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torchvision.ops import box_iou

from tlvision.conformance.check import check
from tlvision.conformance.overfit import ENOUGH, STEPS, one_image, overfitted, score
from tlvision.plugin import PredictSpec

if TYPE_CHECKING:
    from torch import Tensor

    from tlvision.conformance.case import BatchName, Case
    from tlvision.plugin import Adapter
    from tlvision.types import Prediction

MOST, LIMIT = 300, 2
"""Default number of objects in an image by the contract, and another number to request."""
WORTH = 0.05
"""The score from which on an object is compared; the many below change places at the slightest rounding."""


@check(requires=("groups_partition", "losses_finite_and_differentiable"), trains=True)
def overfits_one_image(case: Case) -> None:
    """Trained on one off-centre image with the first and the last class, the model finds both in original pixels."""
    adapter = overfitted(case)
    reached = score(case, adapter, one_image(case, adapter))
    metric = "mean class IoU" if "label_map" in case.task.labels else "AP50"
    assert reached >= ENOUGH, (
        f"after {STEPS} steps on one image the {metric} on that image is {reached:.2f}; expected {ENOUGH} or more"
    )


@check(requires=("groups_partition", "losses_finite_and_differentiable"), trains=True)
def predictions_valid(case: Case) -> None:
    """predict() gives boxes inside the input, scores in 0..1, known classes and no graph, on any image."""
    fresh, _ = case.build()
    shapes: tuple[BatchName, ...] = ("square", "wide", "all_empty")
    for adapter, kind in ((fresh, "fresh"), (overfitted(case), "trained")):
        adapter.module.eval()
        inputs = [case.batch(adapter, shape)[0] for shape in shapes]
        blank = torch.zeros_like(inputs[0])
        for images in (*inputs, blank, one_image(case, adapter).images):
            predictions = adapter.predict(images)
            assert len(predictions) == len(images), (
                f"predict() gives {len(predictions)} predictions for {len(images)} images"
            )
            for prediction in predictions:
                _check_prediction(case, prediction, images, f"on a {kind} model predict() gives")
    if case.task.max_objects is not None:
        _check_limit(case)


def _check_limit(case: Case) -> None:
    """Check that an image has no more objects than `PredictSpec.max_detections`, and none below its score floor."""
    limited, _ = case.build(predict=PredictSpec(max_detections=LIMIT))
    limited.module.eval()
    images, _ = case.batch(limited, "square")
    counts = [len(prediction) for prediction in limited.predict(images)]
    assert max(counts) <= LIMIT, (
        f"built with max_detections={LIMIT}, predict() gives {max(counts)} objects in one image; it ignores the limit"
    )
    usual, _ = case.build()
    usual.module.eval()
    scores = torch.cat([prediction.scores for prediction in usual.predict(images)])
    if len(scores) < 2:
        return  # a fresh model that finds nothing has no scores to cut
    floor = float(scores.sort().values[len(scores) // 2])
    above, _ = case.build(predict=PredictSpec(score_floor=floor))
    above.module.eval()
    lowest = min((float(one.scores.min()) for one in above.predict(images) if len(one)), default=1.0)
    assert lowest >= floor * (1 - 1e-6), (
        f"built with score_floor={floor:.4g}, predict() gives scores down to {lowest:.4g}; it ignores the floor"
    )


def _check_prediction(case: Case, prediction: Prediction, images: Tensor, where: str) -> None:
    boxes, scores, labels, classes = prediction.boxes, prediction.scores, prediction.labels, len(case.classes)
    assert not any(tensor.requires_grad for tensor in (boxes, scores)), f"{where} tensors with a graph"
    assert len(prediction) <= MOST, f"{where} {len(prediction)} objects in one image; at most {MOST} are expected"
    assert all(bool(tensor.isfinite().all()) for tensor in (boxes, scores)), f"{where} values that are not finite"
    assert bool(((scores >= 0) & (scores <= 1)).all()), f"{where} scores outside 0..1, such as {_worst(scores):.4g}"
    assert bool(((labels >= 0) & (labels < classes)).all()), (
        f"{where} labels {sorted(set(labels.tolist()))}; expected 0..{classes - 1}"
    )
    height, width = images.shape[2:]
    inside = (boxes >= 0) & (boxes <= boxes.new_tensor([width, height, width, height]))
    assert bool(inside.all()), (
        f"{where} boxes outside the network input of {height} x {width}, such as {_row(boxes, ~inside.all(dim=1))}"
    )
    ordered = (boxes[:, 2:] >= boxes[:, :2]).all(dim=1)
    assert bool(ordered.all()), f"{where} boxes with x1 < x0 or y1 < y0, such as {_row(boxes, ~ordered)}"
    assert "masks" in case.task.labels or prediction.masks is None, (
        f"{where} masks, which the task '{case.task.name}' has not"
    )
    if "label_map" in case.task.labels:
        label_map = prediction.semantic
        assert label_map is not None, f"{where} no label map"
        assert label_map.shape == images.shape[2:], (
            f"{where} a label map of {tuple(label_map.shape)} for an image of {height} x {width}"
        )
        assert bool(((label_map >= 0) & (label_map < classes)).all()), (
            f"{where} a label map with the values {label_map.unique().tolist()}; expected 0..{classes - 1}"
        )


def _worst(scores: Tensor) -> float:
    return float(scores[(scores - 0.5).abs().argmax()])


def _row(boxes: Tensor, chosen: Tensor) -> list[float]:
    return [round(value, 1) for value in boxes[chosen][0].tolist()]


@check(requires=("groups_partition", "losses_finite_and_differentiable", "evaluation_deterministic"), trains=True)
def predictions_stand_alone(case: Case) -> None:
    """The prediction of an image depends neither on the other images of the batch nor on its position in it."""
    adapter = overfitted(case)
    images, _ = case.batch(adapter, "one_object_each")
    alone = [predict_one(adapter, image[None]) for image in images]
    with torch.no_grad():
        pair, turned = adapter.predict(images), list(adapter.predict(images.flip(0)))[::-1]
    for others, how in ((turned, "with the images in the other order"), (alone, "with each image alone")):
        for place, (prediction, other) in enumerate(zip(pair, others, strict=True)):
            difference = differing(case, prediction, other)
            assert not difference, f"image {place} of 2 is not predicted as it is {how}: {difference}"


def differing(case: Case, a: Prediction, b: Prediction, names: Sequence[str] | None = None) -> str:
    """Return how two predictions of one image differ by more than rounding; "" where they don't.

    names: the classes of `b`'s labels in order, where they are not the case's; classes are compared by name.
    """
    target_classes = case.classes.names
    source_classes = target_classes if names is None else tuple(names)
    if a.semantic is not None and b.semantic is not None:
        return _differing_maps(a.semantic, b.semantic, target_classes, source_classes)
    one_way = _unmatched(a, b, target_classes, source_classes)
    return one_way or _unmatched(b, a, source_classes, target_classes)


def _differing_maps(a: Tensor, b: Tensor, target_classes: Sequence[str], source_classes: Sequence[str]) -> str:
    known = [target_classes.index(name) for name in source_classes]
    share = float((a != torch.tensor(known)[b]).float().mean())
    return f"{share:.1%} of its pixels have another class" if share > 0.001 else ""


def _unmatched(a: Prediction, b: Prediction, target_classes: Sequence[str], source_classes: Sequence[str]) -> str:
    ious = box_iou(a.boxes, b.boxes)
    for row in range(len(a)):
        name, value = target_classes[int(a.labels[row])], float(a.scores[row])
        if value < WORTH:
            continue
        same = torch.tensor([source_classes[label] == name for label in b.labels.tolist()], dtype=torch.bool)
        near = (b.scores - value).abs() <= 1e-3
        again = same & near & (ious[row] >= 0.99)
        if not bool(again.any()):
            return f"'{name}' with the score {value:.3f} is not there again"
        if a.masks is not None and b.masks is not None:
            overlap = max(_mask_iou(a.masks[row], mask) for mask in b.masks[again])
            if overlap < 0.9:
                return f"'{name}' with the score {value:.3f} has another mask, of IoU {overlap:.2f}"
    return ""


def _mask_iou(a: Tensor, b: Tensor) -> float:
    """Return the IoU of two (H, W) masks; 1 if both are empty."""
    union = int(((a > 0) | (b > 0)).sum())
    return int(((a > 0) & (b > 0)).sum()) / union if union else 1.0


def predict_one(adapter: Adapter, images: Tensor) -> Prediction:
    """Return the adapter's prediction for a batch of one image, (1, 3, H, W), in eval mode."""
    adapter.module.eval()
    with torch.no_grad():
        (prediction,) = adapter.predict(images)
    return prediction
