"""Capabilities: what a plugin says that it can do beyond the six members of the contract."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import torch

from tlvision.conformance.check import check
from tlvision.conformance.checks.tools import quiet_dropout, same, total_loss
from tlvision.types import nearest

if TYPE_CHECKING:
    from tlvision.conformance.case import Case


@check()
def capabilities_are_true(case: Case) -> None:
    """A capability is "yes" exactly where an adapter has it, otherwise "not written" or "impossible: reason"."""
    from tlvision.conformance.case import Case, capability_protocols

    says, known = case.plugin.capabilities, capability_protocols()
    for name, value in says.items():
        assert name in known, f"capabilities: there is no '{name}'.{nearest(name, known)}"
        assert re.fullmatch("yes|not written|impossible: .+", value), (
            f"capabilities: {name} is '{value}'; expected 'yes', 'not written' or 'impossible: reason'"
        )
    for name in known:
        if says.get(name) != "yes":
            assert name not in case.capabilities, (
                f"capabilities: the adapter of '{case.arch}' has {name}, but the plugin does not say 'yes'"
            )
            continue
        others = (Case(case.plugin, arch) for arch in case.plugin.architectures() if arch != case.arch)
        assert name in case.capabilities or any(name in other.capabilities for other in others), (
            f"capabilities: the plugin says 'yes' to {name}, but no architecture's adapter has it"
        )


@check(needs="HasTrainingProgress")
def training_progress_is_pure(case: Case) -> None:
    """The loss depends on the last set_progress() alone, not on how often or with what it was called before."""
    from tlvision.plugin import HasTrainingProgress

    adapter, _ = case.build()
    assert isinstance(adapter, HasTrainingProgress)
    images, targets = case.batch(adapter, "square")
    quiet_dropout(adapter.module)

    def loss_after(*fractions: float) -> torch.Tensor:
        for fraction in fractions:
            adapter.set_progress(fraction)
        with torch.no_grad():
            return total_loss(adapter, images, targets)

    once = loss_after(0.5)
    for fractions in ((0.5,), (0.5, 0.5), (0.0, 1.0, 0.5)):
        again = loss_after(*fractions)
        assert same(again, once), (
            f"the loss is {again.item():.6g} after set_progress of {', '.join(map(str, fractions))}, "
            f"and was {once.item():.6g} after that of 0.5 alone"
        )
