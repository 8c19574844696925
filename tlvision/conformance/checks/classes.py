"""Classes: a head's rows belong to class names, and there may be any number of them."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torchvision.ops import box_iou

from tlvision.conformance.check import check
from tlvision.conformance.checks.predictions import differing, predict_one
from tlvision.conformance.checks.tools import total_loss
from tlvision.conformance.overfit import best_of, one_image, overfitted
from tlvision.training.checkpoint import MODEL, save_weights
from tlvision.types import ClassMap, listing

if TYPE_CHECKING:
    from tlvision.conformance.case import Case
    from tlvision.plugin import WeightReport
    from tlvision.types import Prediction

SURE = 0.9
"""From this score on a model knows the object, and an uninitialised row next to known ones may reorder its boxes."""


@check(requires=("overfits_one_image", "evaluation_deterministic"), trains=True)
def head_by_class_name(case: Case) -> None:
    """Built again from its own weights for other classes, or in another order, the head keeps what it knows by name."""
    trained = overfitted(case)
    names, images = case.classes.names, one_image(case, trained).images
    known = predict_one(trained, images)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / MODEL
        save_weights(path, trained.module.state_dict(), case.classes)

        turned = ClassMap.from_names(names[::-1])
        adapter, report = case.build(classes=turned, weights=str(path), seed=1)
        difference = differing(case, known, predict_one(adapter, images), turned.names)
        assert not difference, f"with its classes in the reverse order, {difference}"
        assert report.remapped, "with the classes in the reverse order, the weight report lists nothing as remapped"

        mixed = ClassMap.from_names((names[-1], "new", names[0]))
        adapter, report = case.build(classes=mixed, weights=str(path), seed=1)
        _check_kept(case, known, predict_one(adapter, images), mixed)
        _check_told(report, mixed)


def _check_kept(case: Case, known: Prediction, found: Prediction, classes: ClassMap) -> None:
    """Compare the remaining trained classes in a head that has lost some and gained "new"."""
    for name in (classes.names[0], classes.names[-1]):
        before, after = case.classes.index(name), classes.index(name)
        if known.semantic is not None and found.semantic is not None:
            # Nothing is known of the fresh row, which may claim any pixel; the rest must stay.
            shared = (known.semantic == before) & (found.semantic != classes.index("new"))
            kept = float((found.semantic[shared] == after).float().mean()) if bool(shared.any()) else 1.0
            assert kept >= 0.99, f"next to a new class, {1 - kept:.0%} of the pixels of '{name}' have lost their name"
            continue
        box, score = _best(known, before)
        again, score_again = _best(found, after)
        overlap = float(box_iou(box[None], again[None]))
        # Where a model is sure, several boxes of an object have about one score, and which of them suppresses the
        # others is chance; those overlap by half at least.
        enough = 0.5 if min(score, score_again) > SURE else 0.9
        assert overlap >= enough, (
            f"next to a new class, '{name}' is found elsewhere: the boxes overlap by {overlap:.2f}"
        )
        assert abs(score - score_again) <= 0.3, (
            f"next to a new class, '{name}' has the score {score_again:.2f}; it had {score:.2f}"
        )


def _best(prediction: Prediction, label: int) -> tuple[torch.Tensor, float]:
    row = best_of(prediction, label)
    if row is None:
        return torch.zeros(4), 0.0
    return prediction.boxes[row], float(prediction.scores[row])


def _check_told(report: WeightReport, classes: ClassMap) -> None:
    assert report.remapped, f"the weight report lists nothing as remapped for the classes {listing(classes.names)}"
    for entry in report.remapped:
        key, _, told = entry.partition(":")
        assert "new" in told.split(), f"the weight report does not say that 'new' is fresh in '{key}': '{entry}'"


@check()
def any_number_of_classes(case: Case) -> None:
    """The model trains and predicts with one class and with many."""
    from tlvision.conformance.case import Case

    for count in (1, 12):
        classes = ClassMap.from_names([f"class {number}" for number in range(count)])
        other = Case(case.plugin, case.arch, weights="none", image_size=case.image_size, classes=classes)
        try:
            adapter, _ = other.build()
            images, targets = other.batch(adapter, "square")
            loss = total_loss(adapter, images, targets)
            adapter.module.eval()
            predictions = adapter.predict(images)
        except Exception as error:
            raise AssertionError(f"with {count} classes it raises {type(error).__name__}: {error}") from error
        assert bool(loss.isfinite()), f"with {count} classes the loss is {loss.item()}"
        for prediction in predictions:
            labels = prediction.labels if prediction.semantic is None else prediction.semantic
            beyond = sorted(set(labels[(labels < 0) | (labels >= count)].tolist()))
            assert not beyond, f"with {count} classes it predicts the labels {listing(beyond)}"
