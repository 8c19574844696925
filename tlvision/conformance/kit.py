"""Run the checks on a plugin: what applies to which architecture, in which order, with what result."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Literal

from tlvision.plugin import get_plugin
from tlvision.plugin.registry import GROUP, check_plugin_object
from tlvision.tasks import get_task
from tlvision.tasks.base import LabelKind
from tlvision.types import InputError, nearest

if TYPE_CHECKING:
    from tlvision.conformance.case import Case
    from tlvision.conformance.check import Check
    from tlvision.plugin import Plugin
    from tlvision.tasks import Task

_NOUNS: dict[LabelKind, str] = {"boxes": "boxes", "masks": "masks", "label_map": "label maps"}
Status = Literal["pass", "fail", "expected failure", "not run"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """Result of a check.

    status: "pass"; "fail", which an unexpected pass is too; "expected failure"; or "not run", where a check that it
            builds on has failed or the architecture lacks what it is about.
    detail: one sentence on anything but a pass.
    error:  exception of the check, or None.
    """

    status: Status
    detail: str = ""
    error: Exception | None = field(default=None, repr=False, compare=False)

    @classmethod
    def failed(cls, error: Exception) -> Outcome:
        """Return the outcome of a check that raised `error`; the detail names its type if it is no AssertionError."""
        kind = "" if isinstance(error, AssertionError) else f"{type(error).__name__}: "
        return cls("fail", f"{kind}{error}", error)


class Bench:
    """All checks on one architecture; each is run at most once, however often its outcome is asked for.

    plugin, arch, weights, image_size, origin: as `Case` takes them.
    expected: `{check: why it fails}`.
    first:    the bench of the same plugin that runs the checks of scope "plugin"; None if it is this one.

    checks:     what applies, in order.
    inapplicable: `{check: why it does not apply}`.
    """

    def __init__(
        self,
        plugin: Plugin,
        arch: str,
        *,
        weights: str,
        image_size: int,
        origin: str,
        expected: Mapping[str, str],
        first: Bench | None = None,
    ) -> None:
        from tlvision.conformance.checks import ALL_CHECKS

        self.plugin, self.arch = plugin, arch
        self._weights, self._image_size, self._origin, self._expected = weights, image_size, origin, expected
        self._first = first
        self._outcomes: dict[str, Outcome] = {}
        task = get_task(plugin.task_of(arch))
        reasons = {each.name: self._why_not(each, task) for each in ALL_CHECKS}
        self.inapplicable = {name: reason for name, reason in reasons.items() if reason}
        self._by_name = {each.name: each for each in ALL_CHECKS if each.name not in self.inapplicable}
        self.checks = [PluginCheck(self, each) for each in self._by_name.values()]

    def outcome(self, name: str) -> Outcome:
        """Run the check `name`, and before it those that it requires, unless that has been done."""
        if self._first is not None and self._by_name[name].scope == "plugin":
            return self._first.outcome(name)
        if name not in self._outcomes:
            with _one_thread():
                self._outcomes[name] = self._run(self._by_name[name])
        return self._outcomes[name]

    def own_checks(self) -> list[PluginCheck]:
        """Return `checks` without those that another bench runs."""
        return [each for each in self.checks if self._first is None or each.check.scope == "architecture"]

    def try_build(self) -> None:
        """Build the model once: weights that cannot be read are the caller's InputError, and no broken promise."""
        self._case.build()

    def _why_not(self, check: Check, task: Task) -> str:
        if check.labels is not None and check.labels not in task.labels:
            return f"it is for models that predict {_NOUNS[check.labels]}"
        if check.needs is not None and (says := self.plugin.capabilities.get(check.needs, "not written")) != "yes":
            return f"{check.needs} is {says}"
        return ""

    @cached_property
    def _case(self) -> Case:
        from tlvision.conformance.case import Case

        return Case(self.plugin, self.arch, origin=self._origin, weights=self._weights, image_size=self._image_size)

    def _lacks(self, check: Check) -> bool:
        """Return whether this architecture has not what the check is about, although the plugin says that it can."""
        return check.needs is not None and check.needs not in self._case.capabilities

    def _run(self, check: Check) -> Outcome:
        for required in check.requires:
            if required not in self._by_name or self._lacks(self._by_name[required]):
                continue
            if self.outcome(required).status != "pass":
                return Outcome("not run", f"it says nothing if {required} does not hold")
        expected = self._expected.get(check.name)
        try:
            if self._lacks(check):
                return Outcome("not run", f"the adapter of '{self.arch}' has no {check.needs}")
            check.run(self._case)
        except Exception as error:
            if expected is not None:
                return Outcome("expected failure", expected, error)
            return Outcome.failed(error)
        if expected is not None:
            return Outcome(
                "fail", f"expected to fail because {expected}, but it passes: take it out of expected_failures"
            )
        return Outcome("pass")


