"""Scores for every pixel, from which the core makes label maps of the original size."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from tlvision.conformance.check import check
from tlvision.conformance.checks.tools import same
from tlvision.plugin import HasDenseLogits, interpolate, score_kind

if TYPE_CHECKING:
    from tlvision.conformance.case import BatchName, Case


@check(labels="label_map", requires=("groups_partition",))
def scores_for_every_pixel(case: Case) -> None:
    """dense_logits() scores every class at every pixel, and predict() gives the class with the highest score."""
    adapter, _ = case.build()
    assert isinstance(adapter, HasDenseLogits), "the adapter has no dense_logits(); without it, it cannot be evaluated"
    adapter.module.eval()
    shapes: tuple[BatchName, ...] = ("square", "wide")
    for shape in shapes:
        images, _ = case.batch(adapter, shape)
        size = images.shape[-2], images.shape[-1]
        with torch.no_grad():
            torch.manual_seed(0)
            scores = adapter.dense_logits(images)
            torch.manual_seed(0)
            predictions = adapter.predict(images)
        expected = (len(images), len(case.classes))
        assert (scores.ndim, *scores.shape[:2]) == (4, *expected), (
            f"dense_logits() gives {tuple(scores.shape)} for {len(images)} images and {len(case.classes)} classes"
        )
        strides = {full / part for full, part in zip(size, scores.shape[2:], strict=True)}
        assert strides <= {float(max(1, round(min(strides))))}, (
            f"dense_logits() gives {scores.shape[2]} x {scores.shape[3]} scores for a network input of {size[0]} x "
            f"{size[1]}; expected its size divided by one whole stride"
        )
        assert bool(scores.isfinite().all()), f"dense_logits() gives scores that are not finite on {shape} images"
        best = interpolate(scores, size).argmax(dim=1)
        for number, prediction in enumerate(predictions):
            assert prediction.semantic is not None, "predict() gives no label map"
            assert same(prediction.semantic, best[number]), (
                "predict() gives another label map than the highest of dense_logits(); "
                "`tlvision.plugin.label_maps(self.dense_logits(images), images.shape[-2:])` will do"
            )


@check(labels="label_map", requires=("scores_for_every_pixel",))
def scores_are_as_declared(case: Case) -> None:
    """dense_logits() returns the adapter's `score_kind`: logits, the default, or probabilities."""
    adapter, _ = case.build()
    assert isinstance(adapter, HasDenseLogits)
    kind = score_kind(adapter)
    adapter.module.eval()
    shapes: tuple[BatchName, ...] = ("square", "wide")
    with torch.no_grad():
        lowest = min(float(adapter.dense_logits(case.batch(adapter, shape)[0]).min()) for shape in shapes)
    if kind == "probabilities":
        assert lowest >= 0, (
            f"score_kind is 'probabilities', but dense_logits() gives {lowest:.4g}; leave score_kind out where the "
            "scores are logits of a softmax, or set it to 'sigmoid' for those of a sigmoid for each class"
        )
        return
    assert lowest < 0, (
        f"score_kind is '{kind}', but no score of dense_logits() is below 0, as of probabilities; set `score_kind = "
        "'probabilities'`, or give the scores before the softmax: methods would take the softmax of probabilities"
    )
