from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from tlvision.hooks import StepData
from tlvision.hooks.observers.pseudo_labels import PseudoLabels
from tlvision.hooks.pseudo_labels.labels import filter_by_confidence, self_training_loss
from tlvision.hooks.pseudo_labels.teacher import teacher_predictions
from tlvision.hooks.pseudo_labels.thresholds import Thresholds
from tlvision.types import IGNORE_INDEX, ClassMap, InputError, Prediction

CLASSES = ClassMap(("a", "b", "c"), (1, 2, 3))


def prediction(scores: list[float], labels: list[int], side: float = 9.0) -> Prediction:
    boxes = torch.tensor([[3.0, 4.0, 3.0 + side, 4.0 + side]] * len(scores)).reshape(-1, 4)
    return Prediction(boxes=boxes, scores=torch.tensor(scores), labels=torch.tensor(labels, dtype=torch.int64))


def bound(thresholds: Thresholds) -> Thresholds:
    thresholds.bind(CLASSES, "hook")
    return thresholds


def test_objects_over_the_threshold_of_their_class_become_targets() -> None:
    values = bound(Thresholds(0.5, {"b": 0.9}, adaptive=False)).values()
    assert values == [0.5, 0.9, 0.5]
    said = [prediction([0.9, 0.49, 0.8, 0.95], [0, 0, 1, 1]), prediction([0.1], [2]), prediction([0.5], [2])]
    labels = filter_by_confidence(said, values)
    assert labels.images == [0, 2], "an image of which nothing is sure teaches nothing"
    assert [target.labels.tolist() for target in labels.targets] == [[0, 1], [2]]
    assert (labels.share, labels.count) == (pytest.approx(2 / 3), 3)
    assert not labels.targets[0].crowd.any()


def test_an_image_of_low_scores_alone_holds_nothing() -> None:
    said = [prediction([0.9], [0]), prediction([0.4], [1]), prediction([0.2, 0.29], [0, 1]), prediction([], [])]
    labels = filter_by_confidence(said, [0.8] * 3, background=0.3)
    assert labels.images == [0, 2, 3], "0.4 is neither an object nor the lack of one"
    assert [target.labels.tolist() for target in labels.targets] == [[0], [], []]
    assert [target.boxes.shape for target in labels.targets] == [(1, 4), (0, 4), (0, 4)]
    assert (labels.share, labels.count) == (0.75, 1)
    assert filter_by_confidence(said, [0.8] * 3, background=1.0).images == [0, 1, 2, 3]


def test_boxes_without_a_size_are_no_labels() -> None:
    assert filter_by_confidence([prediction([0.9], [0], side=1.0)], [0.5] * 3).images == []


def test_pixels_under_the_threshold_are_ignored() -> None:
    torch.manual_seed(0)
    said = list((3 * torch.randn(2, 3, 5, 7)).softmax(dim=1))
    said.append(torch.full((3, 5, 7), 1 / 3))
    thresholds = [0.6, 0.8, 0.5]
    labels = filter_by_confidence(said, thresholds)
    known = 0
    assert labels.images == [0, 1]
    for image, target in zip(labels.images, labels.targets, strict=True):
        for y in range(5):
            for x in range(7):
                best = max(range(3), key=lambda c: float(said[image][c, y, x]))
                sure = float(said[image][best, y, x]) >= thresholds[best]
                known += sure
                assert int(target.semantic[y, x]) == (best if sure else IGNORE_INDEX)
    assert labels.share == pytest.approx(known / (3 * 35))
    assert 0 < known < 70


