"""Slower learning the nearer a layer is to the input.

Source: Howard & Ruder, "Universal Language Model Fine-tuning for Text Classification", ACL 2018, section 3.2
(discriminative fine-tuning, their factor 1 / 2.6 per layer); Clark et al., "ELECTRA", 2020, for the decay form.
Equation: lr(group) = lr * decay ** (groups behind it on the longest way to an output). Differences: depth is the
plugin's layer groups, so that it means the same for a CNN detector as for a transformer, and parallel heads (a
decode head and an auxiliary one; regions, boxes and masks) have the same.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from tlvision.hooks.base import SetupHook
from tlvision.hooks.parameters import Share
from tlvision.hooks.plan import Plan


class LayerwiseLr(SetupHook):
    """Multiply the learning rate of each layer group by `decay` once per group that lies behind it.

    decay:   0 < decay <= 1; 1 changes nothing. Every head that no other group reads keeps the full rate.
    minimum: no group learns slower than this fraction of the full rate, 0 <= minimum <= 1.

    >>> LayerwiseLr(decay=0.7).key()
    'layerwise_lr'
    """

    def __init__(
        self,
        *,
        decay: Annotated[float, Field(gt=0, le=1)],
        minimum: Share = 0.0,
    ) -> None:
        self.decay, self.minimum = decay, minimum

    def setup(self, plan: Plan) -> Plan:
        """Return the plan with the learning rates scaled by depth."""
        for depth, distance in enumerate(plan.groups.distances()):
            if distance:
                factor = max(self.decay**distance, self.minimum)
                plan = plan.scale_lr(plan.in_groups([depth]), factor, f"layerwise_lr x {factor:.3g}")
        return plan
