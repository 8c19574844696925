"""Load pretrained tensors into a model whose head has other classes: rows of classes with the same name are kept."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from tlvision.plugin.protocol import FRESH_ROWS, WeightReport
from tlvision.types import InputError, counted, listing

if TYPE_CHECKING:
    from torch import Tensor, nn

    from tlvision.plugin.weights.tensor_file import TensorFile


@dataclass(frozen=True, slots=True)
class ClassRows:
    """The order of the classes in one dimension of a head's weight or bias.

    blocks:    the pattern comes so many times, one behind the other (an anchor each, in dense heads).
    per_class: rows that each class has in a block, side by side (4 where each class has a box of its own).
    before, after: rows of a block that belong to no class (background, objectness, a box), in front and behind.
    dim:       the dimension: 0 for a layer that gives something for each class, 1 for one that takes it.

    >>> ClassRows(blocks=2, after=1).of_class(0, 3), ClassRows(blocks=2, after=1).of_none(3)
    ([0, 4], [3, 7])
    """

    blocks: int = 1
    per_class: int = 1
    before: int = 0
    after: int = 0
    dim: int = 0

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

    def shared(self, here: Sequence[str], there: Sequence[str]) -> tuple[list[int], list[int]]:
        """Return the rows that a head for the classes `here` takes, and where they lie in one for those `there`.

        >>> ClassRows(after=1).shared(["car", "kite"], ["person", "car"])
        ([2, 0], [2, 1])
        """
        target_rows, source_rows = self.of_none(len(here)), self.of_none(len(there))
        for index, name in enumerate(here):
            if name in there:
                target_rows += self.of_class(index, len(here))
                source_rows += self.of_class(list(there).index(name), len(there))
        return target_rows, source_rows

    def _block(self, classes: int) -> int:
        return self.before + classes * self.per_class + self.after


class Special(Enum):
    """Layouts of tensors that count the classes and whose rows do not go by class name.

    BY_POSITION: the rows are as many as the classes and mean something else; the first one stays the first.
    UNKNOWN:     the order of classes in it is unknown, so it stays uninitialised.
    """

    BY_POSITION = "by position"
    UNKNOWN = "unknown"


Layout = ClassRows | tuple[ClassRows, ...] | Special
"""Of one tensor; several ClassRows, of a dimension each, for a layer that both takes and gives classes."""


def load_by_class_name(
    module: nn.Module,
    file: TensorFile,
    classes: Sequence[str],
    class_keys: Collection[str] | Mapping[str, Layout],
) -> WeightReport:
    """Fill `module` from `file`, in place, and return the report on every key.

    module:     the model, freshly initialised.
    file:       result of `read_tensors`; `class_names` are the classes of the rows of its head.
    classes:    the class names of `module`'s head, in order.
    class_keys: keys of `module.state_dict()` that count the classes ("head.classify.weight"); as a mapping, with how
                the classes lie in them, where that is not one row of the first dimension each.

    The rows of a class are taken where both sides have a class of that name; the others keep their fresh
    initialisation. Rows of no class (background) are taken where a class is. A source that does not name its classes
    gives no rows: an order is never guessed.

    Returns a report in which every key of the state is in exactly one of loaded, missing, mismatched and remapped.

    >>> from pathlib import Path
    >>> import torch
    >>> from tlvision.plugin.weights.tensor_file import TensorFile
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
                taken = _copy_classes(here, there, classes, file.class_names, layout)
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


def _copy_classes(
    here: Tensor, there: Tensor, classes: Sequence[str], source: Sequence[str] | None, layout: Layout
) -> str:
    """Copy the rows of shared classes and return "rows a, b of n", or the reason why there are none."""
    if layout is Special.BY_POSITION:
        return _copy_first(here, there)
    if layout is Special.UNKNOWN:
        return f"{_shapes(here, there)}, and how the classes lie in it is not known; {FRESH_ROWS}"
    if source is None:
        return f"{_shapes(here, there)}, and the source does not name its classes; {FRESH_ROWS}"
    rows = {each.dim: each for each in ((layout,) if isinstance(layout, ClassRows) else layout)}
    if not _fits(here, rows, len(classes)) or not _fits(there, rows, len(source)) or not _same_rest(here, there, rows):
        return f"{_shapes(here, there)} for {len(classes)} and {len(source)} classes"
    shared = [name for name in classes if name in source]
    if not shared:
        return f"{_shapes(here, there)}, no class in common with {listing(source)}; {FRESH_ROWS}"
    target_rows, source_rows = _all_rows(here), _all_rows(there)
    for dim, each in rows.items():
        target_rows[dim], source_rows[dim] = each.shared(classes, source)
    here[_grid(target_rows)] = there[_grid(source_rows)].to(here)
    fresh = [name for name in classes if name not in source]
    return f"rows {', '.join(shared)} of {len(source)}" + (f"; fresh {', '.join(fresh)}" if fresh else "")


def _copy_first(here: Tensor, there: Tensor) -> str:
    """Copy as many of the first rows as both sides have."""
    if here.shape[1:] != there.shape[1:]:
        return _shapes(here, there)
    count = min(len(here), len(there))
    here[:count] = there[:count].to(here)
    return f"rows 0 to {count - 1} of {len(there)} by position, for they are of no class"


def _fits(tensor: Tensor, rows: Mapping[int, ClassRows], classes: int) -> bool:
    return all(dim < tensor.ndim and tensor.shape[dim] == each.count(classes) for dim, each in rows.items())


def _same_rest(here: Tensor, there: Tensor, rows: Mapping[int, ClassRows]) -> bool:
    """Return whether the dimensions that do not count classes are equal."""
    same = all(here.shape[dim] == there.shape[dim] for dim in range(min(here.ndim, there.ndim)) if dim not in rows)
    return here.ndim == there.ndim and same


def _all_rows(tensor: Tensor) -> list[list[int]]:
    return [list(range(size)) for size in tensor.shape]


def _grid(rows: Sequence[Sequence[int]]) -> tuple[Tensor, ...]:
    """Return the indices of all combinations of rows, one tensor a dimension, that broadcast against each other."""
    import torch

    return torch.meshgrid(*(torch.tensor(each, dtype=torch.int64) for each in rows), indexing="ij")


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
