"""Load pretrained tensors into a model whose head has other classes: rows of classes with the same name are kept."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from tlvision.plugin.protocol import WeightReport
from tlvision.types import InputError, listing

if TYPE_CHECKING:
    from torch import Tensor, nn

    from tlvision.plugin.tensor_file import TensorFile


def load_by_class_name(
    module: nn.Module, file: TensorFile, classes: Sequence[str], class_keys: Collection[str]
) -> WeightReport:
    """Fill `module` from `file`, in place, and say what came of every key.

    module:     the model, freshly initialised.
    file:       what `read_tensors` returned; `class_names` tells which class each row of its head belongs to.
    classes:    the class names of `module`'s head, in order.
    class_keys: keys of `module.state_dict()` whose first dimension counts the classes ("head.classify.weight").

    A row of a class key is taken where both sides have a class of that name; the others keep their fresh
    initialisation. A source that does not name its classes gives no rows: an order is never guessed.

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
                taken = _copy_rows(here, there, classes, file.class_names)
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


def _copy_rows(here: Tensor, there: Tensor, classes: Sequence[str], source: Sequence[str] | None) -> str:
    """Copy the rows of shared classes and say "rows a, b of n"; or say why there are none."""
    if source is None:
        return f"{_shapes(here, there)}, and the source does not name its classes; all rows stay fresh"
    if here.shape[1:] != there.shape[1:] or len(here) != len(classes) or len(there) != len(source):
        return f"{_shapes(here, there)} for {len(classes)} and {len(source)} classes"
    shared = [name for name in classes if name in source]
    if not shared:
        return f"{_shapes(here, there)}, no class in common with {listing(source)}; all rows stay fresh"
    for name in shared:
        here[list(classes).index(name)] = there[list(source).index(name)].to(here)
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
        found.append(f"{len(absent)} keys are not in it ({listing(absent, 3)})")
    if wrong:
        found.append(f"{len(wrong)} have another shape ({listing(wrong, 3)})")
    extra = f"; it has {listing(report.unused, 3)} instead" if report.unused else ""
    raise InputError(
        f"weights: '{report.source}' is not a checkpoint of '{arch}': {' and '.join(found)}{extra}; "
        "give weights of this architecture or change model.arch"
    )