def test_thresholds_follow_how_sure_the_teacher_is() -> None:
    """Class 2 never reaches half of the threshold: it is the one that the teacher is least sure of."""
    thresholds = bound(Thresholds(0.8, {}, adaptive=True))
    assert thresholds.values() == [0.8] * 3
    said = [prediction([0.9, 0.5, 0.7, 0.3], [0, 1, 1, 2])]
    sums, counts = [0.0, 0.0], 0.0
    for step in range(300):
        thresholds.learn(said)
        sums = [0.99 * sums[0] + 0.9, 0.99 * sums[1] + 0.6]
        counts = 0.99 * counts + 1
        known = [*((5 * 0.4 + total) / (5 + counts) for total in sums), 0.4]
        expected = [0.8 * max(0.5, value / max(known)) for value in known]
        assert thresholds.values() == pytest.approx(expected), step
        assert thresholds.values()[0] == 0.8
    assert thresholds.values()[0] > thresholds.values()[1] > thresholds.values()[2] == pytest.approx(0.4)
    again = Thresholds(0.8, {}, adaptive=True)
    again.load(thresholds.state())
    assert bound(again).values() == thresholds.values()
    fixed = bound(Thresholds(0.8, {}, adaptive=False))
    fixed.learn([prediction([0.9], [0])])
    assert fixed.values() == [0.8] * 3


def test_a_rare_class_that_is_known_well_keeps_its_threshold_and_one_that_is_no_longer_seen_loses_it() -> None:
    thresholds = bound(Thresholds(0.8, {}, adaptive=True))
    for step in range(600):
        rare = [0.9] if step % 10 == 0 and step < 300 else []
        thresholds.learn([prediction([0.9, *rare], [0, *[1 for _ in rare]])])
        if step == 299:
            assert thresholds.values()[1] > 0.65, "one in ten micro-batches is enough"
    assert 0.4 <= thresholds.values()[1] < 0.6


def test_a_class_that_is_not_there_is_an_error_with_the_nearest() -> None:
    with pytest.raises(InputError, match=r"pseudo_labels\.thresholds: no class 'aa'"):
        Thresholds(0.5, {"aa": 0.4}, adaptive=False).bind(CLASSES, "pseudo_labels")


class Teacher:
    """Predicts the same whatever the images, and counts its passes."""

    def __init__(self, said: list[Prediction]) -> None:
        self.said, self.asked = said, 0

    def predict(self, images: torch.Tensor) -> list[Prediction]:
        assert torch.is_inference_mode_enabled()
        self.asked += 1
        return self.said


def make_context(said: list[Prediction]) -> Any:
    def loss(images: torch.Tensor, targets: list[Any]) -> dict[str, torch.Tensor]:
        return {"one": images.sum(), "two": torch.tensor(float(sum(len(target) for target in targets)))}

    views = SimpleNamespace(weak=torch.zeros(len(said), 3, 4, 4), strong=torch.ones(len(said), 3, 4, 4))
    return SimpleNamespace(
        teacher=Teacher(said), measures={}, notices=[], classes=CLASSES, adapter=SimpleNamespace(loss=loss),
        step_data=StepData(
            batch=SimpleNamespace(counts=(3, 1)), images=views.weak, unlabelled=views,  # type: ignore[arg-type]
        ),
    )  # fmt: skip


def test_the_teacher_is_asked_once_for_all_hooks_and_what_it_says_can_be_learnt_from() -> None:
    with torch.inference_mode():
        said = [prediction([0.9], [1])]
    context = make_context(said)
    first = teacher_predictions(context)
    assert teacher_predictions(context) is first
    assert context.teacher.asked == 1
    assert isinstance(first[0], Prediction)
    weight = torch.ones((), requires_grad=True)
    (first[0].boxes * weight).sum().backward()  # autograd refuses to save tensors of inference mode
    assert float(weight.grad) == float(said[0].boxes.sum())  # type: ignore[arg-type]


def test_the_loss_is_the_models_own_times_the_share_of_images_that_have_labels() -> None:
    context = make_context([prediction([0.9], [1]), prediction([], []), prediction([0.7, 0.8], [0, 2])])
    labels = filter_by_confidence(teacher_predictions(context), [0.5] * 3)
    loss = self_training_loss(context, context.step_data.unlabelled.strong, labels, 0.5)
    assert float(loss) == pytest.approx(0.5 * 2 / 3 * (2 * 3 * 16 + 3))
    nothing = filter_by_confidence(teacher_predictions(context), [0.99] * 3)
    assert float(self_training_loss(context, context.step_data.unlabelled.strong, nothing, 1.0)) == 0
    context.adapter.loss = None  # no pass of the student, which would move its statistics
    assert float(self_training_loss(context, context.step_data.unlabelled.strong, labels, 0.0)) == 0


