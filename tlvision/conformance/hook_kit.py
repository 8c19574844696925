"""Run the hook checks on one hook; importing it imports no torch.

Three lines in a test file:

    from tlvision.conformance import hook_checks

    @pytest.mark.parametrize("check", hook_checks("freeze", {"roles": ["stem"]}), ids=str)
    def test_contract(check): check()
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tlvision.conformance.kit import Outcome

if TYPE_CHECKING:
    from tlvision.conformance.hook_case import HookCase
    from tlvision.conformance.hook_promises import HookPromise


@dataclass(frozen=True, slots=True, eq=False)
class HookCheck:
    """One check on one hook, to be called by a test; `str()` is its test id, such as "freeze-setup_is_pure"."""

    case: HookCase = field(repr=False)
    check: HookPromise

    @property
    def name(self) -> str:
        """The check's name."""
        return self.check.name

    @property
    def promise(self) -> str:
        """The promise that the check verifies, in one sentence."""
        return self.check.promise

    @property
    def trains(self) -> bool:
        """True if the check needs whole runs of a tiny model."""
        return self.check.trains

    def __str__(self) -> str:
        return f"{self.case.name}-{self.name}"

    def outcome(self) -> Outcome:
        """Run the check and return its result."""
        try:
            self()
        except Exception as error:
            return Outcome.failed(error)
        return Outcome("pass")

    def __call__(self) -> None:
        """Raise AssertionError if the check fails, or the hook's own exception."""
        self.check.run(self.case)


def hook_checks(name: str, options: Mapping[str, Any] | None = None) -> list[HookCheck]:
    """Return every check that applies to an installed hook, to be called one by one.

    name:    the hook's name in a config.
    options: its parameters, as a config has them; those that have no default are needed.

    They share the runs of a tiny model that some of them need. Raises InputError if there is no such hook, or if it
    cannot be built with these options.
    """
    from tlvision.conformance.hook_case import HookCase
    from tlvision.conformance.hook_promises import ALL_PROMISES

    case = HookCase(name, options)
    return [HookCheck(case, check) for check in ALL_PROMISES if issubclass(case.kind, check.kind)]
