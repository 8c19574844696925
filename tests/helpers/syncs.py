"""Find where the program waits for the device: what brings a number to the CPU, or what must know one to go on."""

from __future__ import annotations

import sys
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch.overrides import TorchFunctionMode, resolve_name

ROOT = Path(__file__).resolve().parents[2]
OURS = (ROOT / "tlvision", ROOT / "plugins")
TORCH = Path(torch.__file__).parent
WAITS = {
    "torch.Tensor.item", "torch.Tensor.tolist", "torch.Tensor.cpu", "torch.Tensor.numpy", "torch.Tensor.__bool__",
    "torch.Tensor.__int__", "torch.Tensor.__float__", "torch.Tensor.__index__", "torch.Tensor.__contains__",
    "torch.Tensor.nonzero", "torch.nonzero", "torch.masked_select", "torch.Tensor.masked_select", "torch.unique",
    "torch.Tensor.unique", "torch.equal", "torch.Tensor.equal", "torch.allclose", "torch.Tensor.allclose",
    "torch.Tensor.new_tensor",
}  # fmt: skip
"""new_tensor: a copy from memory that is not page-locked, for which the CPU waits as well; so is tensor(…, device)."""


class Waits:
    """The places that were found: "path of the file:function" of our innermost frame, or the package of upstream's."""

    def __init__(self) -> None:
        self.ours: Counter[str] = Counter()
        self.upstream: Counter[str] = Counter()

    def add(self, what: str, frame: FrameType | None) -> None:
        """Count the innermost frame that is not torch's, nor of this file."""
        while frame is not None:
            path = Path(frame.f_code.co_filename)
            if path != Path(__file__) and TORCH not in path.parents and not str(path).startswith("<"):
                break
            frame = frame.f_back
        assert frame is not None
        if any(folder in path.parents for folder in OURS):
            self.ours[f"{path.relative_to(ROOT).as_posix()}:{_function(frame)}"] += 1
        else:
            name = str(frame.f_globals.get("__name__", "?")).partition(".")[0]
            self.upstream[f"{name} {what}"] += 1


class _Calls(TorchFunctionMode):
    """On a CPU: every call that would wait if the tensors lay on a GPU."""

    def __init__(self, waits: Waits) -> None:
        super().__init__()
        self.waits = waits

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = resolve_name(func) or getattr(func, "__name__", "")
        name = name if name.startswith("torch.") else f"torch.{name}"
        by_mask = name in {"torch.Tensor.__getitem__", "torch.Tensor.__setitem__"} and _has_mask(args[1])
        where_alone = name in {"torch.where", "torch.Tensor.where"} and len(args) == 1
        # By name only: a device that was asked of another tensor is the GPU, where there is one.
        places = [value for value in (*args[1:], *kwargs.values()) if isinstance(value, str)]
        to_cpu = name == "torch.Tensor.to" and "cpu" in places
        repeats = name.endswith("repeat_interleave") and not isinstance(args[-1], int) and "output_size" not in kwargs
        copied = name in {"torch.tensor", "torch.as_tensor"} and "device" in kwargs
        if name in WAITS or by_mask or where_alone or to_cpu or repeats or copied:
            self.waits.add(name.removeprefix("torch."), sys._getframe(1))
        return func(*args, **kwargs)


def _function(frame: FrameType) -> str:
    """Return the function, also where the code is that of a comprehension in it, which Python 3.12 has no more."""
    return frame.f_code.co_qualname.partition(".<locals>")[0].rpartition(".")[2]


def _has_mask(index: Any) -> bool:
    parts = index if isinstance(index, tuple) else (index,)
    return any(isinstance(part, torch.Tensor) and part.dtype in {torch.bool, torch.uint8} for part in parts)


@contextmanager
def find_waits(device: str) -> Iterator[Waits]:
    """Collect the waits inside the with-block: as CUDA reports them, or on a CPU by looking at every call."""
    waits = Waits()
    with ExitStack() as stack:
        if device == "cpu":
            stack.enter_context(_Calls(waits))
        else:
            stack.enter_context(warnings.catch_warnings())
            warnings.simplefilter("always")

            def note(message: Warning | str, *_: Any) -> None:
                if "synchroniz" in str(message):
                    waits.add("waits", sys._getframe(1))

            warnings.showwarning = note  # type: ignore[assignment]
            stack.callback(torch.cuda.set_sync_debug_mode, 0)
            torch.cuda.set_sync_debug_mode("warn")
        yield waits
