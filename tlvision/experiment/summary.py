"""The table of an experiment: a row for each compared point, with its values, and its difference from its reference."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tlvision.evaluation.two_samples import holm
from tlvision.experiment.compare import Comparison, check_protocols, compare_groups
from tlvision.experiment.plan import Plan, Point, shown_point
from tlvision.experiment.run_figures import RunFigures, read_figures
from tlvision.experiment.statistics import mean_difference
from tlvision.experiment.trial_process import Outcome
from tlvision.tasks import Metric
from tlvision.types import InputError, counted

SIGNIFICANT = 0.05


@dataclass(slots=True)
class Row:
    """Results of one point of the compared axes over its replicates.

    point:      {axis: value} of the compared axes. name: in words.
    values:     {replicate in words: value of the metric, None where it failed or there is nothing to measure}.
    figures:    of the runs that have finished.
    runs:       folders. seconds: of the processes that ran now or before, one a trial, None if not known.
    reference:  name of the row that this one is compared with, "" for none.
    difference, low, high, p: from the reference; the interval has 95 %, p is corrected for the number of rows (Holm).
    over:       what the interval is about: "images and replicates", "images", "replicates", or "".
    verdict:    better, worse, no evidence, not measured, or "" for a reference.
    gap_closed: (mean - reference) / (oracle - reference); None without an oracle that is better than the reference.
    forgetting: what the reference's mean on the source is better than this one's; None if either is not measured.
    cost:       minutes of a trial for each hundredth of the metric that it is better than the reference.
    notes:      sentences.
    """

    point: Point
    name: str
    values: dict[str, float | None] = field(default_factory=dict)
    figures: list[RunFigures] = field(default_factory=list)
    runs: list[str] = field(default_factory=list)
    seconds: list[float | None] = field(default_factory=list)
    reference: str = ""
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    over: str = ""
    verdict: str = ""
    gap_closed: float | None = None
    forgetting: float | None = None
    cost: float | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def measured(self) -> list[float]:
        """Return the values that there are."""
        return [value for value in self.values.values() if value is not None]

    @property
    def mean(self) -> float | None:
        """Return the mean of the values."""
        return _mean(self.measured)

    @property
    def minutes(self) -> float | None:
        """Return the mean time of a trial."""
        return _mean([each / 60 for each in self.seconds if each is not None])

    def mean_of(self, figure: Callable[[RunFigures], float | None]) -> float | None:
        """Return the mean of a figure over the runs that have it."""
        return _mean([value for each in self.figures if (value := figure(each)) is not None])

    def as_json(self) -> dict[str, Any]:
        """Return it for table.json, with number, mean, sd, min and max of the values."""
        values = self.measured
        memory = self.mean_of(lambda each: each.memory)
        return {
            "name": self.name,
            "point": dict(self.point),
            "count": len(values),
            "mean": self.mean,
            "sd": float(np.std(values, ddof=1)) if len(values) > 1 else None,
            "min": min(values, default=None),
            "max": max(values, default=None),
            "minutes": self.minutes,
            "memory": None if memory is None else round(memory / 2**20),
            "source": self.mean_of(lambda each: each.source),
            "regret": self.mean_of(lambda each: each.regret),
            "gap_closed": self.gap_closed,
            "forgetting": self.forgetting,
            "cost": self.cost,
            "selected_by": next((each.selected_by for each in self.figures), ""),
            "values": self.values,
            "reference": self.reference,
            "difference": self.difference,
            "low": self.low,
            "high": self.high,
            "p": self.p,
            "over": self.over,
            "verdict": self.verdict,
            "runs": self.runs,
            "notes": self.notes,
        }


def summarise(plan: Plan, outcomes: Mapping[str, Outcome], chosen: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Return the table of an experiment for table.json: metric, higher_is_better, against, rows, notes.

    outcomes: of each trial by id. chosen: a sentence for each row on what a search has chosen for it.
    """
    rows: dict[str, Row] = {}
    for point, trial_id in plan.points:
        part = plan.part(point, "compare")
        row = rows.setdefault(shown_point(part), Row(part, shown_point(part)))
        _add(row, shown_point(plan.part(point, "replicate")), outcomes[trial_id], plan.metric)
    for name, sentence in (chosen or {}).items():
        rows[name].notes.append(sentence)
    notes: list[str] = []
    if plan.experiment.compare.against:
        _compare(list(rows.values()), plan, notes)
    return {
        "metric": plan.metric.name,
        "higher_is_better": plan.metric.higher_is_better,
        "against": plan.experiment.compare.against,
        "rows": [row.as_json() for row in rows.values()],
        "notes": notes,
    }


def _add(row: Row, replicate: str, outcome: Outcome, metric: Metric) -> None:
    row.runs.append(str(outcome.trial.folder))
    row.seconds.append(outcome.seconds)
    row.values[replicate] = None
    if outcome.error:
        row.notes.append(f"{replicate}: failed, {outcome.error}")
        return
    found = read_figures(outcome.trial.folder, metric)
    row.figures.append(found)
    row.values[replicate] = found.value
    if found.value is None:
        row.notes.append(f"{replicate}: {metric.name} is not measured, the validation data have no such object")
    if found.source is None and found.wants_source:
        row.notes.append(
            f"{replicate}: {metric.name} is not measured on the source: data.source_val has no such object"
        )
    if found.predictions == 0:
        row.notes.append(f"{replicate}: the model predicts nothing at all")


