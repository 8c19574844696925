"""The losses of one micro-batch: the model's own, then those of objective hooks in the order of the file.

No hook changes what another one computes: side passes (`tlvision.hooks.side_pass`) see the model's statistics as they
were before the micro-batch, and each hook draws random numbers of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tlvision.data.batches import normalise
from tlvision.hooks import ObjectiveHook
from tlvision.hooks.generators import generator_states, own_generators
from tlvision.hooks.side_pass import copied_buffers, side_pass
from tlvision.plugin import HasInstanceFeatures, capture, record

if TYPE_CHECKING:
    from torch import Tensor

    from tlvision.hooks import Context, Hook
    from tlvision.plugin import Adapter, Tap


def batch_losses(context: Context, hooks: Sequence[Hook]) -> dict[str, Tensor]:
    """Return `{name: 0-d tensor}` for `context.batch`, those of hooks as "<hook>/<name>".

    What hooks share is computed once: the features that the model's own loss sees, and, if a hook compares labelled
    with unlabelled images, a side pass of as many of both.
    """
    adapter, batch = context.adapter, context.batch
    assert batch is not None
    objectives = [hook for hook in hooks if isinstance(hook, ObjectiveHook)]
    wanted = {name for hook in objectives for name in hook.taps}
    taps = [tap for tap in adapter.taps if tap.name in wanted] if wanted else []
    context.memo = {"generators": generator_states()} if objectives else {}
    if batch.unlabelled is not None and any(hook.uses_unlabelled or hook.sees_unlabelled for hook in objectives):
        context.memo["buffers"] = copied_buffers(adapter.module)
    context.images = normalise(batch.images, adapter.input_spec)
    with capture(adapter.module, taps) as features:
        losses = dict(adapter.loss(context.images, batch.targets))
    own = dict(features)  # a copy: later passes of a hook are no longer captured
    compared: Mapping[str, Tensor] = {}
    if batch.unlabelled is not None:
        context.unlabelled = batch.unlabelled.with_images(lambda images: normalise(images, adapter.input_spec))
        if any(hook.taps and (hook.uses_unlabelled or hook.sees_unlabelled) for hook in objectives):
            compared = _compare(context, taps, _pyramid_path(adapter, objectives))
    for hook in objectives:
        context.features = compared if hook.uses_unlabelled and compared else own
        with own_generators(hook.key(), context.progress, batch.image_ids):
            found = hook.losses(context)
        losses.update({f"{hook.key()}/{name}": value for name, value in found.items()})
    return losses


def _compare(context: Context, taps: Sequence[Tap], pyramid_path: str | None) -> Mapping[str, Tensor]:
    """Fill in what `context` has of unlabelled images, and return the features of as many labelled ones."""
    assert context.images is not None
    assert context.unlabelled is not None
    weak = context.unlabelled.weak
    labelled, context.pyramid = _side_features(context, context.images[: len(weak)], taps, pyramid_path)
    context.unlabelled_features, context.unlabelled_pyramid = _side_features(context, weak, taps, pyramid_path)
    return labelled


def _side_features(
    context: Context, images: Tensor, taps: Sequence[Tap], pyramid_path: str | None
) -> tuple[Mapping[str, Tensor], Any]:
    adapter = context.adapter
    with record(adapter.module, pyramid_path) as pyramids, side_pass(adapter, context.memo["buffers"]):
        found = adapter.features(images)
    return {tap.name: found[tap.name] for tap in taps}, pyramids[-1] if pyramids else None


def _pyramid_path(adapter: Adapter, objectives: Sequence[ObjectiveHook]) -> str | None:
    wanted = any(hook.uses_pyramid for hook in objectives)
    return adapter.pyramid_path if wanted and isinstance(adapter, HasInstanceFeatures) else None


def forget_batch(context: Context) -> None:
    """Clear what belongs to one micro-batch, to free its memory."""
    context.batch, context.images, context.unlabelled = None, None, None
    context.features, context.unlabelled_features, context.memo = {}, {}, {}
    context.pyramid, context.unlabelled_pyramid = None, None