class Pixels:
    """A teacher that is sure of class 1 in what is dark, and of class 0 elsewhere."""

    score_kind = "logits"

    def dense_logits(self, images: torch.Tensor) -> torch.Tensor:
        dark = 10.0 * (images[:, :1] == 0)
        return torch.cat([10 - dark, dark, 0 * dark], dim=1)


def test_padding_has_no_pseudo_label_and_is_not_counted() -> None:
    weak = torch.ones(2, 3, 4, 4)
    weak[0, :, :, 2:] = 0
    valid = torch.ones(2, 4, 4, dtype=torch.bool)
    valid[0, :, 2:] = False
    context = make_context([])
    context.teacher, context.step_data.unlabelled = Pixels(), SimpleNamespace(weak=weak, strong=weak, valid=valid)
    said = teacher_predictions(context)
    for threshold in (0.9, 0.0):  # also a threshold that everything reaches
        labels = filter_by_confidence(said, [threshold] * 3)
        assert labels.images == [0, 1]
        assert bool((labels.targets[0].semantic[:, 2:] == IGNORE_INDEX).all())
        assert bool((labels.targets[0].semantic[:, :2] == 0).all())
        assert labels.share == 1.0, "of what shows an image"
        assert labels.count == 2
    thresholds = bound(Thresholds(0.8, {}, adaptive=True))
    thresholds.learn(said)
    assert thresholds.values()[0] == 0.8 > thresholds.values()[1], "nothing was seen of class 1"
    valid[0] = False
    context.step_data.cache = {}
    labels = filter_by_confidence(teacher_predictions(context), [0.9] * 3)
    assert (labels.images, labels.share) == ([1], 1.0)


def test_objects_in_padding_are_no_pseudo_labels() -> None:
    boxes = torch.tensor([[0.0, 0.0, 4.0, 8.0], [2.0, 0.0, 6.0, 8.0], [3.0, 0.0, 8.0, 8.0]])
    masks = torch.ones(3, 8, 8, dtype=torch.uint8)
    said = Prediction(boxes=boxes, scores=torch.tensor([0.9, 0.8, 0.7]), labels=torch.tensor([0, 1, 2]), masks=masks)
    context = make_context([said])
    valid = torch.zeros(1, 8, 8, dtype=torch.bool)
    valid[:, :, :4] = True
    context.step_data.unlabelled.valid = valid
    (found,) = teacher_predictions(context)
    assert isinstance(found, Prediction)
    assert found.labels.tolist() == [0, 1], "half of an object on the image is enough"
    assert found.masks is not None
    assert int(found.masks.sum()) == 2 * 8 * 4


def test_probabilities_are_taken_as_they_are() -> None:
    """Mask classifiers give probabilities, of which another softmax would leave at most 0.475 of four classes."""

    class Masks(Pixels):
        score_kind = "probabilities"

        def dense_logits(self, images: torch.Tensor) -> torch.Tensor:
            return super().dense_logits(images) / 10

    context = make_context([])
    context.teacher, context.step_data.unlabelled = Masks(), SimpleNamespace(weak=torch.ones(1, 3, 4, 4), strong=None)
    assert filter_by_confidence(teacher_predictions(context), [0.99] * 3).share == 1.0


def make_hook(context: Any, **settings: Any) -> PseudoLabels:
    hook = PseudoLabels(**settings)
    hook.before_fit(context)
    assert context.pseudo_labels is hook
    return hook


