"""Capabilities: what a plugin declares beyond the members of the contract."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import torch

from tlvision.conformance.check import check
from tlvision.conformance.checks.tools import quiet_dropout, same, total_loss
from tlvision.types import nearest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tlvision.conformance.case import Case
    from tlvision.plugin import InstanceFeatures


@check()
def capabilities_are_true(case: Case) -> None:
    """A capability is "yes" exactly where an adapter has it, otherwise "not written" or "impossible: reason"."""
    from tlvision.conformance.case import Case, capability_protocols

    says, known = case.plugin.capabilities, capability_protocols()
    for name, value in says.items():
        assert name in known, f"capabilities: there is no '{name}'.{nearest(name, known)}"
        assert re.fullmatch("yes|not written|impossible: .+", value), (
            f"capabilities: {name} is '{value}'; expected 'yes', 'not written' or 'impossible: reason'"
        )
    for name in known:
        if says.get(name) != "yes":
            assert name not in case.capabilities, (
                f"capabilities: the adapter of '{case.arch}' has {name}, but the plugin does not say 'yes'"
            )
            continue
        others = (Case(case.plugin, arch) for arch in case.plugin.architectures() if arch != case.arch)
        assert name in case.capabilities or any(name in other.capabilities for other in others), (
            f"capabilities: the plugin says 'yes' to {name}, but no architecture's adapter has it"
        )


@check(needs="HasTrainingProgress")
def training_progress_is_pure(case: Case) -> None:
    """The loss depends on the last set_progress() alone, not on how often or with what it was called before."""
    from tlvision.plugin import HasTrainingProgress

    adapter, _ = case.build()
    assert isinstance(adapter, HasTrainingProgress)
    images, targets = case.batch(adapter, "square")
    quiet_dropout(adapter.module)

    def loss_after(*fractions: float) -> torch.Tensor:
        for fraction in fractions:
            adapter.set_progress(fraction)
        with torch.no_grad():
            return total_loss(adapter, images, targets)

    once = loss_after(0.5)
    for fractions in ((0.5,), (0.5, 0.5), (0.0, 1.0, 0.5)):
        again = loss_after(*fractions)
        assert same(again, once), (
            f"the loss is {again.item():.6g} after set_progress of {', '.join(map(str, fractions))}, "
            f"and was {once.item():.6g} after that of 0.5 alone"
        )


@check(needs="HasInstanceFeatures")
def instance_features_are_of_their_boxes(case: Case) -> None:
    """A row of features for each box, the same from maps that are there already, with gradients; `most` is kept."""
    from tlvision.plugin import HasInstanceFeatures, record

    adapter, _ = case.build()
    assert isinstance(adapter, HasInstanceFeatures)
    images, targets = case.batch(adapter, "wide")
    boxes = [targets[0].boxes, targets[1].boxes[:0]]  # an image may have none
    adapter.module.eval()
    with record(adapter.module, adapter.pyramid_path) as maps:
        found = adapter.instance_features(images, boxes)
    assert len(maps) == 1, f"instance_features ran the part at pyramid_path '{adapter.pyramid_path}' {len(maps)} times"
    _rows_fit(found, boxes)
    with record(adapter.module, adapter.pyramid_path) as again:
        given = adapter.instance_features(images, boxes, pyramid=maps[0])
    assert not again, f"instance_features was given the pyramid, and ran '{adapter.pyramid_path}' nevertheless"
    assert same([each.features for each in found], [each.features for each in given]), (
        "instance_features gives other features for the same boxes where it is given the pyramid"
    )
    assert any(bool(each.features.requires_grad) for each in found), "instance_features: the features have no gradient"
    own = adapter.instance_features(images, most=3)
    _rows_fit(own, [each.boxes for each in own])
    most = max(len(each.boxes) for each in own)
    assert most <= 3, f"instance_features: {most} proposals for an image where most=3"


@check(needs="HasScoreGradients", requires=("evaluation_deterministic", "frozen_prefix"))
def scores_have_gradients(case: Case) -> None:
    """predict_with_gradients() returns what predict() does, and its scores have a gradient at the taps."""
    from tlvision.plugin import HasScoreGradients, capture

    adapter, _ = case.build()
    assert isinstance(adapter, HasScoreGradients)
    images, _ = case.batch(adapter, "wide")
    adapter.module.eval()
    plain = adapter.predict(images)
    with torch.enable_grad(), capture(adapter.module, adapter.taps) as features:
        found = adapter.predict_with_gradients(images)
    for number, (prediction, other) in enumerate(zip(found, plain, strict=True)):
        assert same(prediction.scores.detach(), other.scores), (
            f"predict_with_gradients: image {number} has other scores than those of predict"
        )
        assert same(prediction.boxes.detach(), other.boxes), (
            f"predict_with_gradients: image {number} has other boxes than those of predict"
        )
    scores = [prediction.scores.sum() for prediction in found if len(prediction)]
    if not scores:  # this model finds nothing untrained, so there is no score to differentiate
        return
    assert all(score.requires_grad for score in scores), "predict_with_gradients: the scores have no gradient"
    reached = torch.autograd.grad(sum(scores, start=torch.zeros(())), list(features.values()), allow_unused=True)
    assert any(part is not None and bool(part.abs().sum() > 0) for part in reached), (
        "predict_with_gradients: the scores do not depend on any tap"
    )


def _rows_fit(found: Sequence[InstanceFeatures], boxes: Sequence[torch.Tensor]) -> None:
    assert len(found) == len(boxes), f"instance_features: {len(found)} results for {len(boxes)} images"
    for number, (each, wanted) in enumerate(zip(found, boxes, strict=True)):
        assert same(each.boxes, wanted.float()), f"instance_features: image {number} has other boxes than it was given"
        rows = tuple(each.features.shape)
        assert (len(rows), rows[0]) == (2, len(wanted)), (
            f"instance_features: features of image {number} have shape {rows}, expected ({len(wanted)}, C)"
        )
    widths = {each.features.shape[1] for each in found}
    assert len(widths) == 1, f"instance_features: the images' features have {sorted(widths)} channels"
