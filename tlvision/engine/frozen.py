"""Tell which layer groups are frozen although the weights do not have them."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from tlvision.hooks.plan import CONSTANT
from tlvision.types import counted, listing

if TYPE_CHECKING:
    from tlvision.hooks import Plan
    from tlvision.plugin import WeightReport


def random_and_frozen(plan: Plan, report: WeightReport) -> list[str]:
    """Return a sentence on groups with randomly initialised tensors that are frozen for the whole run, or at its start.

    plan:   as all setup hooks have left it.
    report: of the weights that the model was built with.

    A head on top of a random neck learns from random features. That is what freezing "everything but the head" means
    if only the backbone is pretrained. A constant of the model (no hook has frozen it) does not count.
    """
    uninitialised = {*report.missing, *(entry.partition(":")[0] for entry in report.mismatched)}
    counts: dict[bool, Counter[int]] = {True: Counter(), False: Counter()}  # for the whole run, and for a part of it
    for name, row in plan.parameters.items():
        if name in uninitialised and row.trainable_from != 0 and CONSTANT not in row.reasons:
            counts[row.trainable_from is None][row.depth] += 1
    names = plan.groups.names()
    sentences = []
    for whole_run, groups in counts.items():
        if groups:
            shown = listing(f"{names[depth]} ({counted(number, 'tensor')})" for depth, number in sorted(groups.items()))
            sentences.append(
                f"the hooks freeze layer groups that are randomly initialised "
                f"{'for the whole run' if whole_run else 'at the start of the run'}: {shown}. The weights "
                f"'{report.source}' do not have these tensors, so the trained layers learn from random features. Use "
                "weights that have them, or freeze the pretrained groups only, for example with freeze: {roles: [stem, "
                "backbone]}."
            )
    return sentences
