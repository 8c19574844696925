"""Compare finished runs: which is better, and is the difference more than chance?"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from rich.progress import Progress
from rich.text import Text

from tlvision.config.schema import Config
from tlvision.engine.datasets import label_options, measure_options, read_dataset
from tlvision.engine.resume import read_run_config
from tlvision.engine.resume_keys import differences
from tlvision.engine.run_folder import in_run, is_finished, read_classes
from tlvision.evaluation.bootstrap import REPEATS, Bootstrap, Difference, bootstrap
from tlvision.evaluation.per_image import PerImage, objects_per_image
from tlvision.evaluation.read import has_masks
from tlvision.files.json_files import read_object, write_json
from tlvision.plugin import get_plugin
from tlvision.report.compare_page import write_compare_page
from tlvision.tasks import HasPerImage, Metric, Task, get_task
from tlvision.terminal import console, table
from tlvision.types import InputError, counted, leaves

MOST_CLASSES = 20
"""Classes that are printed: those with the largest differences."""
_REMEDY = "Restore the file from a copy, or use another run."


@dataclass(frozen=True, slots=True)
class Side:
    """Runs that differ by their seed only, or one file of predictions.

    name: of the first run. runs: folders or files. positions: of them in the bootstrap.
    """

    name: str
    runs: tuple[Path, ...]
    positions: tuple[int, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Comparison:
    """Bootstrap of all runs.

    sides:   the first is the reference. metrics: name and direction of each metric that is compared.
    changes: for each side but the first, the keys of the config that differ from the reference, with both values.
    """

    sides: tuple[Side, ...]
    metrics: Mapping[str, bool]
    changes: Mapping[str, Mapping[str, tuple[Any, Any]]]
    images: int
    result: Bootstrap

    def difference(self, metric: str, side: Side) -> Difference:
        """Return how a side differs from the reference."""
        return self.result.difference(
            metric, self.sides[0].positions, side.positions, higher_is_better=self.metrics[metric]
        )

    def to_json(self) -> dict[str, Any]:
        """Return it for a JSON file.

        Keys: images, repeats; sides: a list of {name, runs, changes} and, for all but the first, metrics: name ->
        {reference, other, difference, low, high, verdict}.
        """
        rows: list[dict[str, Any]] = []
        for number, side in enumerate(self.sides):
            changes = self.changes.get(side.name, {})
            row: dict[str, Any] = {"name": side.name, "runs": [str(run) for run in side.runs]}
            row["changes"] = {key: list(values) for key, values in changes.items()}
            if number:
                found = {metric: self.difference(metric, side) for metric in self.metrics}
                row["metrics"] = {
                    metric: {
                        "reference": each.reference,
                        "other": each.other,
                        "difference": each.difference,
                        "low": each.low,
                        "high": each.high,
                        "verdict": each.verdict,
                    }
                    for metric, each in found.items()
                }
            rows.append(row)
        repeats = next(iter(self.result.values.values())).shape[1] - 1
        return {"images": self.images, "repeats": repeats, "sides": rows}


def compare_runs(runs: Sequence[Path], *, repeats: int = REPEATS, seed: int = 0) -> Comparison:
    """Compare finished runs on the validation images that they share.

    runs:    folders; those whose configs differ by train.seed and run.out only are one side. The first side is the
             reference. Predictions are those of the selected checkpoints, as predictions.json or label maps hold them.
    repeats: resamples of the images. seed: of the resamples.

    Raises InputError if a run is not finished, the runs are fewer than two sides, or the evaluations differ: in the
    protocol, the classes, the images or the labels; the message names the first line that differs.
    """
    if len({run.resolve() for run in runs}) < len(runs):
        raise InputError("compare: a run is given twice; give each run once")
    configs = [read_run_config(run, finished=True) for run in runs]
    for run in runs:
        if not is_finished(run):
            raise InputError(f"compare: '{run}' has not come to its end. Continue it: tlvision train --resume {run}")
    check_protocols(runs)
    sides = group(runs, configs)
    if len(sides) < 2:
        raise InputError(
            f"compare: all {len(runs)} runs differ by their seed only, so there is nothing to compare; give runs of "
            "two configs or more"
        )
    task = get_task(get_plugin(configs[0].model.plugin).task_of(configs[0].model.arch))
    results = [_per_image(run, config) for run, config in zip(runs, configs, strict=True)]
    check_truths(runs, results)
    metrics = {metric.name: metric for metric in task.metrics(configs[0].evaluate.max_detections)}
    first = configs[0]
    changes = {
        side.name: differences(_without_seed(first), _without_seed(configs[side.positions[0]])) for side in sides[1:]
    }
    return _compare(sides, results, metrics, changes, repeats=repeats, seed=seed)


def compare_groups(groups: Mapping[str, Sequence[Path]], *, repeats: int = REPEATS, seed: int = 0) -> Comparison:
    """Compare groups of finished runs of one task, {name: folders}, on the validation images that all of them share.

    Arguments as for `compare_runs`; the config of the runs of a group may differ.

    Raises InputError that names the first line that differs, if the runs were evaluated in another way or on other
    images.
    """
    runs = [run for group in groups.values() for run in group]
    configs = [read_run_config(run, finished=True) for run in runs]
    check_protocols(runs)
    results = [_per_image(run, config) for run, config in zip(runs, configs, strict=True)]
    check_truths(runs, results)
    sides, first = [], 0
    for name, members in groups.items():
        sides.append(Side(name, tuple(members), tuple(range(first, first + len(members)))))
        first += len(members)
    task = get_task(get_plugin(configs[0].model.plugin).task_of(configs[0].model.arch))
    metrics = {metric.name: metric for metric in task.metrics(configs[0].evaluate.max_detections)}
    return _compare(sides, results, metrics, {}, repeats=repeats, seed=seed)


def compare_files(
    ground_truth: Path, predictions: Sequence[Path], *, max_detections: int = 100, repeats: int = REPEATS, seed: int = 0
) -> Comparison:
    """Compare files of COCO results, of any trainer, against one ground truth; the first file is the reference.

    Masks are compared as well if all files have some. Other arguments as for `compare_runs`.

    Raises InputError as `coco_map` does.
    """
    kinds = ("bbox", "segm") if all(map(has_masks, [ground_truth, *predictions])) else ("bbox",)
    results = [objects_per_image(ground_truth, path, kinds, max_detections=max_detections) for path in predictions]  # type: ignore[arg-type]
    sides = [Side(str(path), (path,), (number,)) for number, path in enumerate(predictions)]
    return _compare(sides, results, {}, {}, repeats=repeats, seed=seed)


def _compare(
    sides: Sequence[Side],
    results: Sequence[PerImage],
    metrics: Mapping[str, Metric],
    changes: Mapping[str, Mapping[str, tuple[Any, Any]]],
    *,
    repeats: int,
    seed: int,
) -> Comparison:
    with Progress(console=console(), transient=True) as bar:
        step = bar.add_task("resampling images", total=repeats + 1)
        found = bootstrap(results, repeats=repeats, seed=seed, progress=lambda count: bar.advance(step, count))
    # A metric of one class, such as "bbox/AP cat", has the direction of the metric that it is named after.
    direction = {
        name: metrics[base].higher_is_better if (base := name.split(" ")[0]) in metrics else True
        for name in found.values
    }
    return Comparison(tuple(sides), direction, changes, len(results[0].images), found)


def _per_image(run: Path, config: Config) -> PerImage:
    task: Task = get_task(get_plugin(config.model.plugin).task_of(config.model.arch))
    if not isinstance(task, HasPerImage):
        raise InputError(f"compare: the task '{task.name}' keeps no results image by image, so runs cannot be compared")
    options = label_options(config.data)
    data = read_dataset(task, config.data.evaluated, "val", options, read_classes(run), require_objects=False)
    with tempfile.TemporaryDirectory() as folder:
        truth = task.ground_truth(data, options, Path(folder), write=True)
        return task.per_image(truth, _results(run, task), data, measure_options(config))


def _results(run: Path, task: Task) -> Path:
    """Return the predictions of a run: a file, or a folder of label maps."""
    path = in_run(run, "metrics.json").parent / task.results_name
    if not path.exists():
        raise InputError(f"compare: '{path}' is missing. Evaluate the run again, or compare another.")
    return path


def group(runs: Sequence[Path], configs: Sequence[Config]) -> list[Side]:
    """Return runs whose configs are equal but for seed and folder as one side each, in the order given."""
    grouped: list[tuple[Config, list[int]]] = []
    for position, config in enumerate(configs):
        plain = _without_seed(config)
        positions = next((found for other, found in grouped if other == plain), None)
        if positions is None:
            grouped.append((plain, [position]))
        else:
            positions.append(position)
    return [Side(str(runs[found[0]]), tuple(runs[each] for each in found), tuple(found)) for _, found in grouped]


def _without_seed(config: Config) -> Config:
    train = config.train.model_copy(update={"seed": 0})
    return config.model_copy(update={"train": train, "run": config.run.model_copy(update={"out": "-"})})


def check_protocols(runs: Sequence[Path]) -> None:
    """Raise InputError that shows the first difference, if the runs were not evaluated in the same way."""
    found = [read_object(in_run(run, "metrics.json"), _REMEDY) for run in runs]
    # A run of one domain is measured on data.val, as one of two domains is on the target; the labels are compared too.
    parts = [
        {"task": each.get("task"), "domain": each.get("domain") or "target", "protocol": each.get("protocol")}
        for each in found
    ]
    for part in parts:
        if isinstance(part["protocol"], dict):  # another version of the library computes the same number
            part["protocol"] = {key: value for key, value in part["protocol"].items() if key not in ("library", "hash")}
    _check_equal(runs, [dict(leaves(part)) for part in parts])


def check_truths(runs: Sequence[Path], results: Sequence[PerImage]) -> None:
    """Raise InputError that shows the first difference, if the runs were not evaluated on the same labelled images."""
    _check_equal(runs, [{"number of images": len(each.images)} for each in results])
    _check_equal(runs, [{f"image {n}": name for n, name in enumerate(each.images, start=1)} for each in results])
    _check_equal(runs, [{"labels of the validation images (hash)": each.truth} for each in results])


def _check_equal(runs: Sequence[Path], found: Sequence[Mapping[str, Any]]) -> None:
    for (one, first), (another, second) in pairwise(zip(runs, found, strict=True)):
        for key in [*first, *(key for key in second if key not in first)]:
            if first.get(key) != second.get(key):
                raise InputError(
                    f"compare: the evaluations of {one} and {another} differ in {key}: {first.get(key)} and "
                    f"{second.get(key)}. Evaluate both in the same way, on the same images"
                )


def write_comparison(comparison: Comparison, folder: Path) -> None:
    """Write comparison.json, with what `Comparison.to_json` returns, and report.html into a folder."""
    content = comparison.to_json()
    write_json(folder / "comparison.json", content, indent=1, nan="null")
    verdicts = [sentence(comparison, side) for side in comparison.sides[1:]]
    write_compare_page(folder / "report.html", content, verdicts)


def print_comparison(comparison: Comparison) -> None:
    """Print a table for each side against the reference, and a sentence with the verdict."""
    out = console(140)
    reference = comparison.sides[0]
    for side in comparison.sides[1:]:
        made = table("metric", reference.name, side.name, "difference", "95 % interval", "verdict", right=_NUMBERS)
        rows = {metric: comparison.difference(metric, side) for metric in comparison.metrics}
        shown = _shown(rows)
        for metric in shown:
            made.add_row(metric, *_cells(rows[metric]))
        out.print(made)
        if len(shown) < len(rows):
            out.print(f"{len(rows) - len(shown)} more classes, with smaller differences, are in the JSON (--output)")
        for key, (before, after) in comparison.changes.get(side.name, {}).items():
            out.print(f"  {key}: {before} -> {after}", soft_wrap=True)
        out.print(Text(sentence(comparison, side), "bold"), soft_wrap=True)


_NUMBERS = ("difference", "95 % interval")


def _shown(rows: Mapping[str, Difference]) -> list[str]:
    """Return the metrics over all classes, and of the classes those that differ most."""
    classes = [metric for metric in rows if " " in metric]
    most = sorted(classes, key=lambda metric: -abs(rows[metric].difference or 0.0))[:MOST_CLASSES]
    return [metric for metric in rows if metric not in classes or metric in most]


def _cells(row: Difference) -> list[str]:
    values = ["-" if value is None else f"{value:.4f}" for value in (row.reference, row.other)]
    gap = "-" if row.difference is None else f"{row.difference:+.4f}"
    interval = "-" if row.low is None else f"{row.low:+.4f} to {row.high:+.4f}"
    return [*values, gap, interval, row.verdict]


def sentence(comparison: Comparison, side: Side) -> str:
    """Return the verdict on a side in words."""
    metric = next(iter(comparison.metrics))
    row = comparison.difference(metric, side)
    names = side.name, comparison.sides[0].name
    seeds = [len(each.runs) for each in (side, comparison.sides[0])]
    basis = f"{counted(comparison.images, 'image')}, {seeds[0]} and {seeds[1]} seeds"
    if max(seeds) == 1:
        basis = f"{counted(comparison.images, 'image')}, one run each: another seed may change it"
    if row.verdict == "not measured" or row.difference is None:
        return f"{metric} was not measured on enough images to compare {names[0]} with {names[1]} ({basis})"
    interval = f"{row.difference:+.4f}, 95 % interval {row.low:+.4f} to {row.high:+.4f}; {basis}"
    if row.verdict == "no evidence":
        return f"no evidence that {names[0]} and {names[1]} differ in {metric} ({interval})"
    return f"{names[0]} is {row.verdict} than {names[1]} in {metric} ({interval})"
