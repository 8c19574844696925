"""Make the features of two domains indistinguishable to a discriminator that is trained to separate them.

Source: Ganin & Lempitsky, "Unsupervised Domain Adaptation by Backpropagation", ICML 2015: the reversed gradient
(equations 7 to 9), lambda = 2 / (1 + exp(-gamma p)) - 1 over the progress p (equation 14, gamma 10). On maps and on
boxes after Chen et al., "Domain Adaptive Faster R-CNN for Object Detection in the Wild", CVPR 2018, section 4: the
losses of image level, of instance level, and of their consistency, |mean of p over the map - p of the box|, at a weight
of 0.1. Least squares after Mao et al., "Least Squares Generative Adversarial Networks", ICCV 2017, equation 2.
Differences: losses are means over cells and boxes, and both domains count the same however many images each has;
the ramp serves detectors as well; discriminators have one hidden layer and no dropout; several taps may have one each,
and their image-level probabilities are averaged for the consistency. That one reaches the features with +lambda instead
of -lambda: the two verdicts are meant to agree, which is no game. Features are divided by their root mean square over
both domains first: a pyramid without norms has features of a size of 20, at which the discriminators' losses came to
eight times those of a Faster R-CNN, whose AP fell from 0.18 to 0.05. Both domains pass through the model as evaluation
will, with running statistics and without dropout (`tlvision.hooks.side_pass`); with batch statistics a discriminator
tells the domains by them, not by what the images show. Labelled is 0, unlabelled 1.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from tlvision.hooks.base import Context, ObjectiveHook
from tlvision.hooks.features.taps import choose_taps
from tlvision.hooks.side_pass import side_pass
from tlvision.plugin import HasInstanceFeatures
from tlvision.types import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor, nn

    from tlvision.plugin import Adapter

_INSTANCE = "instance"
_PROBE_SIDE = 128
"""Smallest sides, in pixels, of the empty image on which the channels of box features are measured."""


class DomainAdversarial(ObjectiveHook):
    """Add weight * the loss of a domain discriminator, whose gradient is reversed where it enters the model.

    taps:      names of taps, "coarsest", "finest", "stride 16" or "all"; a discriminator for each.
    level:     "pixel" judges each cell of a map, "pooled" the mean of the map.
    instance:  "auto" also judges each proposal where the model pools features for boxes (two-stage detectors), with the
               consistency between both; "on" demands that, "off" leaves it out.
    proposals: largest number of proposals of an image that are classified, the best ones.
    weight:    of all these losses.
    gamma:     how steep lambda(p) = 2 / (1 + exp(-gamma p)) - 1 rises over the run, above 0.
    loss:      "cross_entropy" or "least_squares".
    hidden:    width of the discriminators.
    """

    uses_unlabelled = True
    uses_pyramid = True

    def __init__(
        self,
        *,
        taps: Sequence[str] = ("coarsest",),
        level: Literal["pixel", "pooled"] = "pixel",
        instance: Literal["auto", "on", "off"] = "auto",
        proposals: Annotated[int, Field(ge=1)] = 128,
        weight: Annotated[float, Field(ge=0)] = 0.1,
        gamma: Annotated[float, Field(gt=0)] = 10.0,
        loss: Literal["cross_entropy", "least_squares"] = "cross_entropy",
        hidden: Annotated[int, Field(ge=1)] = 256,
    ) -> None:
        self.words, self.level, self.instance, self.proposals = tuple(taps), level, instance, proposals
        self.weight, self.gamma, self.loss, self.hidden = weight, gamma, loss, hidden
        self._parts: dict[str, nn.Module] = {}

    def prepare(self, adapter: Adapter) -> None:
        """Build a discriminator for each tap, and one for boxes where the model has features for them."""
        from torch import nn

        from tlvision.hooks.features.discriminators import MapDiscriminator, VectorDiscriminator

        chosen = choose_taps(adapter, self.words, self.key())
        self.taps = tuple(tap.name for tap in chosen)
        self._parts = {tap.name: MapDiscriminator(tap.channels, self.hidden) for tap in chosen}
        if isinstance(adapter, HasInstanceFeatures) and self.instance != "off":
            self._parts[_INSTANCE] = VectorDiscriminator(_instance_channels(adapter), self.hidden)
        elif self.instance == "on":
            raise InputError(
                "hooks: 'domain_adversarial' with instance: on needs HasInstanceFeatures, which this model does not "
                "offer (two-stage detectors do); 'auto' depends on the model"
            )
        # The names in a ModuleDict must not have dots, those of taps may.
        self.module = nn.ModuleDict({f"at_{name.replace('.', '_')}": part for name, part in self._parts.items()})

    def losses(self, context: Context) -> Mapping[str, Tensor]:
        """Return {"image"}, and {"instance", "consistency"} where boxes are judged, weights applied."""
        from tlvision.hooks.features.discriminators import same_scale

        data = context.step_data
        if not self.weight:
            return {"image": next(iter(data.features.values())).new_zeros(())}
        factor = self.reversal(context.progress)
        pairs = {name: same_scale(data.features[name], data.unlabelled_features[name]) for name in self.taps}
        maps = tuple({name: pair[domain] for name, pair in pairs.items()} for domain in (0, 1))
        losses = {"image": self._image_loss(maps, factor)}
        if _INSTANCE in self._parts:
            losses |= self._instance_losses(context, maps, factor)
        return {name: self.weight * value for name, value in losses.items()}

    def reversal(self, progress: float) -> float:
        """Return lambda, 0..1, at `progress`, 0..1."""
        return 2 / (1 + math.exp(-self.gamma * progress)) - 1

    def _image_loss(self, maps: tuple[Mapping[str, Tensor], ...], factor: float) -> Tensor:
        import torch

        from tlvision.hooks.features.discriminators import domain_loss

        losses = [
            domain_loss(self._map_scores(name, features[name], -factor), domain, self.loss)
            for name in self.taps
            for domain, features in enumerate(maps)
        ]
        return torch.stack(losses).mean()

    def _map_scores(self, tap: str, features: Tensor, factor: float) -> Tensor:
        """Return (N, 1, h, w) float32 scores; h and w are 1 for the level "pooled"."""
        from tlvision.hooks.features.discriminators import scale_gradient

        if self.level == "pooled":
            features = features.mean(dim=(2, 3), keepdim=True)
        scores: Tensor = self._parts[tap](scale_gradient(features, factor))
        return scores.float()

    def _instance_losses(
        self, context: Context, maps: tuple[Mapping[str, Tensor], ...], factor: float
    ) -> dict[str, Tensor]:
        import torch

        from tlvision.hooks.features.discriminators import domain_loss, domain_probability, same_scale, scale_gradient

        data = context.step_data
        assert data.unlabelled is not None
        assert isinstance(context.adapter, HasInstanceFeatures)
        judge = self._parts[_INSTANCE]
        losses, distances = [], []
        labelled = data.images[: len(next(iter(maps[0].values())))]  # those that the maps are of
        images, pyramids = (labelled, data.unlabelled.weak), (data.pyramid, data.unlabelled_pyramid)
        found = []
        for each, pyramid in zip(images, pyramids, strict=True):
            with side_pass(context.adapter, data.buffers):
                found.append(context.adapter.instance_features(each, most=self.proposals, pyramid=pyramid))
        rows = same_scale(*(torch.cat([one.features for one in each]) for each in found))
        for domain, features in enumerate(maps):
            scores = judge(scale_gradient(rows[domain], -factor)).float()
            losses.append(domain_loss(scores, domain, self.loss))
            agreed = domain_probability(judge(scale_gradient(rows[domain], factor)).float(), self.loss)[:, 0]
            expected = self._image_verdicts(features, factor)
            pairs = zip(expected, found[domain], strict=True)
            of_its_image = torch.cat([value.expand(len(one.features)) for value, one in pairs])
            distances.append((agreed - of_its_image).abs())
        averages = [each.mean() if each.numel() else each.sum() for each in distances]
        return {"instance": torch.stack(losses).mean(), "consistency": torch.stack(averages).mean()}

    def _image_verdicts(self, features: Mapping[str, Tensor], factor: float) -> Tensor:
        """Return the probability of the unlabelled domain for each image, (N,): the mean of its cells and taps."""
        import torch

        from tlvision.hooks.features.discriminators import domain_probability

        scores = [self._map_scores(name, features[name], factor) for name in self.taps]
        return torch.stack([domain_probability(each, self.loss).mean(dim=(1, 2, 3)) for each in scores]).mean(dim=0)


def _instance_channels(adapter: Adapter) -> int:
    """Return the number of channels of a box's features, measured on one box because the contract does not state it."""
    import torch

    assert isinstance(adapter, HasInstanceFeatures)
    multiple = adapter.input_spec.multiple_of
    side = -(-_PROBE_SIDE // multiple) * multiple
    device = next(adapter.module.parameters()).device
    image = torch.zeros(1, 3, side, side, device=device)
    box = torch.tensor([[0.0, 0.0, side / 2, side / 2]], device=device)
    with torch.no_grad(), _evaluating(adapter.module):
        return int(adapter.instance_features(image, [box])[0].features.shape[1])


@contextmanager
def _evaluating(module: nn.Module) -> Iterator[None]:
    """Put the module into eval mode, so that no statistic moves, and back into what each part was in."""
    modes = [(child, child.training) for child in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for child, training in modes:
            child.training = training
