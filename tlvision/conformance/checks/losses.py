"""Losses: what `Adapter.loss` promises about its values and their gradients."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch

from tlvision.conformance.check import check
from tlvision.conformance.checks.tools import flat_tensors, quiet_dropout, same, total, total_loss
from tlvision.types import listing

if TYPE_CHECKING:
    from torch import Tensor, nn

    from tlvision.conformance.case import BatchName, Case


@check()
def losses_finite_and_differentiable(case: Case) -> None:
    """loss() gives names and 0-d tensors, each finite, each with a gradient, on square and on wide images."""
    adapter, _ = case.build()
    shapes: tuple[BatchName, ...] = ("square", "wide")
    for shape in shapes:
        check_losses(adapter.loss(*case.batch(adapter, shape)), f"{shape} images")


@check(requires=("losses_finite_and_differentiable",))
def images_without_objects(case: Case) -> None:
    """Images without objects, among others or alone, give finite losses with finite gradients."""
    adapter, _ = case.build()
    batches: tuple[BatchName, ...] = ("mixed_empty", "all_empty")
    for name in batches:
        where = "a batch without any object" if name == "all_empty" else "a batch with one image without objects"
        losses = adapter.loss(*case.batch(adapter, name))
        check_losses(losses, where)
        adapter.module.zero_grad(set_to_none=True)
        total(losses.values()).backward()  # type: ignore[no-untyped-call]
        bad = without_finite_gradient(adapter.module)
        assert not bad, f"{where} gives gradients that are not finite to {listing(bad)}"


@check()
def loss_is_a_mean_over_images(case: Case) -> None:
    """The same images twice in a batch give about the same loss, so that the rate need not follow the batch size."""
    adapter, _ = case.build()
    images, targets = case.batch(adapter, "square")
    quiet_dropout(adapter.module)
    with torch.no_grad():
        once = total_loss(adapter, images, targets).item()
        twice = total_loss(adapter, torch.cat([images, images]), [*targets, *targets]).item()
    assert abs(twice - once) <= 0.3 * abs(once), (
        f"the loss is {once:.4g}, and {twice:.4g} with the same images twice in the batch; it must be a mean over them"
    )


@check(requires=("groups_partition",))
def gradients_reach_every_group(case: Case) -> None:
    """One backward pass gives every layer group a gradient that is finite and not zero."""
    adapter, _ = case.build()
    groups = case.groups(adapter)
    total_loss(adapter, *case.batch(adapter, "square")).backward()  # type: ignore[no-untyped-call]
    bad = without_finite_gradient(adapter.module)
    assert not bad, f"gradients are not finite in {listing(bad)}"
    for depth, group in enumerate(groups.groups):
        own = [p for name, p in adapter.module.named_parameters() if groups.parameters[name] == depth]
        trained = [p for p in own if p.requires_grad]
        assert not trained or any(p.grad is not None and bool(p.grad.any()) for p in trained), (
            f"no gradient reaches layer group '{group.name}'"
        )


@check(requires=("losses_finite_and_differentiable",))
def bf16_autocast(case: Case) -> None:
    """In bfloat16 losses stay as in float32 within a fifth, with finite gradients, and predictions are float32."""
    adapter, _ = case.build()
    images, targets = case.batch(adapter, "square")
    quiet_dropout(adapter.module)
    with torch.no_grad():
        exact = total_loss(adapter, images, targets).item()
    with torch.autocast("cpu", torch.bfloat16):
        loss = total_loss(adapter, images, targets)
    loss.backward()  # type: ignore[no-untyped-call]
    assert abs(loss.item() - exact) <= 0.2 * abs(exact), (
        f"the loss is {loss.item():.4g} in bf16 and {exact:.4g} in fp32"
    )
    bad = without_finite_gradient(adapter.module)
    assert not bad, f"in bf16 gradients are not finite in {listing(bad)}"
    adapter.module.eval()
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        adapter.predict(images)  # Prediction itself checks its dtypes


@check(requires=("losses_finite_and_differentiable",))
def trained_state_is_in_module(case: Case) -> None:
    """Every parameter that a loss depends on is inside `module`."""
    adapter, _ = case.build()
    losses = adapter.loss(*case.batch(adapter, "square"))
    known = {id(parameter) for parameter in adapter.module.parameters()}
    for name, loss in losses.items():
        for leaf in _leaves(loss):
            assert id(leaf) in known or not isinstance(leaf, torch.nn.Parameter), (
                f"the loss '{name}' depends on a parameter of shape {tuple(leaf.shape)} that is not in `module`: it "
                "would be neither trained nor saved"
            )


def _leaves(loss: Tensor) -> list[Tensor]:
    """Return the tensors at the other end of the graph of `loss`, to which backward adds gradients."""
    leaves, seen, ahead = [], set(), [loss.grad_fn]
    while ahead:
        node: Any = ahead.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):
            leaves.append(node.variable)
        ahead += [following for following, _ in node.next_functions]
    return leaves


@check()
def inputs_stay_unchanged(case: Case) -> None:
    """loss(), features() and predict() do not change images and targets, because hooks read them afterwards."""
    adapter, _ = case.build()
    images, targets = case.batch(adapter, "wide")
    given, labelled = images.clone(), [tensor.clone() for tensor in flat_tensors(targets)]
    adapter.loss(images, targets)
    assert same(labelled, targets), "loss() changes its targets"
    assert same(given, images), "loss() changes its images"
    adapter.features(images)
    assert same(given, images), "features() changes its images"
    adapter.module.eval()
    with torch.no_grad():
        adapter.predict(images)
    assert same(given, images), "predict() changes its images"


def check_losses(losses: Mapping[str, Tensor], where: str) -> None:
    """Raise AssertionError if `losses` breaks the contract of `Adapter.loss`; `where` names the images."""
    assert isinstance(losses, Mapping), f"loss() gives a {type(losses).__name__}, not a mapping"
    assert losses, "loss() gives an empty mapping"
    for name, loss in losses.items():
        assert isinstance(name, str), f"the loss {name!r} has a name that is no text"
        assert isinstance(loss, torch.Tensor), f"the loss '{name}' is a {type(loss).__name__}, not a tensor"
        assert loss.ndim == 0, f"the loss '{name}' has the shape {tuple(loss.shape)}; expected a 0-d tensor"
        assert loss.is_floating_point(), f"the loss '{name}' is {loss.dtype}; expected floating point"
        assert bool(loss.isfinite()), f"the loss '{name}' is {loss.item()} on {where}"
        assert loss.requires_grad, f"the loss '{name}' has no gradient on {where}; every value is summed and propagated"


def without_finite_gradient(module: nn.Module) -> list[str]:
    """Return the names of the parameters whose gradient is there and not finite."""
    return [
        name
        for name, parameter in module.named_parameters()
        if parameter.grad is not None and not bool(parameter.grad.isfinite().all())
    ]