def _compare(rows: Sequence[Row], plan: Plan, notes: list[str]) -> None:
    """Fill in what follows from the references."""
    against = plan.experiment.compare.against
    by_point = {_key(row.point): row for row in rows}
    pairs = []
    for row in rows:
        reference = by_point[_key({**row.point, **against})]
        if _is_measured_otherwise(row, reference):
            continue
        oracle = by_point.get(_key({**row.point, **dict.fromkeys(against, "oracle")}))
        fill_derived(row, reference, oracle if "oracle" in plan.experiment.extra else None, plan.metric)
        if reference is not row:
            row.reference = reference.name
            pairs.append((row, reference))
    images = _over_images(pairs, plan, notes)
    for row, reference in pairs:
        if images is not None:
            _difference_over_images(row, reference, images, plan)
        else:
            _difference_over_replicates(row, reference)
    corrected = holm([row.p for row, _ in pairs])
    for (row, _), p in zip(pairs, corrected, strict=True):
        row.p = p
        if p is None:
            row.verdict = "not measured" if row.difference is None else "no evidence"
        elif p >= SIGNIFICANT or not row.difference:
            row.verdict = "no evidence"
        else:
            row.verdict = "better" if (row.difference > 0) == plan.metric.higher_is_better else "worse"
    if any(row.over == "replicates" and len(row.measured) == 1 for row, _ in pairs):
        notes.append("one replicate a row: a difference has no interval, so nothing is said about chance")


def _key(point: Point) -> tuple[tuple[str, str], ...]:
    return tuple(sorted(point.items()))


def fill_derived(row: Row, reference: Row, oracle: Row | None, metric: Metric) -> None:
    """Fill in the columns that follow from the means of a row, its reference and the oracle."""
    sign = 1 if metric.higher_is_better else -1
    if row.mean is None or reference.mean is None:
        return
    gain = sign * (row.mean - reference.mean)
    if oracle is not None and oracle.mean is not None and sign * (oracle.mean - reference.mean) > 0:
        row.gap_closed = gain / (sign * (oracle.mean - reference.mean))
    sources = [each.mean_of(lambda figures: figures.source) for each in (reference, row)]
    if sources[0] is not None and sources[1] is not None:
        row.forgetting = sign * (sources[0] - sources[1])
    if row is reference:
        return
    if gain > 0 and row.minutes is not None:
        row.cost = row.minutes / (100 * gain)
    if row is not oracle and (note := _count_note(row, reference)):
        row.notes.append(note)


def _count_note(row: Row, reference: Row) -> str:
    """Return a note if a row finds fewer than half or more than twice as many objects as its reference."""
    found = [each.objects for each in row.figures if each.objects is not None]
    usual = reference.mean_of(lambda figures: figures.objects)
    if usual is None or not (outside := [count for count in found if not 0.5 * usual <= count <= 2 * usual]):
        return ""
    odd = max(outside, key=lambda count: abs(count - usual))
    what = "prediction collapse" if odd < usual else "confirmation bias"
    return (
        f"possible {what}: {odd:.1f} detections per unlabelled image (score of 0.5 or more, worst replicate), "
        f"{reference.name} has {usual:.1f}. Inspect the predictions before using this result."
    )


def _is_measured_otherwise(row: Row, reference: Row) -> bool:
    """Return whether the evaluations of two rows differ, as on another domain; a note says in what."""
    runs = [*_finished(row), *_finished(reference)]
    try:
        check_protocols(runs)
    except InputError as error:
        row.notes.append(f"not compared: {_reason(error)}")
        return True
    return False


def _over_images(pairs: Sequence[tuple[Row, Row]], plan: Plan, notes: list[str]) -> Comparison | None:
    """Return resamples of the images of all finished runs, None where there are none."""
    groups = {row.name: runs for pair in pairs for row in pair if (runs := _finished(row))}
    if not plan.experiment.compare.resamples or len(groups) < 2:
        return None
    try:
        return compare_groups(groups, repeats=plan.experiment.compare.resamples)
    except InputError as error:
        notes.append(f"differences are over replicates only: {_reason(error)}")
        return None


def _reason(error: InputError) -> str:
    return str(error).removeprefix("compare: ")


def _finished(row: Row) -> list[Path]:
    return [Path(run) for run, value in zip(row.runs, row.values.values(), strict=True) if value is not None]


def _difference_over_images(row: Row, reference: Row, images: Comparison, plan: Plan) -> None:
    sides = {side.name: side.positions for side in images.sides}
    if row.name not in sides or reference.name not in sides:
        return
    higher = plan.metric.higher_is_better
    found = images.result.difference(plan.metric.name, sides[reference.name], sides[row.name], higher_is_better=higher)
    row.difference, row.low, row.high, row.p = found.difference, found.low, found.high, found.p
    row.over = "images and replicates" if len(row.measured) > 1 else "images"


def _difference_over_replicates(row: Row, reference: Row) -> None:
    """Pair the values by replicate."""
    pairs = [(value, reference.values.get(name)) for name, value in row.values.items()]
    differences = [value - other for value, other in pairs if value is not None and other is not None]
    if not differences:
        return
    found = mean_difference(differences)
    row.difference, row.low, row.high, row.p = found.mean, found.low, found.high, found.p
    row.over = "replicates"
    if len(differences) < len(pairs):
        row.notes.append(f"{counted(len(differences), 'pair')} of {len(pairs)} count, the others have a missing value")


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None