@pytest.mark.parametrize(("objects", "warned"), [(6, False), (7, True)])
def test_too_many_pseudo_labels_are_reported(objects: int, warned: bool) -> None:
    # Two objects a labelled image: up to six raise no suspicion.
    context = make_context([prediction([0.9] * objects, [1] * objects)])
    hook = make_hook(context, threshold=0.7, patience=3)
    for step in range(6):
        context.step_data.cache = {}
        if step == 4:  # a resumed run counts on
            state = hook.state_dict()
            hook = PseudoLabels(threshold=0.7, patience=3)
            hook.load_state_dict(state)
            hook.before_fit(context)
        hook.targets(context, "mean_teacher")
        assert len(context.notices) == (warned and (step + 1) // 3)
    if warned:
        assert "pseudo_labels: possible confirmation bias: 7.0 pseudo-labels per unlabelled image" in context.notices[1]
        assert "labelled images have 2.0 objects" in context.notices[1]


def test_empty_targets_do_not_hide_that_there_are_no_pseudo_labels() -> None:
    context = make_context([prediction([0.123], [1])])
    hook = make_hook(context, threshold=0.7, patience=3, background=0.5)
    for _ in range(3):
        context.step_data.cache = {}
        assert hook.targets(context, "mean_teacher").images == [0]
    assert len(context.notices) == 1


def test_the_number_of_pseudo_labels_can_be_limited_to_what_labelled_images_have() -> None:
    context = make_context([prediction([0.95, 0.9, 0.85, 0.8, 0.75], [1] * 5)])
    context.step_data.batch.labels = torch.ones(4, dtype=torch.int64)  # two objects a labelled image
    hook = make_hook(context, threshold=0.7, max_pseudo_label_ratio=1.0)
    assert hook.targets(context, "mean_teacher").targets[0].boxes.shape == (2, 4)
    assert context.measures["pseudo_labels/threshold/b"] == pytest.approx(0.851)
    state = hook.state_dict()
    again = PseudoLabels(threshold=0.7, max_pseudo_label_ratio=1.0)
    again.load_state_dict(state)
    again.before_fit(context)
    assert torch.equal(again.state_dict()["limit_scores"], state["limit_scores"])
    assert again.limit is not None
    assert again.limit.values() == [0.0, pytest.approx(0.851), 0.0]


def test_no_pseudo_label_is_reported_with_the_threshold_and_the_best_score() -> None:
    context = make_context([prediction([0.123], [1])])
    hook = make_hook(context, threshold=0.7, patience=3)
    for step in range(7):
        context.step_data.cache = {}
        hook.targets(context, "mean_teacher")
        assert len(context.notices) == (step + 1) // 3
    assert "in the last 3 micro-batches (best score 0.123, threshold 0.70)" in context.notices[0]
    assert context.measures == {"pseudo_labels/share": 0.0, "pseudo_labels/labels": 0.0}
    context.teacher.said = [prediction([0.9], [1])]
    context.step_data.cache = {}
    hook.targets(context, "mean_teacher")
    assert hook.state_dict() == {
        "thresholds": [[0.0] * 3, [0.0] * 3],
        "monitors": {"pseudo_labels": {"silent": 0, "seen": [2, 2, 1, 4, 8]}},
    }
    assert context.measures == {"pseudo_labels/share": 1.0, "pseudo_labels/labels": 1.0}


def test_hooks_share_pseudo_labels_unless_one_has_a_threshold_of_its_own() -> None:
    context = make_context([prediction([0.95, 0.8, 0.75], [0, 1, 1])])
    context.step_data.batch.labels = torch.tensor([0, 1, 1, 1])
    hook = make_hook(context, threshold=0.7, thresholds={"a": 0.9}, adaptive=True, max_pseudo_label_ratio=9.0)
    shared = hook.targets(context, "mean_teacher")
    assert hook.targets(context, "masked_consistency") is shared
    own = hook.targets(context, "class_mix", 0.82)
    assert (shared.count, own.count) == (3, 2), "0.95 reaches the threshold of its class in both"
    assert context.measures["class_mix/labels"] == 2
    assert context.measures["class_mix/threshold/b"] > context.measures["pseudo_labels/threshold/b"]
    alone = make_hook(make_context([]), threshold=0.7, thresholds={"a": 0.9}, adaptive=True)
    alone.thresholds.learn(teacher_predictions(context))
    assert hook.thresholds.state() == alone.thresholds.state(), "they learn once in a micro-batch"
    assert context.teacher.asked == 1
