"""Train only the head, on the features of the pretrained weights.

Source: Kornblith, Shlens & Le, "Do Better ImageNet Models Transfer Better?", CVPR 2019, section 3 (fixed features).
Differences: for detectors the head is the plugin's group of that role, boxes and scores, more than one linear layer;
the norms of the frozen part keep their pretrained statistics, because frozen means eval mode.
"""

from __future__ import annotations

from tlvision.hooks.base import SetupHook
from tlvision.hooks.plan import Plan
from tlvision.types import InputError


class LinearProbe(SetupHook):
    """Freeze everything but the layer groups with the role "head", for the whole run.

    >>> LinearProbe().key()
    'linear_probe'
    """

    def setup(self, plan: Plan) -> Plan:
        """Return the plan with only the head trained; InputError if the model has nothing but a head."""
        heads = set(plan.groups.with_role("head"))
        others = [depth for depth in range(len(plan.groups.groups)) if depth not in heads]
        if not others:
            raise InputError("linear_probe: the model has nothing but a head, so there is nothing to freeze")
        return plan.train_from(plan.in_groups(others), None, "linear_probe")
