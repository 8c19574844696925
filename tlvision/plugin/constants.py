"""Numbers from Python on the device of a tensor, without making a GPU wait."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def constants(numbers: Sequence[float], like: Tensor) -> Tensor:
    """Return the numbers as (n,) of the dtype and on the device of `like`.

    `like.new_tensor(numbers)` copies from memory that is not page-locked, for which the CPU waits until the GPU has
    done everything before it: inside a training step that is a gap in the GPU's work.

    >>> import torch
    >>> constants([0.5, 2], torch.zeros(3)).tolist()
    [0.5, 2.0]
    """
    import torch

    values = torch.tensor(numbers, dtype=like.dtype)
    if like.device.type == "cuda":
        return values.pin_memory().to(like.device, non_blocking=True)
    return values.to(like.device)
