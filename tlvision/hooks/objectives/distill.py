"""Learn from the model of another run: from its features, its class scores and its objects.

Sources: Hinton, Vinyals & Dean, "Distilling the Knowledge in a Neural Network", 2015 (softened scores, times T^2); Cao
et al., "PKD: General Distillation Framework for Object Detectors via Pearson Correlation Coefficient", NeurIPS 2022,
equations 4 and 5: features are brought to mean 0 and variance 1 over images and places, for each channel, before they
are compared, so that teacher and student may be of different families; Romero et al., "FitNets", ICLR 2015 (a learned
layer between features of different widths).
Differences: PKD compares feature pyramids of equal width and has no layer between; the objects of the teacher are
targets of the student's own loss, whole, for every family, while published methods compare raw outputs, which have no
common form. The teacher sees the images as the student sees them, augmented.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from tlvision.data.padding import mean_over_images, valid_pixels
from tlvision.hooks.base import Context, ObjectiveHook
from tlvision.hooks.features.taps import choose_taps
from tlvision.hooks.parameters import Share
from tlvision.hooks.pseudo_labels.labels import filter_by_confidence, self_training_loss
from tlvision.hooks.run_model import RunModel
from tlvision.hooks.side_pass import side_pass
from tlvision.plugin import HasDenseLogits, class_log_probabilities, interpolate, score_kind
from tlvision.types import InputError, InputSpec, listing

if TYPE_CHECKING:
    from torch import Tensor, nn

    from tlvision.plugin import Adapter, Tap


_FLAT = 1e-6
"""Standard deviation up to which a channel does not vary."""


class Distill(ObjectiveHook):
    """Add what the student differs from the teacher by, on labelled images, and on unlabelled ones if there are some.

    run:         folder of the teacher's run, of the same task and the same classes, of any plugin. With `scores` and
                 `objects` of 0 its classes may be others, and the hook works in the trainers of others as well.
    features:    weight of the distance of features, 0 to 1 a tap; 0 for none.
    taps:        of the student: names, "coarsest", "finest", "stride 16" or "all"; each is compared with the teacher's
                 tap of the same name and stride, or else with its last one of that stride. None: of each stride that
                 both have, the last tap, which is the most processed one.
    scores:      weight of the divergence of the class scores of each pixel, for label maps; detectors have none.
    temperature: of the scores; above 1 softens.
    objects:     weight of the student's own loss on the objects of the teacher; costs a second pass. For label maps
                 `scores` do this.
    threshold:   score from which an object of the teacher counts, 0..1.
    least:       the teacher's own metric below which it is refused, 0..1.

    The teacher is read again when a run is resumed, so its folder has to stay where it is.
    """

    sees_unlabelled = True
    makes_side_passes = True
    reads_input_spec = True

    def __init__(
        self,
        *,
        run: str,
        features: Annotated[float, Field(ge=0)] = 1.0,
        taps: Sequence[str] | None = None,
        scores: Annotated[float, Field(ge=0)] = 1.0,
        temperature: Annotated[float, Field(gt=0)] = 2.0,
        objects: Annotated[float, Field(ge=0)] = 0.0,
        threshold: Share = 0.5,
        least: Share = 0.05,
    ) -> None:
        self.run, self.words, self.least = run, taps, least
        self.features, self.scores, self.objects = features, scores, objects
        self.temperature, self.threshold = temperature, threshold
        self.only_model = not (scores or objects)
        self._pairs: dict[str, str] = {}
        self._labels: list[int] = []

    def open_run(self, model: RunModel) -> None:
        """Take the teacher; InputError if it is worse than `least`."""
        if model.value is None or model.value < self.least:
            found = "not measured" if model.value is None else f"{model.value:.4f}"
            raise InputError(
                f"distill: the teacher '{model.folder}' has {model.metric} {found}, and at least {self.least:g} is "
                "wanted of a teacher. Train it longer, take another run, or lower hooks.distill.least"
            )
        self._model = model
        self._teacher.module.requires_grad_(False).eval()

    @property
    def _teacher(self) -> Adapter:
        return self._model.adapter

    def prepare(self, adapter: Adapter) -> None:
        """Choose the taps, and make a layer for each pair of features of different widths."""
        if not self.features:
            return
        last = {tap.stride: tap.name for tap in self._teacher.taps}
        named = {(tap.name, tap.stride) for tap in self._teacher.taps}
        for tap in self._chosen(adapter, last):
            if tap.stride not in last:
                raise InputError(
                    f"distill: the teacher has no tap of stride {tap.stride}, which the student's '{tap.name}' has; "
                    f"its strides are {listing(sorted(last), 9)}. Choose other taps, or features: 0"
                )
            self._pairs[tap.name] = tap.name if (tap.name, tap.stride) in named else last[tap.stride]
        self.taps = tuple(self._pairs)
        self._layers = _projections(adapter, self._teacher, self._pairs)
        self.module = self._layers or None

    def _chosen(self, adapter: Adapter, strides: Collection[int]) -> Sequence[Tap]:
        """Return the taps of the student that are compared. strides: of the teacher's taps."""
        if self.words is not None:
            return choose_taps(adapter, self.words, self.key())
        last = {tap.stride: tap for tap in adapter.taps if tap.stride in strides}
        if not last:
            raise InputError("distill: teacher and student have no tap of the same stride. Set features: 0")
        return tuple(last.values())

    def before_fit(self, context: Context) -> None:
        """Bring the teacher to the device, and its classes into the order of the student's."""
        if not self.only_model:
            self._labels = self._order(context.classes.names)
        self._teacher.module.to(next(context.adapter.module.parameters()).device)

    def _order(self, own: Sequence[str]) -> list[int]:
        """Return the student's number of each class of the teacher. own: names of the student's classes."""
        names = self._model.classes.names
        if sorted(names) != sorted(own):
            different = sorted(set(names) ^ set(own))
            raise InputError(
                f"distill: teacher and student have different classes: only one of them has {listing(different, 5)}. "
                "Train the teacher on the same classes, or learn from its features alone: scores: 0, objects: 0"
            )
        return [own.index(name) for name in names]

    def losses(self, context: Context) -> Mapping[str, Tensor]:
        """Return {"features", "scores", "objects"} as far as they have a weight, which is applied."""
        import torch

        data = context.step_data
        views: list[tuple[Tensor, Mapping[str, Tensor], Any]] = [(data.images, data.features, None)]
        if data.unlabelled is not None:
            views.append((data.unlabelled.weak, data.unlabelled_features, valid_pixels(data.unlabelled)))
        parts: dict[str, list[Tensor]] = {}
        for images, seen, valid in views:
            for name, value in self._on(context, images, seen, valid).items():
                parts.setdefault(name, []).append(value)
        return {name: torch.stack(values).sum() for name, values in parts.items()}

    def _on(
        self, context: Context, images: Tensor, seen: Mapping[str, Tensor], valid: Tensor | None
    ) -> dict[str, Tensor]:
        """Return the losses on some images, (N, 3, H, W) as the student gets them, with its features of them."""
        import torch

        given = renormalised(images, context.adapter.input_spec, self._teacher.input_spec)
        losses: dict[str, Tensor] = {}
        if self.features:
            with torch.no_grad():
                wanted = self._teacher.features(given)
            losses["features"] = self.features * self._feature_distance(seen, wanted)
        if isinstance(context.adapter, HasDenseLogits):
            if self.scores:
                losses["scores"] = self.scores * self._divergence(context, images, given, valid)
        elif self.objects:
            with torch.no_grad():
                found = self._teacher.predict(given)
            order = torch.tensor(self._labels, device=images.device)
            found = [replace(each, labels=order[torch.as_tensor(each.labels)]) for each in found]
            targets = filter_by_confidence(found, [self.threshold] * len(context.classes))
            losses["objects"] = self_training_loss(context, images, targets, self.objects)
        return losses

    def _feature_distance(self, seen: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> Tensor:
        import torch

        distances = []
        for own, other in self._pairs.items():
            features = seen[own].float()
            if _key(own) in self._layers:
                features = self._layers[_key(own)](features)
            distances.append(pearson_distance(features, _of_size(wanted[other].float(), features)))
        return torch.stack(distances).mean()

    def _divergence(self, context: Context, images: Tensor, given: Tensor, valid: Tensor | None) -> Tensor:
        """Return T^2 times the mean over pixels of KL(teacher || student), both softened by the temperature T.

        The student computes as evaluation will, as the teacher does.
        """
        import torch

        teacher: Any = self._teacher
        adapter: Any = context.adapter
        with torch.no_grad():
            wanted = class_log_probabilities(
                interpolate(teacher.dense_logits(given), images.shape[-2:]), score_kind(teacher)
            )
            inverse = torch.tensor(self._labels, device=images.device).argsort()
            target = (wanted[:, inverse] / self.temperature).log_softmax(dim=1)
        with side_pass(adapter, context.step_data.buffers):
            scores = interpolate(adapter.dense_logits(images), images.shape[-2:])
        student = (class_log_probabilities(scores, score_kind(adapter)) / self.temperature).log_softmax(dim=1)
        return self.temperature**2 * mean_over_images((target.exp() * (target - student)).sum(dim=1), valid)


def pearson_distance(features: Tensor, wanted: Tensor) -> Tensor:
    """Return 1 - the mean over channels of the correlation over images and places: 0-d float32, 0..2.

    features, wanted: (N, C, h, w). Channels that do not vary in `wanted` have nothing to teach and are left out; one
    that does not vary in `features` alone correlates with nothing.

    >>> import torch
    >>> one = torch.arange(4.0).reshape(1, 1, 2, 2)
    >>> [round(pearson_distance(one, other).item(), 4) for other in (3 * one + 5, -one)]
    [0.0, 2.0]
    """
    one, _ = _standardised(features)
    other, deviation = _standardised(wanted)
    varies = (deviation > 1.01 * _FLAT).to(one.dtype)
    correlation = (one * other).mean(dim=(0, 2, 3))  # (C,)
    return 1 - (correlation * varies).sum() / varies.sum().clamp(min=1)


def _standardised(features: Tensor) -> tuple[Tensor, Tensor]:
    """Return features with mean 0 and variance 1 over images and places, and (C,) the deviation that they had.

    A deviation is `_FLAT` at least: the gradient of a root has no value at 0.
    """
    centred = features - features.mean(dim=(0, 2, 3), keepdim=True)
    deviation = centred.square().mean(dim=(0, 2, 3), keepdim=True).clamp(min=_FLAT**2).sqrt()
    return centred / deviation, deviation.flatten()


def renormalised(images: Tensor, own: InputSpec, other: InputSpec) -> Tensor:
    """Return images that are normalised by one spec as another one asks for; (N, 3, H, W) both.

    The sides stay, padded at the right and at the bottom to multiples of what the other model takes.
    """
    from torch.nn.functional import pad

    if own != other:
        mean, std = (images.new_tensor(each).reshape(1, 3, 1, 1) for each in (own.mean, own.std))
        values = (images * std + mean) / own.value_range
        if own.channel_order != other.channel_order:
            values = values.flip(1)
        mean, std = (images.new_tensor(each).reshape(1, 3, 1, 1) for each in (other.mean, other.std))
        images = (values * other.value_range - mean) / std
    right, bottom = (-images.shape[axis] % other.multiple_of for axis in (3, 2))
    return pad(images, (0, right, 0, bottom)) if right or bottom else images


def _of_size(wanted: Tensor, like: Tensor) -> Tensor:
    """Return the teacher's features without the cells of padding that the student's do not have."""
    return wanted[..., : like.shape[2], : like.shape[3]]


def _key(tap: str) -> str:
    """Return the name of a tap as a module can be called."""
    return tap.replace(".", "_")


def _projections(adapter: Adapter, teacher: Adapter, pairs: Mapping[str, str]) -> nn.ModuleDict:
    """Return a 1 x 1 convolution for each tap of the student whose width is not that of the teacher's."""
    from torch import nn

    own, other = ({tap.name: tap.channels for tap in each.taps} for each in (adapter, teacher))
    return nn.ModuleDict(
        {
            _key(tap): nn.Conv2d(own[tap], other[partner], 1)
            for tap, partner in pairs.items()
            if own[tap] != other[partner]
        }
    )