@dataclass(frozen=True, slots=True, eq=False)
class PluginCheck:
    """One check on one architecture, to be called by a test; `str()` is its test id, such as "yolov8n-taps"."""

    bench: Bench = field(repr=False)
    check: Check

    @property
    def name(self) -> str:
        """The check's name."""
        return self.check.name

    @property
    def promise(self) -> str:
        """The promise that the check verifies, in one sentence."""
        return self.check.promise

    @property
    def arch(self) -> str:
        """The architecture."""
        return self.bench.arch

    def __str__(self) -> str:
        return f"{self.arch}-{self.name}"

    def outcome(self) -> Outcome:
        """Return the result of the check, which is run once."""
        return self.bench.outcome(self.name)

    def __call__(self) -> None:
        """Raise AssertionError if the check fails, or passes though it was expected to fail."""
        outcome = self.outcome()
        if outcome.status == "fail":
            raise AssertionError(f"{self}: {outcome.detail}") from outcome.error


def plugin_checks(
    plugin: str | Plugin,
    *,
    arch: str | None = None,
    weights: str = "none",
    image_size: int = 96,
    expected_failures: Mapping[str, str] | None = None,
    origin: str | None = None,
) -> list[PluginCheck]:
    """Return every check of the contract that applies to a plugin, to be called one by one.

    A fact about the plugin is checked once, on the first architecture; all else on each.

    plugin:     the name of an installed plugin, or its object.
    arch:       the architecture to check; None takes the first of each task that the plugin has.
    weights:    of the models; "none" needs no file.
    image_size: long side of the network input in pixels, a multiple of 32; small is fast.
    expected_failures: `{name of a check: why it fails}`: such a check passes quietly while it fails, and fails as soon
                as it passes.
    origin:     where to import the plugin from, "module:object"; None takes it from the installed plugin's entry point.

    Raises InputError if the plugin or architecture is unknown, the plugin lacks a member of the contract, or a name
    in `expected_failures` is no check that applies (with the nearest).
    """
    expected = dict(expected_failures or {})
    found, origin = _plugin_and_origin(plugin, origin)
    benches: list[Bench] = []
    for each in _first_of_each_task(found) if arch is None else [arch]:
        benches.append(
            Bench(
                found,
                each,
                weights=weights,
                image_size=image_size,
                origin=origin,
                expected=expected,
                first=benches[0] if benches else None,
            )
        )
    applying = {check.name for bench in benches for check in bench.checks}
    for name in expected:
        if name not in applying:
            raise InputError(f"expected_failures: no check '{name}' applies.{nearest(name, applying)}")
    return [check for bench in benches for check in bench.own_checks()]


def _plugin_and_origin(plugin: str | Plugin, origin: str | None) -> tuple[Plugin, str]:
    if isinstance(plugin, str):
        points = [point.value for point in entry_points(group=GROUP, name=plugin)]
        return get_plugin(plugin), origin or points[0]
    check_plugin_object(getattr(plugin, "name", "?"), origin or type(plugin).__qualname__, plugin)
    return plugin, origin or ""


@contextmanager
def _one_thread() -> Iterator[None]:
    """Let torch use one thread: for images this small several only wait for each other, minutes on a busy machine."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _first_of_each_task(plugin: Plugin) -> list[str]:
    first: dict[str, str] = {}
    for arch in plugin.architectures():
        first.setdefault(plugin.task_of(arch), arch)
    if not first:
        raise InputError(f"plugin '{plugin.name}': architectures() lists none; name at least one")
    return list(first.values())
