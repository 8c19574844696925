"""Turn teacher predictions on unlabelled images into training targets (boxes, masks or label maps)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tlvision.hooks.pseudo_labels.targets import PseudoTargets
from tlvision.hooks.pseudo_labels.teacher import TeacherOutput, best_score
from tlvision.plugin import constants
from tlvision.types import IGNORE_INDEX, Prediction, Target

if TYPE_CHECKING:
    from torch import Tensor

    from tlvision.hooks.base import Context

_SMALLEST = 2.0


def filter_by_confidence(output: TeacherOutput, thresholds: Sequence[float], background: float = 0.0) -> PseudoTargets:
    """Return the confident predictions as targets: objects, or pixels, whose score reaches their class's threshold.

    output:     predictions of the teacher, one for each image.
    thresholds: one for each class, 0..1.
    background: 0..1. An image of boxes whose scores are all below it is a target without objects.

    A pixel below its threshold is IGNORE_INDEX. An image without any confident prediction has no target, because a low
    score does not prove that nothing is there.
    """
    scores: Any = output[0].scores if isinstance(output[0], Prediction) else output[0]
    least = constants(thresholds, scores)  # (C,)
    targets = [_target(each, least, background) for each in output]
    images = [number for number, target in enumerate(targets) if target is not None]
    kept = [target for target in targets if target is not None]
    if any(target.semantic is not None for target in kept):
        return PseudoTargets(images, kept, *_count_pixels(output, kept))
    return PseudoTargets(images, kept, len(kept) / len(output), sum(len(target) for target in kept))


def _count_pixels(output: TeacherOutput, targets: Sequence[Target]) -> tuple[float, int]:
    """Return the share of the pixels that show an image which have a label, and the classes of all label maps."""
    import torch

    probabilities: list[Any] = list(output)
    maps = torch.stack([torch.as_tensor(target.semantic) for target in targets])  # (K, H, W)
    classes, known = len(probabilities[0]), maps != IGNORE_INDEX
    seen = maps.new_zeros((len(maps), classes + 1))
    seen = seen.scatter(1, maps.where(known, classes).flatten(1), 1)[:, :classes]  # (K, C): 1 if a map has the class
    shown = torch.stack([(each[0] >= 0).sum() for each in probabilities]).sum()
    labelled, all_shown, count = torch.stack([known.sum(), shown, seen.sum()]).tolist()  # in one: a GPU waits for it
    return labelled / all_shown, count


def _target(output: Prediction | Tensor, least: Tensor, background: float) -> Target | None:
    import torch

    if not isinstance(output, Prediction):
        score, label = output.max(dim=0)  # (H, W)
        confident = (score >= least[label]) & (score >= 0)  # below 0 is padding
        if not bool(confident.any()):
            return None
        return _without_objects(score, torch.where(confident, label, IGNORE_INDEX))
    sides = output.boxes[:, 2:] - output.boxes[:, :2]
    # A box of less than a pixel or two has no cell of its own in any detector.
    keep = (output.scores >= least[output.labels]) & (sides >= _SMALLEST).all(dim=1)
    if not bool(keep.any()) and best_score(output) >= background:
        return None
    return Target(
        boxes=output.boxes[keep],
        labels=output.labels[keep],
        crowd=torch.zeros_like(output.labels[keep], dtype=torch.bool),
        masks=None if output.masks is None else output.masks[keep],
    )


def _without_objects(like: Tensor, semantic: Tensor) -> Target:
    import torch

    return Target(
        boxes=like.new_zeros((0, 4), dtype=torch.float32),
        labels=torch.zeros(0, dtype=torch.int64, device=like.device),
        crowd=torch.zeros(0, dtype=torch.bool, device=like.device),
        semantic=semantic,
    )


def self_training_loss(context: Context, images: Tensor, labels: PseudoTargets, factor: float) -> Tensor:
    """Return factor * share * the model's own loss on pseudo-labels: 0-d float32; every self-training hook adds this.

    images: (N, 3, H, W), the whole micro-batch as the student sees it. factor: weight and ramp of the hook.

    The model's loss is a mean over the images, or the labelled pixels. Times their share it is the sum over them
    divided by all images, or all pixels that show an image, so that a label weighs the same however many others there
    are, and a few labels weigh less than many. So Tranheden et al., "DACS", WACV 2021 (the weight of label maps), and
    Sohn et al., "FixMatch", NeurIPS 2020, equation 4 (divided by all unlabelled images). Without labels, or with a
    factor of 0, it is 0, and the student makes no pass, which would move its statistics.
    """
    import torch

    if not labels.images or not factor:
        return images.new_zeros((), dtype=torch.float32)
    chosen = images if len(labels.images) == len(images) else images[labels.images]
    parts = context.adapter.loss(chosen, labels.targets)
    return factor * labels.share * torch.stack([value.float() for value in parts.values()]).sum()


def labelled_maps(images: Tensor, label_maps: Tensor, share: float) -> PseudoTargets:
    """Return label maps as targets.

    images: (K, 3, H, W). label_maps: (K, H, W) int64; images without a labelled pixel are left out. share: of the
    teacher's pixels that are confident, 0..1.
    """
    known = [number for number, label_map in enumerate(label_maps) if bool((label_map != IGNORE_INDEX).any())]
    targets = [_without_objects(images, label_maps[number]) for number in known]
    return PseudoTargets(known, targets, share, len(known))
