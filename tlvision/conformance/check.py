"""A check of the kit: its name, its promise, when it applies, and which checks it builds on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from tlvision.conformance.case import Case
    from tlvision.tasks.base import LabelKind

Scope = Literal["architecture", "plugin"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One promise of the contract.

    name:     in snake_case, the name of the function that checks it.
    promise:  one sentence for the table, the first line of that function's docstring.
    run:      raises AssertionError with one sentence that names what broke the promise; any other error counts too.
    labels:   what models must predict for it to apply; None for all.
    needs:    name of a capability Protocol that the adapter must have, or None for everybody.
    requires: names of checks that this one depends on; it is not run if one of them has failed.
    scope:    "plugin" for a fact about the plugin, which is checked on one architecture; else "architecture".
    trains:   True if it needs a model that has been trained for many steps, which takes most of the kit's time.
    """

    name: str
    promise: str
    run: Callable[[Case], None]
    labels: LabelKind | None = None
    needs: str | None = None
    requires: tuple[str, ...] = ()
    scope: Scope = "architecture"
    trains: bool = False


def check(
    *,
    labels: LabelKind | None = None,
    needs: str | None = None,
    requires: tuple[str, ...] = (),
    scope: Scope = "architecture",
    trains: bool = False,
) -> Callable[[Callable[[Case], None]], Check]:
    """Turn a function `(case) -> None` into a `Check`; its name and the first line of its docstring are the check's."""

    def make(function: Callable[[Case], None]) -> Check:
        promise = (function.__doc__ or "").strip().splitlines()[0]
        return Check(
            name=function.__name__,
            promise=promise,
            run=function,
            labels=labels,
            needs=needs,
            requires=requires,
            scope=scope,
            trains=trains,
        )

    return make
