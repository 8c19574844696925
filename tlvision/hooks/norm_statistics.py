"""Pass images through a model that is being trained, without a trace in its norms' running statistics."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn


@contextmanager
def fixed_norm_statistics(module: nn.Module) -> Iterator[None]:
    """Have every norm of `module` use its running statistics as they are, as at evaluation, inside the with-block.

    An objective that compares domains wants the features that evaluation will see: normalised by its own batch, each
    domain has mean 0 and variance 1 in every norm, and looks nearer to the other than it is. And what such a pass would
    leave in the running statistics would change the model whatever the objective's weight is. Gradients flow; parts
    without running statistics (dropout, group norm) stay in the mode they are in.
    """
    moving = [each for each in module.modules() if each.training and getattr(each, "running_mean", None) is not None]
    try:
        for norm in moving:
            norm.training = False
        yield
    finally:
        for norm in moving:
            norm.training = True
