"""The model of a finished run, for hooks that learn from it; the core opens it, because hooks do not know runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from tlvision.plugin import Adapter
    from tlvision.types import ClassMap


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RunModel:
    """A model with the weights that a run selected, in eval mode, without gradients.

    folder:  of the run. task: its name.
    metric:  the first metric of the task. value: what the run measured on its validation images; None if nothing.
    """

    adapter: Adapter
    classes: ClassMap
    folder: str
    task: str
    metric: str
    value: float | None


@runtime_checkable
class LearnsFromRun(Protocol):
    """What a hook has that learns from the model of a run."""

    run: str
    """The folder of the run."""

    def open_run(self, model: RunModel) -> None:
        """Take the model, before `prepare`; InputError if it is no use."""
        ...
