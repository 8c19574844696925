"""`tlvision monitor`: compare logs with the reference of their bundle, and write the result."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from tlvision import terminal
from tlvision.files.json_files import write_json
from tlvision.files.outputs import check_folder, output_folder
from tlvision.monitoring.choose import choose
from tlvision.monitoring.collect import write_collection
from tlvision.monitoring.columns import Columns, as_columns
from tlvision.monitoring.drift import MIN_RECORDS, PERMUTATIONS, DriftTest, measure_drift
from tlvision.monitoring.novelty import feature_vectors
from tlvision.monitoring.page import MonitorPage, test_row, write_monitor_page
from tlvision.monitoring.read import LogContent, parse_time, read_logs, read_reference
from tlvision.monitoring.records import bundle_hash
from tlvision.runtime.bundle import Bundle, read_bundle
from tlvision.runtime.model import load
from tlvision.types import InputError, counted, listing

COMMAND = "monitor"
Verdict = Literal["no alarm", "alarm", "not measured"]
EXIT_CODES: dict[Verdict, int] = {"no alarm": 0, "alarm": 1, "not measured": 3}
MIN_ALPHA, MAX_ALPHA = 0.01, 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class MonitorSettings:
    """Settings of a comparison.

    since, until: as `parse_time` reads them; None for all records.
    limit:        records that are compared, evenly spread over them.
    alpha:        share of false alarms, 0.01 to 0.2.
    against:      logs that are the reference in place of the bundle's own.
    collect:      images to write for labelling; 0 for none.
    seed:         of permutations and subsets.
    out:          folder for page, JSON and images; None prints alone.
    """

    since: str | None = None
    until: str | None = None
    limit: int = 500
    alpha: float = 0.01
    against: Sequence[Path] = ()
    collect: int = 0
    seed: int = 0
    out: Path | None = None


@dataclass(frozen=True, slots=True)
class MonitorResult:
    """What `monitor` has found.

    verdict: "not measured" if a side has fewer than `MIN_RECORDS` records. answer: it in a sentence.
    tests:   all comparisons; empty if nothing was measured. notes: on damaged lines and others.
    records: of that time in the log. reference: images of the reference. collected: images written.
    """

    verdict: Verdict
    answer: str
    tests: Sequence[DriftTest]
    records: int
    reference: int
    collected: int = 0
    notes: Sequence[str] = field(default_factory=tuple)

    @property
    def exit_code(self) -> int:
        """0 for no alarm, 1 for an alarm, 3 if nothing was measured."""
        return EXIT_CODES[self.verdict]


@dataclass(frozen=True, slots=True)
class _Given:
    """What is compared. folder, hash: of the bundle. inputs: files and folders that are read."""

    folder: Path
    hash: str
    bundle: Bundle
    reference: Columns
    log: Columns
    content: LogContent
    settings: MonitorSettings
    inputs: Sequence[Path]


def monitor(folder: Path, logs: Sequence[Path], settings: MonitorSettings) -> MonitorResult:
    """Compare logs with the reference of their bundle; print, and write `monitor.json` and `report.html`.

    folder: of the bundle. logs: files that `tlvision predict --log` or a server has written; their rotated parts are
    read too.

    Raises InputError if the bundle has no reference, a log is not one, or is of another bundle, or a setting is wrong.
    """
    inputs = [folder, *logs, *settings.against]
    _check(settings, inputs)
    now = datetime.now(UTC)
    since = None if settings.since is None else parse_time(settings.since, "--since", now)
    until = None if settings.until is None else parse_time(settings.until, "--until", now)
    bundle, own = read_bundle(folder), bundle_hash(folder)
    notes: list[str] = []
    if settings.against:
        earlier = read_logs(settings.against, own, limit=settings.limit)
        records, notes = earlier.records, earlier.notes
    else:
        records = read_reference(folder)
    content = read_logs(logs, own, since=since, until=until, limit=settings.limit, candidates=settings.out is not None)
    reference, log = (as_columns(side, len(bundle.classes)) for side in (records, content.records))
    if reference and log and _widths(reference) != _widths(log):
        raise InputError("monitor: the log has other taps than the reference. Give another log")
    given = _Given(folder, own, bundle, reference, log, content, settings, inputs)
    verdict, answer, tests = _judge(given)
    result = MonitorResult(verdict, answer, tests, content.count, len(reference), 0, [*notes, *content.notes])
    if settings.out is not None:
        result = _write(given, result, settings.out)
    _print(result, settings)
    return result


def _check(settings: MonitorSettings, inputs: Sequence[Path]) -> None:
    if not MIN_ALPHA <= settings.alpha <= MAX_ALPHA:
        raise InputError(f"monitor: --alpha must be from {MIN_ALPHA} to {MAX_ALPHA}, got {settings.alpha}")
    if settings.limit < MIN_RECORDS:
        raise InputError(f"monitor: --limit must be {MIN_RECORDS} or more, got {settings.limit}")
    if settings.seed < 0:
        raise InputError(f"monitor: --seed must be 0 or more, got {settings.seed}")
    if settings.collect < 0:
        raise InputError(f"monitor: --collect must be 0 or more, got {settings.collect}")
    if settings.collect and settings.out is None:
        raise InputError("monitor: --collect writes images. Give a folder for them with --output")
    if settings.out is not None:
        check_folder(settings.out, COMMAND, inputs=inputs)


def _widths(table: Columns) -> dict[str, int]:
    return {name: values.shape[1] for name, values in table.taps.items()}


def _judge(given: _Given) -> tuple[Verdict, str, Sequence[DriftTest]]:
    """Return verdict, answer and tests."""
    if len(given.log) < MIN_RECORDS:
        found = f"the log has {counted(given.content.count, 'record')} of that time"
        return "not measured", f"Not measured: {found}, and {MIN_RECORDS} are needed.", ()
    if len(given.reference) < MIN_RECORDS:
        found = f"the reference has {counted(len(given.reference), 'image')}"
        return "not measured", f"Not measured: {found}, and {MIN_RECORDS} are needed.", ()
    tests = measure_drift(given.reference, given.log, alpha=given.settings.alpha, seed=given.settings.seed)
    different = [test.name for test in tests if test.alarm]
    if different:
        what = f"{len(different)} of {sum(test.p is not None for test in tests)} measures"
        return "alarm", f"Alarm: {what} differ from the reference: {listing(different, 20)}.", tests
    return "no alarm", "No alarm: no measure differs from the reference by more than chance and its limit.", tests


def _write(given: _Given, result: MonitorResult, out: Path) -> MonitorResult:
    """Write everything into a folder, and return the result with what was collected."""
    with output_folder(out, COMMAND, inputs=given.inputs):
        if given.settings.collect:
            collected, notes = _collect(given, out / "collected")
            result = replace(result, collected=collected, notes=[*result.notes, *notes])
        write_json(out / "monitor.json", _as_json(result, given), indent=1, nan="null")
        content, alpha = given.content, given.settings.alpha
        page = MonitorPage(given.bundle, result.tests, alpha, given.reference, given.log, content.candidates)
        write_monitor_page(out / "report.html", page, result.answer, _facts(result, given.log), result.notes)
    return result


def _collect(given: _Given, out: Path) -> tuple[int, list[str]]:
    """Write the chosen images; return their number, and notes."""
    candidates, count = given.content.candidates, given.settings.collect
    if not candidates or not len(given.reference):
        return 0, ["no image of the log is at hand, so none was collected. Log with --log-images to keep some"]
    table = as_columns([record for record, _ in candidates], len(given.bundle.classes))
    choices = choose(feature_vectors(given.reference, table), table.uncertainty, count)
    chosen = [(choice, *candidates[choice.row]) for choice in choices]
    written, notes = write_collection(out, load(given.folder), chosen)
    if written < count:
        notes.append(f"{counted(written, 'image')} of {count} collected: the log has no more images at hand")
    return written, notes


def _facts(result: MonitorResult, log: Columns) -> list[tuple[str, str]]:
    facts = [("records of that time", f"{result.records:,}"), ("compared", f"{len(log):,}")]
    if log.times:
        facts.append(("from", f"{log.times[0]:%Y-%m-%d %H:%M} UTC"))
        facts.append(("to", f"{log.times[-1]:%Y-%m-%d %H:%M} UTC"))
    return [*facts, ("images of the reference", f"{result.reference:,}")]


def _as_json(result: MonitorResult, given: _Given) -> dict[str, Any]:
    settings = given.settings
    return {
        "verdict": result.verdict,
        "answer": result.answer,
        "exit_code": result.exit_code,
        "bundle": given.hash,
        "records": result.records,
        "reference": result.reference,
        "since": settings.since,
        "until": settings.until,
        "limit": settings.limit,
        "alpha": settings.alpha,
        "seed": settings.seed,
        "permutations": PERMUTATIONS,
        "min_records": MIN_RECORDS,
        "tests": [test_row(test) for test in result.tests],
        "collected": result.collected,
        "notes": list(result.notes),
    }


def _print(result: MonitorResult, settings: MonitorSettings) -> None:
    console = terminal.console(120)
    for text in result.notes:
        terminal.note(console, text)
    if result.tests:
        numbers = ("size", "alarm from", "p")
        table = terminal.table("measure", "of", "reference → log", *numbers, "", right=numbers)
        for test in result.tests:
            cells = [_shown(value) for value in (test.size, test.least, test.corrected)]
            table.add_row(test.name, test.group, test.difference(), *cells, "alarm" if test.alarm else test.reason)
        console.print(table)
    console.print(result.answer, soft_wrap=True)
    if settings.out is not None:
        console.print(f"report         {settings.out / 'report.html'}", soft_wrap=True)
    if result.collected:
        console.print(f"collected      {settings.out and settings.out / 'collected'}", soft_wrap=True)


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
