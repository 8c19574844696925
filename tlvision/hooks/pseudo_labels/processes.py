"""Add counts of all processes of a run."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def sum_over_processes(counts: Tensor) -> Tensor:
    """Return the sum of `counts` over all processes; in a run of one process `counts` itself.

    counts: any shape, the same in all processes, on the device of the run; it is overwritten.
    """
    import torch

    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.all_reduce(counts)
    return counts
