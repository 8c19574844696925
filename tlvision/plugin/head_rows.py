"""Load pretrained tensors into a model whose head has other classes: rows of classes with the same name are kept."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tlvision.plugin.protocol import FRESH_ROWS, WeightReport
from tlvision.types import InputError, counted, listing

if TYPE_CHECKING:
    from torch import Tensor, nn

    from tlvision.plugin.tensor_file import TensorFile


@dataclass(frozen=True, slots=True)
class ClassRows:
    """How the classes lie in the first dimension of a head's weight or bias.

    blocks:    the pattern comes so many times, one behind the other (an anchor each, in dense heads).
    per_class: rows that each class has in a block, side by side (4 where each class has a box of its own).
    before, after: rows of a block that belong to no class (background, objectness, a box), in front and behind.

    >>> ClassRows(blocks=2, after=1).of_class(0, 3), ClassRows(blocks=2, after=1).of_none(3)
    ([0, 4], [3, 7])
    """

    blocks: int = 1
    per_class: int = 1
    before: int = 0
    after: int = 0

    def count(self, classes: int) -> int:
        """Return the number of rows for so many classes."""
        return self.blocks * self._block(classes)

    def of_class(self, index: int, classes: int) -> list[int]:
        """Return the rows of class `index` of `classes`."""
        firsts = [block * self._block(classes) + self.before + index * self.per_class for block in range(self.blocks)]
        return [first + row for first in firsts for row in range(self.per_class)]

    def of_none(self, classes: int) -> list[int]:
        """Return the rows that belong to no class."""
        size = self._block(classes)
        inside = [*range(self.before), *range(size - self.after, size)]
        return [block * size + row for block in range(self.blocks) for row in inside]

    def _block(self, classes: int) -> int:
        return self.before + classes * self.per_class + self.after


def load_by_class_name(
    module: nn.Module,
    file: TensorFile,
    classes: Sequence[str],
    class_keys: Collection[str] | Mapping[str, ClassRows],
) -> WeightReport:
    """Fill `module` from `file`, in place, and say what came of every key.

    module:     the model, freshly initialised.
    file:       what `read_tensors` returned; `class_names` tells which class each row of its head belongs to.
    classes:    the class names of `module`'s head, in order.
    class_keys: keys of `module.state_dict()` whose first dimension counts the classes ("head.classify.weight"); as a
                mapping, with how the classes lie in it, where that is not one row each.

    The rows of a class are taken where both sides have a class of that name; the others keep their fresh
    initialisation. Rows of no class (background) are taken where a class is. A source that does not name its classes
    gives no rows: an order is never guessed.

    Returns a report in which every key of the state is in exactly one of loaded, missing, mismatched and remapped.

    >>> from pathlib import Path
    >>> import torch
    >>> from tlvision.plugin.tensor_file import TensorFile
    >>> head = torch.nn.Linear(4, 2)
    >>> source = {"weight": torch.ones(3, 4), "bias": torch.ones(3)}
    >>> file = TensorFile(Path("old.safetensors"), source, ("car", "person", "dog"))
    >>> load_by_class_name(head, file, ["person", "cat"], ["weight", "bias"]).remapped
    ('weight: rows person of 3; fresh cat', 'bias: rows person of 3; fresh cat')
    """
    import torch

    loaded: list[str] = []
    missing: list[str] = []
    mismatched: list[str] = []
    remapped: list[str] = []
    state = module.state_dict()
    with torch.no_grad():
        for key, here in state.items():
            there = file.tensors.get(key)
            if there is None:
                missing.append(key)
            elif key in class_keys and tuple(classes) != file.class_names:
                layout = class_keys[key] if isinstance(class_keys, Mapping) else ClassRows()
                taken = _copy_rows(here, there, classes, file.class_names, layout)
                (remapped if taken.startswith("rows ") else mismatched).append(f"{key}: {taken}")
            elif here.shape != there.shape:
                mismatched.append(f"{key}: {_shapes(here, there)}")
            else:
                here.copy_(there)
                loaded.append(key)
    return WeightReport(
        source=str(file.path),
        loaded=tuple(loaded),
        missing=tuple(missing),
        mismatched=tuple(mismatched),
        remapped=tuple(remapped),
        unused=tuple(key for key in file.tensors if key not in state),
    )


def _copy_rows(
    here: Tensor, there: Tensor, classes: Sequence[str], source: Sequence[str] | None, layout: ClassRows
) -> str:
    """Copy the rows of shared classes and say "rows a, b of n"; or say why there are none."""
    if source is None:
        return f"{_shapes(here, there)}, and the source does not name its classes; {FRESH_ROWS}"
    fits = len(here) == layout.count(len(classes)) and len(there) == layout.count(len(source))
    if here.shape[1:] != there.shape[1:] or not fits:
        return f"{_shapes(here, there)} for {len(classes)} and {len(source)} classes"
    shared = [name for name in classes if name in source]
    if not shared:
        return f"{_shapes(here, there)}, no class in common with {listing(source)}; {FRESH_ROWS}"
    here[layout.of_none(len(classes))] = there[layout.of_none(len(source))].to(here)
    for name in shared:
        rows = layout.of_class(list(source).index(name), len(source))
        here[layout.of_class(list(classes).index(name), len(classes))] = there[rows].to(here)
    fresh = [name for name in classes if name not in source]
    return f"rows {', '.join(shared)} of {len(source)}" + (f"; fresh {', '.join(fresh)}" if fresh else "")


def _shapes(here: Tensor, there: Tensor) -> str:
    return f"{tuple(here.shape)} here, {tuple(there.shape)} there"


def require_same_architecture(report: WeightReport, arch: str, class_keys: Collection[str]) -> None:
    """Raise InputError with example keys and shapes where weights outside `class_keys` did not all fit.

    arch: the architecture that was built, for the message.
    """
    absent = [key for key in report.missing if key not in class_keys]
    wrong = [entry for entry in report.mismatched if entry.split(":", 1)[0] not in class_keys]
    if not absent and not wrong:
        return
    found = []
    if absent:
        found.append(f"it lacks {counted(len(absent), 'key')} ({listing(absent, 3)})")
    if wrong:
        found.append(f"{counted(len(wrong), 'tensor')} of another shape ({listing(wrong, 3)})")
    extra = f"; it has {listing(report.unused, 3)} instead" if report.unused else ""
    raise InputError(
        f"weights: '{report.source}' is not a checkpoint of '{arch}': {' and '.join(found)}{extra}; "
        "give weights of this architecture or change model.arch"
    )
