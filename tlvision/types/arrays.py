"""Shape and dtype checks that serve numpy arrays and torch tensors alike, without importing torch."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

# A numpy array on the data side, a torch tensor on the model side. The checks below need only `.shape` and `.dtype`,
# which both have, so the value types need no second version and `types` stays free of torch.
Array = Any


def check_array(owner: str, name: str, array: Array, shape: tuple[int | str, ...], dtypes: tuple[str, ...]) -> None:
    """Raise a TypeError or ValueError that shows the expected and the actual shape and dtype of `owner.name`.

    `shape` holds a number where the size is fixed and a letter where it is free, for example ``("M", 4)``.
    `dtypes` are names such as ``"float32"``; a torch dtype is compared without its ``torch.`` prefix.
    """
    actual = getattr(array, "shape", None)
    if actual is None or getattr(array, "dtype", None) is None:
        raise TypeError(f"{owner}.{name}: expected an array or tensor, got {type(array).__name__}")
    fits = len(actual) == len(shape) and all(
        isinstance(want, str) or int(have) == want for have, want in zip(actual, shape, strict=True)
    )
    if not fits:
        wanted = "(" + ", ".join(str(size) for size in shape) + ("," if len(shape) == 1 else "") + ")"
        raise ValueError(f"{owner}.{name}: expected shape {wanted}, got {tuple(int(size) for size in actual)}")
    dtype = _dtype_name(array.dtype)
    if dtype not in dtypes:
        raise TypeError(f"{owner}.{name}: expected dtype {' or '.join(dtypes)}, got {dtype}")


@lru_cache(
    maxsize=64
)  # numpy takes longer for a name than the rest of a check, and every sample of a dataset is checked
def _dtype_name(dtype: Any) -> str:
    return str(dtype).removeprefix("torch.")


def check_same_length(owner: str, arrays: dict[str, Array]) -> None:
    """Raise a ValueError that lists every length where the named arrays differ in their first dimension."""
    lengths = {name: len(array) for name, array in arrays.items()}
    if len(set(lengths.values())) > 1:
        shown = ", ".join(f"{name} {length}" for name, length in lengths.items())
        raise ValueError(f"{owner}: one row per object is expected in every field, got {shown}")
