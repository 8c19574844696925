"""The content of a weight file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
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

    def respelt(self, classes: Sequence[str]) -> TensorFile:
        """Return a copy whose class names are spelt as in `classes` if they differ only in case or blanks."""
        if self.class_names is None:
            return self
        targets = {name.strip().lower(): name for name in classes}
        return replace(self, class_names=tuple(targets.get(name.strip().lower(), name) for name in self.class_names))

    def other_shapes(self, state: Mapping[str, Tensor]) -> list[str]:
        """Return a text such as "head.weight: (3, 64) here, (80, 64) there" for each key whose shape is another."""
        there = self.tensors
        return [
            f"{key}: {tuple(tensor.shape)} here, {tuple(there[key].shape)} there"
            for key, tensor in state.items()
            if key in there and there[key].shape != tensor.shape
        ]
