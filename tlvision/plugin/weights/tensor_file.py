"""The content of a weight file."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class TensorFile:
    """The content of a weight file.

    path:        where it was read from.
    tensors:     `{dotted name: tensor on CPU}`, dtypes as stored.
    class_names: the classes of the head the weights were trained with, in order; None if not in the file.
    """

    path: Path
    tensors: dict[str, Tensor]
    class_names: tuple[str, ...] | None = field(default=None)
