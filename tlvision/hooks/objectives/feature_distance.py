"""Keep the model's features near those of its pretrained weights.

Source: Li et al., "DELTA: Deep Learning Transfer using Feature Map with Attention", ICLR 2019, section 3, without the
attention: |FM(w) - FM(w_pretrained)|^2 at several layers, on the images being trained on; Romero et al., "FitNets:
Hints for Thin Deep Nets", ICLR 2015, equation 3, for the same distance between two networks. Differences: divided by
the mean square of the pretrained features, so that the weight means the same on every tap and model; on unlabelled
images as well, if the batch has them. Both models compute in the same way: on labelled images as in the model's own
loss, with the same batch statistics and the same dropout; on unlabelled ones as at evaluation, each with its running
statistics. So the distance is 0 while no weight has moved (DELTA's code has the pretrained one in eval mode).
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from tlvision.hooks.base import Context, ObjectiveHook
from tlvision.hooks.features.taps import choose_taps
from tlvision.hooks.generators import States, kept_generators
from tlvision.hooks.side_pass import copied_buffers, lent_buffers, side_pass
from tlvision.types import InputError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from tlvision.plugin import Adapter, Tap


class FeatureDistance(ObjectiveHook):
    """Add weight * mean((f - f_pretrained)^2) / mean(f_pretrained^2), averaged over the taps.

    taps:   names of taps, "coarsest", "finest", "stride 16" or "all".
    weight: of the loss on labelled images, and of that on unlabelled ones.

    It costs a second model in memory and its forward pass. If another hook has the batch hold unlabelled images, their
    weak views count as well, which costs a pass of both models; it asks for none itself. Raises InputError if nothing
    below a tap was pretrained.
    """

    sees_unlabelled = True
    only_model = True

    def __init__(self, *, taps: Sequence[str] = ("coarsest",), weight: Annotated[float, Field(ge=0)] = 1.0) -> None:
        self.words, self.weight = tuple(taps), weight
        self._pretrained: Adapter | None = None
        self._saved: dict[str, Tensor] = {}

    def prepare(self, adapter: Adapter) -> None:
        """Choose the taps."""
        self.taps = tuple(tap.name for tap in choose_taps(adapter, self.words, self.key()))

    def before_fit(self, context: Context) -> None:
        """Copy the pretrained model, with the weights that a resumed run brought along where there are some."""
        if not self._saved:
            _require_pretrained(context, [tap for tap in context.adapter.taps if tap.name in self.taps])
        self._pretrained = copy.deepcopy(context.adapter)
        module = self._pretrained.module
        if self._saved:
            module.load_state_dict(self._saved)
        module.requires_grad_(False).eval()
        module.zero_grad(set_to_none=True)
        self._saved = dict(module.state_dict())

    def losses(self, context: Context) -> Mapping[str, Tensor]:
        """Return {"labelled"}, and {"unlabelled"} where the batch has unlabelled images, weights applied."""
        data = context.step_data
        if not self.weight:
            nothing = data.images.new_zeros(())
            return {"labelled": nothing} if data.unlabelled is None else {"labelled": nothing, "unlabelled": nothing}
        with self._as(context), lent_buffers(copied_buffers(self._module)):
            wanted = self._wanted(data.images, data.generators)
            losses = {"labelled": self.weight * self._distance(data.features, wanted)}
        if data.unlabelled is not None:
            assert self._pretrained is not None
            with self._as(context), side_pass(self._pretrained):
                wanted = self._wanted(data.unlabelled.weak)
            losses["unlabelled"] = self.weight * self._distance(data.unlabelled_features, wanted)
        return losses

    @property
    def _module(self) -> nn.Module:
        assert self._pretrained is not None
        return self._pretrained.module

    @contextmanager
    def _as(self, context: Context) -> Iterator[None]:
        """Put each part of the pretrained model into the mode that it has in the model."""
        try:
            for own, other in zip(context.adapter.module.modules(), self._module.modules(), strict=True):
                other.training = own.training
            yield
        finally:
            self._module.eval()

    def _wanted(self, images: Tensor, start: States | None = None) -> Mapping[str, Tensor]:
        """Return the pretrained features; `start` are the random generators with which the model's own began."""
        import torch

        assert self._pretrained is not None
        with torch.no_grad(), kept_generators(start):
            return self._pretrained.features(images)

    def _distance(self, features: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> Tensor:
        import torch

        found = [relative_distance(features[name].float(), wanted[name].float()) for name in self.taps]
        return torch.stack(found).mean()

    def state_dict(self) -> dict[str, Any]:
        """Return the pretrained weights by name."""
        return dict(self._saved)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self._saved = dict(state)


def relative_distance(features: Tensor, wanted: Tensor) -> Tensor:
    """Return mean((features - target)^2) / mean(target^2) of two tensors of one shape."""
    # 1e-12: a dead tap, whose features are all 0, must not divide by it.
    return (features - wanted).square().mean() / wanted.square().mean().clamp(min=1e-12)


def _require_pretrained(context: Context, taps: Sequence[Tap]) -> None:
    """Raise InputError if a tap depends on no loaded weight."""
    loaded = set(context.weights.loaded)
    if not loaded:
        raise InputError(
            f"feature_distance: nothing was pretrained ({context.weights.summary()}), so there is nothing to stay "
            "near; give model.weights, or leave feature_distance out"
        )
    names = [name for name, _ in context.adapter.module.named_parameters()]
    for tap in taps:
        own = [name for name in names if name.startswith(f"{tap.module_path}.")]
        if own and loaded.isdisjoint(own):
            known = [
                other.name
                for other in context.adapter.taps
                if any(name.startswith(f"{other.module_path}.") for name in loaded)
            ]
            raise InputError(
                f"feature_distance: nothing of the tap '{tap.name}' was pretrained ({context.weights.summary()}); "
                f"choose among {', '.join(known) or 'other weights, for no tap was'}"
            )
