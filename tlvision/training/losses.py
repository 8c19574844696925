"""The losses of one micro-batch: the model's own, then those of objective hooks in the order of the file.

No hook changes what another one computes: side passes (`tlvision.hooks.side_pass`) see the model's statistics as they
were before the micro-batch, and each hook draws random numbers of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tlvision.data.batches import normalise
from tlvision.hooks import ObjectiveHook, StepData
from tlvision.hooks.generators import generator_states, own_generators
from tlvision.hooks.side_pass import copied_buffers, side_pass
from tlvision.plugin import HasInstanceFeatures, capture, record

if TYPE_CHECKING:
    from torch import Tensor

    from tlvision.data.batches import Batch
    from tlvision.hooks import Context, Hook
    from tlvision.plugin import Adapter, Tap


def batch_losses(context: Context, hooks: Sequence[Hook], batch: Batch) -> dict[str, Tensor]:
    """Return `{name: 0-d tensor}` for a micro-batch on the device, those of hooks as "<hook>/<name>".

    What hooks share is computed once: the features that the model's own loss sees, and, if a hook compares labelled
    with unlabelled images, a side pass of as many of both.
    """
    adapter = context.adapter
    objectives = [hook for hook in hooks if isinstance(hook, ObjectiveHook)]
    wanted = {name for hook in objectives for name in hook.taps}
    taps = [tap for tap in adapter.taps if tap.name in wanted] if wanted else []
    data = StepData(batch=batch, images=normalise(batch.images, adapter.input_spec))
    context.step_data = data
    data.generators = generator_states() if objectives else None
    asked = batch.unlabelled is not None and any(hook.uses_unlabelled or hook.sees_unlabelled for hook in objectives)
    if asked or any(hook.makes_side_passes for hook in objectives):
        data.buffers = copied_buffers(adapter.module)
    with capture(adapter.module, taps) as features:
        losses = dict(adapter.loss(data.images, batch.targets))
    own = dict(features)  # a copy: later passes of a hook are no longer captured
    compared: Mapping[str, Tensor] = {}
    if batch.unlabelled is not None:
        data.unlabelled = batch.unlabelled.with_images(lambda images: normalise(images, adapter.input_spec))
        if any(hook.taps and (hook.uses_unlabelled or hook.sees_unlabelled) for hook in objectives):
            compared = _compare(adapter, data, taps, _pyramid_path(adapter, objectives))
    for hook in objectives:
        data.features = compared if hook.uses_unlabelled and compared else own
        with own_generators(hook.key(), context.progress, batch.image_ids):
            found = hook.losses(context)
        losses.update({f"{hook.key()}/{name}": value for name, value in found.items()})
    return losses


def _compare(adapter: Adapter, data: StepData, taps: Sequence[Tap], pyramid_path: str | None) -> Mapping[str, Tensor]:
    """Fill in features and pyramids of unlabelled images, and return the features of as many labelled ones."""
    assert data.unlabelled is not None
    weak = data.unlabelled.weak
    labelled, data.pyramid = _side_features(adapter, data, data.images[: len(weak)], taps, pyramid_path)
    data.unlabelled_features, data.unlabelled_pyramid = _side_features(adapter, data, weak, taps, pyramid_path)
    return labelled


def _side_features(
    adapter: Adapter, data: StepData, images: Tensor, taps: Sequence[Tap], pyramid_path: str | None
) -> tuple[Mapping[str, Tensor], Any]:
    with record(adapter.module, pyramid_path) as pyramids, side_pass(adapter, data.buffers):
        found = adapter.features(images)
    return {tap.name: found[tap.name] for tap in taps}, pyramids[-1] if pyramids else None


def _pyramid_path(adapter: Adapter, objectives: Sequence[ObjectiveHook]) -> str | None:
    wanted = any(hook.uses_pyramid for hook in objectives)
    return adapter.pyramid_path if wanted and isinstance(adapter, HasInstanceFeatures) else None
