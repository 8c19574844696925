"""What a teacher says of unlabelled images, as targets for the student: for boxes, masks and label maps alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from tlvision.data.padding import blank_padding, valid_pixels, without_padding
from tlvision.hooks.pseudo_labels.count_limit import CountLimit
from tlvision.hooks.pseudo_labels.thresholds import Thresholds
from tlvision.plugin import HasDenseLogits, class_probabilities, constants, interpolate, score_kind
from tlvision.types import IGNORE_INDEX, InputError, Prediction, Target

if TYPE_CHECKING:
    from torch import Tensor

    from tlvision.hooks.base import Context

_MEMO = "teacher"
_SMALLEST = 2.0

TeacherOutput = Sequence[Prediction] | list["Tensor"]
"""A prediction for each image; of a model that scores every pixel, (C, H, W) probabilities for each image, which are
`PADDING` (-1) where the view shows no image, and so reach no threshold."""


def teacher_predictions(context: Context) -> TeacherOutput:
    """Return what `context.teacher` finds in the weak views of the present micro-batch, worked out once for all hooks.

    Tensors are ordinary ones without gradients, at the size and in the pixels of the network input.
    """
    import torch

    if _MEMO not in context.step_data.cache:
        assert context.teacher is not None
        assert context.step_data.unlabelled is not None
        weak, valid = context.step_data.unlabelled.weak, valid_pixels(context.step_data.unlabelled)
        with torch.inference_mode():
            if isinstance(context.teacher, HasDenseLogits):
                scores = interpolate(context.teacher.dense_logits(weak), weak.shape[-2:])
                found: TeacherOutput = list(class_probabilities(scores, score_kind(context.teacher)))
            else:
                found = context.teacher.predict(weak)
        said = [_ordinary(each) for each in found]
        if valid is not None:
            said = [_shown(each, where) for each, where in zip(said, valid, strict=True)]
        context.step_data.cache[_MEMO] = said
    found = context.step_data.cache[_MEMO]
    return found


def _shown(said: Any, valid: Tensor) -> Any:
    return without_padding(said, valid) if isinstance(said, Prediction) else blank_padding(said, valid)


def _ordinary(said: Any) -> Any:
    """Return a copy that autograd may save: what inference mode made, it refuses."""
    if not isinstance(said, Prediction):
        return said.clone()
    masks = None if said.masks is None else said.masks.clone()
    # Not by indexing: with a mask it waits for the device.
    return replace(said, boxes=said.boxes.clone(), scores=said.scores.clone(), labels=said.labels.clone(), masks=masks)


@dataclass(frozen=True, slots=True, eq=False)
class PseudoLabels:
    """Targets for some images of a micro-batch.

    images:  which images they are for; those of which nothing is sure enough are left out.
    targets: one for each of them, in pixels of the network input.
    share:   what is sure enough, 0..1: of the pixels that show an image, or of the images of detectors.
    count:   the number of objects, or of classes seen, over all images.
    """

    images: list[int]
    targets: list[Target]
    share: float
    count: int


def filter_by_confidence(said: TeacherOutput, thresholds: Sequence[float], background: float = 0.0) -> PseudoLabels:
    """Return what the teacher is sure of as targets: objects that reach their class's threshold, or pixels that do.

    A pixel that does not is IGNORE_INDEX. An image without any is left out, as that nothing reaches the threshold does
    not say that nothing is there; but for an image of boxes whose scores are all below `background` (0..1): it holds
    nothing, and is a target without objects.
    """
    scores: Any = said[0].scores if isinstance(said[0], Prediction) else said[0]
    least = constants(thresholds, scores)  # (C,)
    targets = [_target(each, least, background) for each in said]
    images = [number for number, target in enumerate(targets) if target is not None]
    kept = [target for target in targets if target is not None]
    if any(target.semantic is not None for target in kept):
        return PseudoLabels(images, kept, *_count_pixels(said, kept))
    return PseudoLabels(images, kept, len(kept) / len(said), sum(len(target) for target in kept))


def _count_pixels(said: TeacherOutput, targets: Sequence[Target]) -> tuple[float, int]:
    """Return the share of the pixels that show an image which have a label, and the classes of all label maps."""
    import torch

    chances: list[Any] = list(said)
    maps = torch.stack([torch.as_tensor(target.semantic) for target in targets])  # (K, H, W)
    classes, known = len(chances[0]), maps != IGNORE_INDEX
    seen = maps.new_zeros((len(maps), classes + 1))
    seen = seen.scatter(1, maps.where(known, classes).flatten(1), 1)[:, :classes]  # (K, C): 1 where a map has the class
    shown = torch.stack([(each[0] >= 0).sum() for each in chances]).sum()
    labelled, all_shown, count = torch.stack([known.sum(), shown, seen.sum()]).tolist()  # in one: a GPU waits for it
    return labelled / all_shown, count


def _target(said: Prediction | Tensor, least: Tensor, background: float) -> Target | None:
    import torch

    if not isinstance(said, Prediction):
        score, label = said.max(dim=0)  # (H, W)
        sure = (score >= least[label]) & (score >= 0)  # below 0 is padding
        if not bool(sure.any()):
            return None
        return _without_objects(score, torch.where(sure, label, IGNORE_INDEX))
    sides = said.boxes[:, 2:] - said.boxes[:, :2]
    # A box of less than a pixel or two has no cell of its own in any detector.
    keep = (said.scores >= least[said.labels]) & (sides >= _SMALLEST).all(dim=1)
    if not bool(keep.any()) and _best(said) >= background:
        return None
    return Target(
        boxes=said.boxes[keep],
        labels=said.labels[keep],
        crowd=torch.zeros_like(said.labels[keep], dtype=torch.bool),
        masks=None if said.masks is None else said.masks[keep],
    )


def _without_objects(like: Tensor, semantic: Tensor) -> Target:
    import torch

    return Target(
        boxes=like.new_zeros((0, 4), dtype=torch.float32),
        labels=torch.zeros(0, dtype=torch.int64, device=like.device),
        crowd=torch.zeros(0, dtype=torch.bool, device=like.device),
        semantic=semantic,
    )


def self_training_loss(context: Context, images: Tensor, labels: PseudoLabels, factor: float) -> Tensor:
    """Return factor * share * the model's own loss on pseudo-labels: 0-d float32; what every self-training hook adds.

    images: (N, 3, H, W), the whole micro-batch as the student sees it. factor: weight and ramp of the hook.

    The model's loss is a mean over the images, or the known pixels, that have labels. Times their share it is the sum
    over them divided by all images, or all pixels that show an image, so that a label weighs the same however many
    there are beside it, and a few labels do not weigh as much as many. So Tranheden et al., "DACS", WACV 2021 (the
    weight of label maps), and Sohn et al., "FixMatch", NeurIPS 2020, equation 4 (divided by all unlabelled images).
    Without labels, or with a factor of 0, it is 0, and the student makes no pass, which would move its statistics.
    """
    import torch

    if not labels.images or not factor:
        return images.new_zeros((), dtype=torch.float32)
    chosen = images if len(labels.images) == len(images) else images[labels.images]
    parts = context.adapter.loss(chosen, labels.targets)
    return factor * labels.share * torch.stack([value.float() for value in parts.values()]).sum()


def labelled_maps(images: Tensor, label_maps: Tensor, share: float) -> PseudoLabels:
    """Return label maps as pseudo-labels.

    images: (K, 3, H, W). label_maps: (K, H, W) int64; images of which no pixel is known are left out. share: of the
    pixels that the teacher is sure of, 0..1.
    """
    known = [number for number, one in enumerate(label_maps) if bool((one != IGNORE_INDEX).any())]
    targets = [_without_objects(images, label_maps[number]) for number in known]
    return PseudoLabels(known, targets, share, len(known))


_TOO_MANY = 3.0
"""So many times the objects that a labelled image has, and a teacher is more likely to learn its own errors."""


class TeacherLabels:
    """The pseudo-labels of the teacher for one hook: thresholds, measures for the log, and a word where they look odd.

    hook:     the hook's key.
    patience: micro-batches without any label after which the user is told, and told again; also those over which the
              number of objects an image is compared with that of labelled images.
    background: an image of boxes whose scores are all below this holds nothing, 0..1; 0 for never.
    at_most:   so many times the objects that labelled images have, of each class; None for as many as are found.
    """

    def __init__(
        self,
        hook: str,
        thresholds: Thresholds,
        patience: int,
        *,
        background: float = 0.0,
        at_most: float | None = None,
    ) -> None:
        self.hook, self.thresholds, self.patience = hook, thresholds, patience
        self.background, self.cap = background, None if at_most is None else CountLimit(at_most)
        self._silent = 0
        self._seen = [0, 0, 0, 0, 0]  # micro-batches; unlabelled images and objects; labelled images and objects

    def bind(self, context: Context) -> None:
        """Fit the thresholds to the run; InputError where they name no class of it, or objects of a label map."""
        self.thresholds.bind(context.classes, self.hook)
        if isinstance(context.adapter, HasDenseLogits) and (self.background or self.cap):
            raise InputError(
                f"{self.hook}: background and at_most speak of objects, and this model labels pixels, which have no "
                "number; leave them out"
            )
        if self.cap is not None:
            self.cap.bind(len(context.classes))

    def of(self, context: Context) -> PseudoLabels:
        """Return the labels for the present micro-batch, and take note of how they turned out."""
        said = teacher_predictions(context)
        self.thresholds.learn(said)
        values = self._capped(context, said)
        labels = filter_by_confidence(said, values, self.background)
        self._measure(context, labels, values)
        self._silent = 0 if labels.count else self._silent + 1
        if self._silent and self._silent % self.patience == 0:
            context.notices.append(self._complaint(said, values))
        if isinstance(said[0], Prediction):
            self._compare(context, len(said), labels.count)
        return labels

    def _capped(self, context: Context, said: TeacherOutput) -> list[float]:
        values = self.thresholds.values()
        found = [one for one in said if isinstance(one, Prediction)]
        if self.cap is None or not found:
            return values
        self.cap.learn(found, context.step_data.batch)
        return [max(pair) for pair in zip(values, self.cap.values(), strict=True)]

    def _compare(self, context: Context, images: int, objects: int) -> None:
        """Tell the user where the teacher finds far more objects in an image than labelled images have."""
        counts = context.step_data.batch.counts
        new = (1, images, objects, len(counts), sum(counts))
        self._seen = [before + more for before, more in zip(self._seen, new, strict=True)]
        steps, images, objects, labelled, known = self._seen
        if steps < self.patience:
            return
        self._seen = [0, 0, 0, 0, 0]
        if known and objects * labelled > _TOO_MANY * known * images:
            context.notices.append(
                f"{self.hook}: over {steps} micro-batches the teacher was sure of {objects / images:.1f} objects an "
                f"unlabelled image, and labelled images have {known / labelled:.1f}. Unless there really are more, it "
                "teaches its own errors: raise the threshold, or let it learn longer from labels first (burn_in)"
            )

    def _measure(self, context: Context, labels: PseudoLabels, values: Sequence[float]) -> None:
        context.measures[f"{self.hook}/share"] = labels.share
        context.measures[f"{self.hook}/labels"] = float(labels.count)
        if self.thresholds.adaptive or self.cap is not None:
            for name, value in zip(context.classes.names, values, strict=True):
                context.measures[f"{self.hook}/threshold/{name}"] = value

    def _complaint(self, said: TeacherOutput, values: Sequence[float]) -> str:
        low, high, best = min(values), max(values), max(map(_best, said), default=0.0)
        wanted = f"{low:.2f}" if low == high else f"{low:.2f} to {high:.2f}"
        return (
            f"{self.hook}: for {self._silent} micro-batches the teacher found nothing it is sure enough of, so nothing "
            f"is learnt from unlabelled images; its best score just now is {best:.3f}, the threshold {wanted}. Lower "
            "the threshold, or let it learn longer from labels first (burn_in)"
        )

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run needs."""
        state: dict[str, Any] = {"silent": self._silent, "seen": list(self._seen), "known": self.thresholds.state()}
        return state if self.cap is None else state | self.cap.state()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        self._silent, self._seen = int(state["silent"]), [int(value) for value in state["seen"]]
        self.thresholds.load(state["known"])
        if self.cap is not None:
            self.cap.load(state)


def _best(said: Prediction | Tensor) -> float:
    scores = said.scores if isinstance(said, Prediction) else said
    return float(scores.max()) if scores.numel() else 0.0


def ramp_up(progress: float, start: float, length: float) -> float:
    """Return 0 before `start`, then what rises linearly to 1 over `length`; all are fractions of the run.

    >>> ramp_up(0.1, 0.25, 0.25), ramp_up(0.375, 0.25, 0.25), ramp_up(0.9, 0.25, 0.25), ramp_up(0.25, 0.25, 0.0)
    (0.0, 0.5, 1.0, 1.0)
    """
    if progress < start:
        return 0.0
    return min(1.0, (progress - start) / length) if length else 1.0
