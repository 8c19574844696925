"""Layer groups and taps: the map of the model for freezing, learning rates and feature hooks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import torch

from tlvision.conformance.check import check
from tlvision.conformance.checks.tools import flat_tensors, restore, same, snapshot, total_loss
from tlvision.plugin import ROLES, capture

if TYPE_CHECKING:
    from torch import Tensor, nn

    from tlvision.conformance.case import BatchName, Case
    from tlvision.plugin import Adapter, GroupMap, Tap


@check()
def groups_partition(case: Case) -> None:
    """Every parameter and buffer is in exactly one layer group, and the groups run from stem to head."""
    adapter, _ = case.build()
    groups = adapter.groups
    case.groups(adapter)
    assert groups == adapter.groups, "groups has another value when it is read again"
    roles = [group.role for group in groups]
    for group in groups:
        assert group.role in ROLES, (
            f"layer group '{group.name}' has the role '{group.role}', none of {', '.join(ROLES)}"
        )
        assert group.modules, f"layer group '{group.name}' names no modules"
    assert "head" in roles, "no layer group has the role 'head'"
    for before, after in pairwise(groups):
        assert ROLES.index(before.role) <= ROLES.index(after.role), (
            f"layer group '{before.name}' ({before.role}) comes before '{after.name}' ({after.role}); "
            f"the order of roles is {', '.join(ROLES)}"
        )


@check(requires=("groups_partition",))
def group_order(case: Case) -> None:
    """The order of the groups is real: what changes in one never shows in an earlier one, and shows from there on."""
    adapter, _ = case.build()
    groups = case.groups(adapter)
    images, targets = case.batch(adapter, "square")
    names = groups.names()
    untouched = snapshot(adapter.module)

    def loss_in_training() -> Tensor:
        adapter.module.train()
        with torch.no_grad():
            return total_loss(adapter, images, targets)

    outputs, loss = _outputs(adapter, groups, images), loss_in_training()
    for depth, name in enumerate(names):
        if depth not in groups.parameters.values():
            continue
        restore(adapter.module, untouched)
        _perturb(adapter.module, groups, depth)
        perturbed = _outputs(adapter, groups, images)
        early = [at for at in range(depth) if not same(outputs[at], perturbed[at])]
        assert not early, f"a change in layer group '{name}' shows in the earlier group '{names[early[0]]}'"
        shows = any(not same(outputs[at], perturbed[at]) for at in range(depth, len(names) + 1))
        # An auxiliary head may have no part in predictions.
        assert shows or not same(loss, loss_in_training()), f"a change in layer group '{name}' shows nowhere"


def _outputs(adapter: Adapter, groups: GroupMap, images: Tensor) -> list[list[Any]]:
    """Return the outputs of each group's modules while the model predicts in eval mode, the predictions last."""
    adapter.module.eval()
    torch.manual_seed(0)
    with torch.no_grad(), _recording(adapter.module, groups) as outputs:
        predictions = adapter.predict(images)
    return [*outputs, [predictions]]


@contextmanager
def _recording(module: nn.Module, groups: GroupMap) -> Iterator[list[list[Any]]]:
    """Collect copies of the outputs of every module that one group has for itself, group by group."""
    outputs: list[list[Any]] = [[] for _ in groups.groups]
    handles = []
    uses: dict[nn.Module, set[int | None]] = {}
    for name, child in module.named_modules(remove_duplicate=False):
        uses.setdefault(child, set()).add(groups.modules.get(name))
    for child, depths in uses.items():
        depth = next(iter(depths)) if len(depths) == 1 else None
        if depth is not None:
            handles.append(child.register_forward_hook(_recorder(outputs[depth].append)))
    try:
        yield outputs
    finally:
        for handle in handles:
            handle.remove()


def _recorder(record: Any) -> Any:
    def hook(module: nn.Module, inputs: Any, output: Any) -> None:
        record([tensor.clone() for tensor in flat_tensors(output)])

    return hook


@torch.no_grad()
def _perturb(module: nn.Module, groups: GroupMap, depth: int) -> None:
    """Move every parameter of a group by something of its own size."""
    generator = torch.Generator().manual_seed(depth)
    for name, parameter in module.named_parameters():
        if groups.parameters[name] == depth:
            size = parameter.abs().mean() + 0.01
            parameter.add_(0.2 * size * torch.randn(parameter.shape, generator=generator).to(parameter))


@check()
def taps(case: Case) -> None:
    """features() and every forward pass of loss() give the declared taps, with their channels, stride and a graph."""
    adapter, _ = case.build()
    declared = adapter.taps
    assert declared, "taps declares none"
    names = [tap.name for tap in declared]
    assert len(set(names)) == len(names), f"two taps have the same name among {names}"
    strides = [tap.stride for tap in declared]
    assert strides == sorted(strides), f"taps go from fine to coarse, but their strides are {strides}"
    shapes: tuple[BatchName, ...] = ("square", "wide")
    for shape in shapes:
        images, targets = case.batch(adapter, shape)
        for training in (True, False):
            adapter.module.train(training)
            features = adapter.features(images)
            _check_features(declared, features, images, "features()")
            assert all(feature.requires_grad for feature in features.values()), (
                "what features() gives has no gradient where gradients are enabled"
            )
        adapter.module.train()
        with capture(adapter.module, declared) as captured:
            adapter.loss(images, targets)
        _check_features(declared, captured, images, "a forward pass of loss()")


@check()
def declared_sizes_work(case: Case) -> None:
    """loss() and predict() take images whose short side is any multiple of `input_spec.multiple_of`."""
    adapter, _ = case.build()
    spec = adapter.input_spec
    assert spec.multiple_of >= 1, f"input_spec.multiple_of is {spec.multiple_of}; expected 1 or more"
    assert all(std > 0 for std in spec.std), f"input_spec.std is {spec.std}; expected positive values"
    images, targets = case.batch(adapter, "all_empty")
    side, step = images.shape[3], spec.multiple_of
    # What a letterbox makes of images that are not quite square; stretched ones always fill a square.
    sizes = [(side, side)] if spec.resize == "stretch" else [(side, side - step), (side - step, side)]
    for height, width in sizes:
        pixels = torch.zeros((*images.shape[:2], height, width))
        labelled = targets
        if "masks" in case.task.labels:
            none = torch.zeros((0, height, width), dtype=torch.uint8)
            labelled = [replace(target, masks=none) for target in targets]
        elif "label_map" in case.task.labels:
            labelled = [replace(target, semantic=torch.zeros((height, width), dtype=torch.int64)) for target in targets]
        try:
            adapter.module.train()
            adapter.loss(pixels, labelled)
            adapter.module.eval()
            with torch.no_grad():
                adapter.predict(pixels)
        except Exception as error:
            raise AssertionError(
                f"input_spec promises multiples of {step}, but images of {height} x {width} raise "
                f"{type(error).__name__}: {error}"
            ) from error


def _check_features(declared: tuple[Tap, ...], features: Any, images: Tensor, where: str) -> None:
    names = {tap.name for tap in declared}
    assert set(features) == names, f"{where} gives {sorted(features)}, but the taps are {sorted(names)}"
    count, _, height, width = images.shape
    for tap in declared:
        wanted = (count, tap.channels, height // tap.stride, width // tap.stride)
        found = tuple(features[tap.name].shape)
        assert found == wanted, (
            f"tap '{tap.name}': {where} gives {found} for images of {height} x {width}; expected {wanted}"
        )
        assert bool(features[tap.name].isfinite().all()), f"tap '{tap.name}': {where} gives values that are not finite"
