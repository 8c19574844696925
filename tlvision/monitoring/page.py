"""The page of `tlvision monitor`: the tests, distributions of reference and log, and how the log went over time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from tlvision.monitoring.columns import Columns, Numbers, as_columns
from tlvision.monitoring.drift import DriftTest
from tlvision.monitoring.novelty import feature_vectors, novelty
from tlvision.monitoring.record import Record
from tlvision.report.figures import Line, line_chart
from tlvision.report.page import Block, DataTable, Page, Section, section, write_page
from tlvision.report.thumbnails import thumbnail
from tlvision.runtime.bundle import Bundle

_BINS, _WINDOWS, _PICTURES = 16, 24, 8
_FEWEST_IN_WINDOW = 5
_SIDE, _MAX_BYTES = 320, 30_000
_UNITS = ((2 * 86400.0, 86400.0, "days"), (2 * 3600.0, 3600.0, "hours"), (0.0, 60.0, "minutes"))
_MOST_CLASSES = 40


@dataclass(frozen=True, slots=True)
class MonitorPage:
    """What the page shows.

    alpha: share of false alarms. reference, log: both sides. candidates: records with the file of their image.
    """

    bundle: Bundle
    tests: Sequence[DriftTest]
    alpha: float
    reference: Columns
    log: Columns
    candidates: Sequence[tuple[Record, Path]]


def write_monitor_page(
    path: Path, content: MonitorPage, answer: str, facts: Sequence[tuple[str, str]], notes: Sequence[str]
) -> Path:
    """Write the page and return its path. facts: below its title. notes: on what was left out."""
    page = Page(
        title=f"Monitoring of {content.bundle.name}",
        answer=answer,
        facts=facts,
        sections=[
            _tests(content.tests, content.alpha),
            _over_time(content),
            _distributions(content),
            _classes(content),
            _pictures(content),
            section("Notes", [{"notes": list(notes)}]),
        ],
    )
    return write_page(path, page)


def test_row(test: DriftTest) -> dict[str, Any]:
    """Return a test for monitor.json. reference, log: means of a number; floor and value of other measures."""
    row: dict[str, Any] = {
        "measure": test.name,
        "group": test.group,
        "reference": None if test.means is None else test.means[0],
        "log": None if test.means is None else test.means[1],
        "size": test.size,
        "least": test.least,
        "p": test.p,
        "p_corrected": test.corrected,
        "alarm": test.alarm,
        "reason": test.reason,
        "shift_in_deviations": test.shift,
    }
    measured = {"class_shares": test.shares}
    if test.gap is not None:
        measured |= {"a_distance": test.gap.a_distance, "frechet": test.gap.frechet, "mmd": test.gap.mmd}
    return row | {
        name: {"value": each.value, "floor": each.floor} for name, each in measured.items() if each is not None
    }


def _tests(tests: Sequence[DriftTest], alpha: float) -> Section | None:
    columns = ("measure", "of", "reference \u2192 log", "size", "alarm from", "p", "")
    rows = [
        (
            *(test.name, test.group, test.difference(), test.size, test.least, test.corrected),
            "alarm" if test.alarm else test.reason,
        )
        for test in tests
    ]
    note = (
        f"An alarm needs p of at most {alpha:g}, corrected for the number of tests (Holm), and a size from a limit on. "
        "Size: of features the place of the A-distance between its floor and 2, of numbers the Kolmogorov-Smirnov "
        "statistic, of class shares the total variation beyond its floor."
    )
    table = DataTable(columns, rows, text=("of", columns[2], ""))
    return section("Tests", [{"table": table if rows else None}], note)


def _over_time(content: MonitorPage) -> Section | None:
    """Return the means of windows with equally many records."""
    log = content.log
    if len(log) < 2 * _FEWEST_IN_WINDOW or len(content.reference) < 2:
        return None
    rows = np.array_split(np.arange(len(log)), min(_WINDOWS, len(log) // _FEWEST_IN_WINDOW))
    windows = _windows(log.times, rows)
    far = novelty(feature_vectors(content.reference, log))
    charts = [("Distance to the reference (1: as within it)", _course(windows, far, 1.0, "distance"))]
    for name, values in log.numbers().items():
        known = content.reference.numbers().get(name, np.zeros(0))
        if np.ptp(np.concatenate([known, values])) == 0:
            continue
        middle = float(np.nanmean(known)) if np.isfinite(known).any() else None
        charts.append((name[0].upper() + name[1:], _course(windows, values, middle, name)))
    note = f"Each point is the mean of {len(rows[-1])} to {len(rows[0])} records. Dashed: the mean of the reference."
    return section("Over time", [{"charts": [chart for chart in charts if chart[1]]}], note)


def _windows(times: Sequence[datetime], groups: Sequence[Any]) -> _Windows:
    """Return windows with their mean times since the first record, in a unit that fits."""
    seconds = np.array([(time - times[0]).total_seconds() for time in times])
    _, size, unit = next(each for each in _UNITS if seconds[-1] >= each[0])
    places = [float(seconds[rows].mean() / size) for rows in groups]
    return _Windows(groups, places, f"{unit} since {times[0]:%Y-%m-%d %H:%M} UTC")


@dataclass(frozen=True, slots=True)
class _Windows:
    """Groups of records, one after the other. rows: of each. places: its time. label: of the time axis."""

    rows: Sequence[Any]
    places: Sequence[float]
    label: str


def _course(windows: _Windows, values: Numbers, middle: float | None, name: str) -> str:
    places = windows.places
    means = [float(np.nanmean(values[rows])) if np.isfinite(values[rows]).any() else None for rows in windows.rows]
    lines = [Line("log", places, means, 1, marks=True)]
    if middle is not None:
        lines.insert(0, Line("reference", [places[0], places[-1]], [middle, middle], dashed=True))
    return line_chart(lines, x_label=windows.label, y_label=name)


def _distributions(content: MonitorPage) -> Section | None:
    charts = []
    for name, values in content.log.numbers().items():
        chart = _histogram(content.reference.numbers().get(name, np.zeros(0)), values, name)
        charts.append((name[0].upper() + name[1:], chart))
    return section(
        "Distributions", [{"charts": [chart for chart in charts if chart[1]]}], "Share of the images by value."
    )


def _histogram(first: Numbers, second: Numbers, name: str) -> str:
    sides = [side[np.isfinite(side)] for side in (first, second)]
    union = np.concatenate(sides)
    if not len(union) or np.ptp(union) == 0:
        return ""
    edges = np.linspace(union.min(), union.max(), _BINS + 1)
    middles = ((edges[1:] + edges[:-1]) / 2).tolist()
    lines = [
        Line(title, middles, (np.histogram(side, edges)[0] / len(side)).tolist(), colour)
        for title, side, colour in (("reference", sides[0], 0), ("log", sides[1], 1))
        if len(side)
    ]
    return line_chart(lines, x_label=name, y_label="share of images", from_zero=True)


def _classes(content: MonitorPage) -> Section | None:
    shares = [_shares(side.classes) for side in (content.reference, content.log)]
    rows = [
        (name, first, second, second - first)
        for name, first, second in zip(content.bundle.classes.names, *(side.tolist() for side in shares), strict=True)
    ]
    rows.sort(key=lambda row: -abs(row[3]))
    table = DataTable(("class", "reference", "log", "difference"), rows[:_MOST_CLASSES], bars=("reference", "log"))
    if len(rows) < 2 or not len(content.log):
        return None
    more = f" The {_MOST_CLASSES} of {len(rows)} that differ most." if len(rows) > _MOST_CLASSES else ""
    return section("Predicted classes", [{"table": table}], f"Share of all objects, or of the pixels.{more}")


def _shares(classes: Numbers) -> Numbers:
    total = classes.sum(axis=0)
    found: Numbers = total / max(float(total.sum()), 1e-12)
    return found


def _pictures(content: MonitorPage) -> Section | None:
    """Return the images that are farthest from the reference, if any are at hand."""
    if not content.candidates or len(content.reference) < 2:
        return None
    table = as_columns([record for record, _ in content.candidates], len(content.bundle.classes))
    far = novelty(feature_vectors(content.reference, table))
    pictures: list[tuple[str, str]] = []
    for row in np.argsort(-far, kind="stable").tolist():
        record, path = content.candidates[row]
        try:
            picture = thumbnail(path, side=_SIDE, max_bytes=_MAX_BYTES)
        except (OSError, ValueError):
            continue
        pictures.append((f"{record.name}, {record.time:%Y-%m-%d %H:%M}, distance {far[row]:.1f}", picture))
        if len(pictures) == _PICTURES:
            break
    blocks: list[Block] = [{"pictures": pictures}]
    return section("Images farthest from the reference", blocks, "Of those whose files are at hand.")
