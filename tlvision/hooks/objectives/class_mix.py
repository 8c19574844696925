"""ClassMix: paste half of the classes of a labelled image into an unlabelled one, and train on the labels of both.

Sources: Olsson et al., "ClassMix", WACV 2021 (the cut along label borders), and Tranheden et al., "DACS: Domain
Adaptation via Cross-Domain Mixed Sampling", WACV 2021, equations 1 to 4: X = M * labelled + (1 - M) * unlabelled, Y
likewise from the label map and the teacher's, L = L_model(X, Y) with the weight of the share of confident pixels.
Differences: the teacher's pixels below the threshold are IGNORE_INDEX and the loss as a whole has the weight of the
share (`self_training_loss`), while DACS keeps all of them and weights each by it; padding of unlabelled images is
ignored.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from tlvision.hooks.base import Context, ObjectiveHook, PseudoLabelSource
from tlvision.hooks.parameters import Share
from tlvision.hooks.pseudo_labels.labels import labelled_maps, self_training_loss
from tlvision.plugin import HasDenseLogits
from tlvision.types import IGNORE_INDEX, RunError

if TYPE_CHECKING:
    from torch import Tensor


class ClassMix(ObjectiveHook):
    """Train on mixtures of labelled and unlabelled images; label maps only; needs `ema` and `pseudo_labels`.

    weight:    0 or more.
    threshold: confidence from which a teacher pixel counts, 0..1, DACS has 0.968; None for that of `pseudo_labels`.

    Labelled and unlabelled inputs must have one size, as they have with `data.canvas: square`.
    """

    needs = (HasDenseLogits,)
    uses_unlabelled = True
    uses_teacher = True
    uses_pseudo_labels = True

    def __init__(self, *, weight: Annotated[float, Field(ge=0)] = 1.0, threshold: Share | None = None) -> None:
        self.weight, self.threshold = weight, threshold

    def losses(self, context: Context) -> Mapping[str, Tensor]:
        """Return {"mixed"}, weight applied; nothing during the burn-in."""
        assert context.pseudo_labels is not None
        ramp = context.pseudo_labels.weight(context)
        if ramp is None:
            return {}
        images, label_maps, share = self._mix(context, context.pseudo_labels)
        targets = labelled_maps(images, label_maps, share)
        return {"mixed": self_training_loss(context, images, targets, self.weight * ramp)}

    def _mix(self, context: Context, pseudo_labels: PseudoLabelSource) -> tuple[Tensor, Tensor, float]:
        """Return (K, 3, H, W) images, (K, H, W) label maps and the share of the teacher's pixels that are confident."""
        import torch

        data = context.step_data
        assert data.unlabelled is not None
        assert data.batch.semantic is not None
        own, other = data.images, data.unlabelled.strong
        if own.shape[1:] != other.shape[1:]:
            raise RunError(
                f"class_mix: labelled inputs are {tuple(own.shape[-2:])} and unlabelled ones {tuple(other.shape[-2:])} "
                "pixels high and wide. Set data.canvas: square, so that both have one size."
            )
        found = pseudo_labels.targets(context, self.key(), self.threshold)
        count = min(len(own), len(other))
        label_maps = torch.full(other.shape[:1] + other.shape[-2:], IGNORE_INDEX, device=other.device)
        for image, target in zip(found.images, found.targets, strict=True):
            label_maps[image] = torch.as_tensor(target.semantic)
        truth = data.batch.semantic[:count].long()
        pasted = torch.stack([_half_of_the_classes(one) for one in truth])  # (K, H, W)
        mixed = torch.where(pasted[:, None], own[:count], other[:count])
        return mixed, torch.where(pasted, truth, label_maps[:count]), found.share


def _half_of_the_classes(label_map: Tensor) -> Tensor:
    """Return (H, W) bool: the pixels of half of a label map's classes (rounded up), drawn from torch's generator."""
    import torch

    present = [value for value in torch.unique(label_map).tolist() if value != IGNORE_INDEX]
    order = torch.randperm(len(present)).tolist()
    chosen = [present[place] for place in order[: -(-len(present) // 2)]]
    return torch.isin(label_map, torch.tensor(chosen, dtype=label_map.dtype, device=label_map.device))
