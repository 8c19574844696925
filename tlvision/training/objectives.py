"""The losses of one micro-batch: the model's own, then those of objective hooks in the order of the file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tlvision.data.batches import normalise
from tlvision.hooks import ObjectiveHook
from tlvision.hooks.norm_statistics import fixed_norm_statistics
from tlvision.plugin import HasInstanceFeatures, capture, record

if TYPE_CHECKING:
    from torch import Tensor

    from tlvision.hooks import Context, Hook
    from tlvision.plugin import Adapter


def batch_losses(context: Context, hooks: Sequence[Hook]) -> dict[str, Tensor]:
    """Return `{name: 0-d tensor}` for `context.batch`, those of hooks as "<hook>/<name>".

    What hooks share is worked out once: the features that the model's own loss sees, and one forward pass of the weak
    views of the unlabelled images where a hook compares the two, with the norms' statistics as evaluation has them.
    """
    adapter, batch = context.adapter, context.batch
    assert batch is not None
    objectives = [hook for hook in hooks if isinstance(hook, ObjectiveHook)]
    wanted = {name for hook in objectives for name in hook.taps}
    taps = [tap for tap in adapter.taps() if tap.name in wanted] if wanted else []
    context.memo = {}
    context.images = normalise(batch.images, adapter.input_spec)
    pyramid_path = _pyramid_path(adapter, objectives)
    with capture(adapter.module, taps) as features, record(adapter.module, pyramid_path) as pyramids:
        losses = dict(adapter.loss(context.images, batch.targets))
    context.features = dict(features)  # a copy: later passes of a hook are no longer captured
    context.pyramid = pyramids[-1] if pyramids else None
    if batch.unlabelled is not None:
        context.unlabelled = batch.unlabelled.map(lambda images: normalise(images, adapter.input_spec))
        if any(hook.uses_unlabelled and hook.taps for hook in objectives):
            with record(adapter.module, pyramid_path) as pyramids, fixed_norm_statistics(adapter.module):
                found = adapter.features(context.unlabelled.weak)
            context.unlabelled_features = {tap.name: found[tap.name] for tap in taps}
            context.unlabelled_pyramid = pyramids[-1] if pyramids else None
    for hook in objectives:
        losses.update({f"{hook.key()}/{name}": value for name, value in hook.losses(context).items()})
    return losses


def _pyramid_path(adapter: Adapter, objectives: Sequence[ObjectiveHook]) -> str | None:
    wanted = any(hook.uses_pyramid for hook in objectives)
    return adapter.pyramid_path if wanted and isinstance(adapter, HasInstanceFeatures) else None


def forget_batch(context: Context) -> None:
    """Let go of what belongs to a micro-batch alone, and with it of the memory."""
    context.batch, context.images, context.unlabelled = None, None, None
    context.features, context.unlabelled_features, context.memo = {}, {}, {}
    context.pyramid, context.unlabelled_pyramid = None, None
