"""Half of the classes of a labelled image, pasted into an unlabelled one, with the labels of both.

Sources: Olsson et al., "ClassMix", WACV 2021 (the cut along label borders), and Tranheden et al., "DACS: Domain
Adaptation via Cross-Domain Mixed Sampling", WACV 2021, equations 1 to 4: X = M * labelled + (1 - M) * unlabelled, Y
likewise from the label map and the teacher's, L = L_model(X, Y) with the weight of the share of confident pixels.
Different here: pixels of the teacher that do not reach the threshold are IGNORE_INDEX and the loss as a whole has the
weight of the share (`self_training_loss`), where DACS keeps all of them and weights each by it; padding of unlabelled
images counts nowhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from tlvision.hooks.base import Context, ObjectiveHook
from tlvision.hooks.pseudo_labels.labels import TeacherLabels, labelled_maps, ramp_up, self_training_loss
from tlvision.hooks.pseudo_labels.thresholds import Thresholds
from tlvision.plugin import HasDenseLogits
from tlvision.types import IGNORE_INDEX, RunError

if TYPE_CHECKING:
    from torch import Tensor

Share = Annotated[float, Field(ge=0, le=1)]


class ClassMix(ObjectiveHook):
    """Learn from mixtures of labelled and unlabelled images; for label maps; needs the hook `ema`.

    weight:     0 or more.
    threshold:  confidence from which a pixel of the teacher counts, 0..1; 0.968 in DACS.
    thresholds: `{class name: threshold}` for classes that want their own.
    burn_in, ramp, patience: as for `mean_teacher`.

    Labelled and unlabelled inputs must have one size, as they have with `data.canvas: square`.
    """

    needs = (HasDenseLogits,)
    uses_unlabelled = True
    uses_teacher = True

    def __init__(
        self,
        *,
        weight: Annotated[float, Field(ge=0)] = 1.0,
        threshold: Share = 0.9,
        thresholds: dict[str, Share] = {},  # noqa: B006  (a schema; never written to)
        burn_in: Annotated[float, Field(ge=0, lt=1)] = 0.2,
        ramp: Share = 0.1,
        patience: Annotated[int, Field(ge=1)] = 50,
    ) -> None:
        self.weight, self.burn_in, self.ramp = weight, burn_in, ramp
        self.labels = TeacherLabels(self.key(), Thresholds(threshold, thresholds, adaptive=False), patience)

    def before_fit(self, context: Context) -> None:
        """Fit the thresholds to the classes."""
        self.labels.bind(context)

    def losses(self, context: Context) -> Mapping[str, Tensor]:
        """Return {"mixed"}, weight applied; nothing during the burn-in."""
        if context.progress < self.burn_in:
            return {}
        images, label_maps, share = self._mix(context)
        factor = self.weight * ramp_up(context.progress, self.burn_in, self.ramp)
        return {"mixed": self_training_loss(context, images, labelled_maps(images, label_maps, share), factor)}

    def _mix(self, context: Context) -> tuple[Tensor, Tensor, float]:
        """Return (K, 3, H, W) images, (K, H, W) label maps and the share of the teacher's pixels that count."""
        import torch

        data = context.step_data
        assert data.unlabelled is not None
        assert data.batch.semantic is not None
        own, other = data.images, data.unlabelled.strong
        if own.shape[1:] != other.shape[1:]:
            raise RunError(
                f"class_mix: labelled inputs are {tuple(own.shape[-2:])} and unlabelled ones {tuple(other.shape[-2:])} "
                "pixels high and wide; give both one size with data.canvas: square"
            )
        found = self.labels.of(context)
        count = min(len(own), len(other))
        label_maps = torch.full(other.shape[:1] + other.shape[-2:], IGNORE_INDEX, device=other.device)
        for image, target in zip(found.images, found.targets, strict=True):
            label_maps[image] = torch.as_tensor(target.semantic)
        truth = data.batch.semantic[:count].long()
        pasted = torch.stack([_half_of_the_classes(one) for one in truth])  # (K, H, W)
        mixed = torch.where(pasted[:, None], own[:count], other[:count])
        return mixed, torch.where(pasted, truth, label_maps[:count]), found.share

    def state_dict(self) -> dict[str, Any]:
        """Return what the thresholds know."""
        return self.labels.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        self.labels.load_state_dict(state)


def _half_of_the_classes(label_map: Tensor) -> Tensor:
    """Return (H, W) bool, where half of the classes of a label map are (rounded up), drawn from torch's generator."""
    import torch

    present = [value for value in torch.unique(label_map).tolist() if value != IGNORE_INDEX]
    order = torch.randperm(len(present)).tolist()
    chosen = [present[place] for place in order[: -(-len(present) // 2)]]
    return torch.isin(label_map, torch.tensor(chosen, dtype=label_map.dtype, device=label_map.device))
