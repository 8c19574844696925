"""Compare domain-adaptation methods with source-only and oracle baselines over several seeds, in one table."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tlvision import terminal
from tlvision.analysis.pseudo_label_quality import write_pseudo_label_quality
from tlvision.config.load import dump_config
from tlvision.data.settings import MAX_SEED
from tlvision.experiment.baselines import KINDS, Arm, Kind, has_teacher, make_arms
from tlvision.files.inputs import path_problem
from tlvision.files.outputs import check_file, check_folder, output_folder
from tlvision.formats.coco import write_json
from tlvision.plugin import get_plugin
from tlvision.report import write_adapt_page
from tlvision.tasks import Metric, get_task
from tlvision.types import InputError, listing
from tlvision.types.shown import shown

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from tlvision.config.schema import Config


@dataclass(slots=True)
class Row:
    """Results of one experiment arm over all seeds.

    name, kind:   of the arm.
    values:       the metric on `data.val`, one a seed, of the checkpoint that was chosen without looking at it; empty
                  if `data.val` has nothing to measure it on.
    source:       the same metric on `data.source_val`; empty if there is none.
    best:         the best value on `data.val` of any evaluated epoch, one a seed: the regret is |best - value|.
    objects:      how many it finds in an unlabelled image with a score of 0.5 or more, one a seed; of detectors.
    selected_by:  the metric that chose the checkpoint.
    runs:         the folders.
    pseudo_labels: quality of the final teacher's pseudo-labels on `data.oracle`, first seed, if there is a teacher.
    note:         the reason for missing values, or a remark.
    mean, low, high: of `values`.
    gap_closed:   (mean - source_only) / (oracle - source_only), 0..1 and beyond; None if one of them is missing, or
                  the oracle is not better than source_only.
    forgetting:   source_only's mean on the source minus this arm's.
    """

    name: str
    kind: Kind
    values: list[float] = field(default_factory=list)
    source: list[float] = field(default_factory=list)
    best: list[float] = field(default_factory=list)
    objects: list[float] = field(default_factory=list)
    selected_by: str = ""
    runs: list[str] = field(default_factory=list)
    pseudo_labels: dict[str, Any] | None = None
    note: str = ""
    mean: float | None = None
    low: float | None = None
    high: float | None = None
    gap_closed: float | None = None
    forgetting: float | None = None


def adapt(
    configs: Sequence[str | Path],
    overrides: Sequence[str] = (),
    *,
    seeds: Sequence[int] = (0, 1, 2),
    out: str | Path = "runs/adapt",
    kinds: Sequence[Kind] = KINDS,
    extra: Sequence[str] = (),
) -> dict[str, Any]:
    """Train every arm with every seed, and return the table, which is also written to `out`.

    configs:   files, presets or compositions ("yolo+mean_teacher"), one a method; see
               `tlvision.experiment.baselines.make_arms`.
    overrides, extra: as for `tlvision.train`, for all methods.
    out:       gets a folder `<arm>/seed<n>` for each run, adapt.json and adapt.html. Runs that it holds already, with
               the same config, are taken as they are, and interrupted ones are resumed: the command can be repeated.

    Returns {"metric", "seeds", "rows": [the fields of `Row`, …]}.

    Raises InputError if the configs are not comparable, or a run in `out` was made with another config.
    """
    folder, console = Path(out), terminal.console(140)
    _check_seeds(seeds)
    _check_folder(folder)
    arms = make_arms(configs, overrides, kinds, extra)
    metric = _metric(arms[0].config)
    _check_folders(arms, seeds, folder)
    check_file(folder / "adapt.json", COMMAND, own_keys=[{"metric", "seeds", "rows"}])
    rows = []
    for arm in arms:
        row = Row(arm.name, arm.kind)
        if arm.kind == "zero_shot":
            _zero_shot(arm, row, folder, metric, console)
        else:
            for seed in seeds:
                console.rule(f"{arm.name}, seed {seed}")
                _run(arm, row, folder, seed, metric)
            if arm.config.data.oracle is not None and has_teacher(arm.config):
                row.pseudo_labels = write_pseudo_label_quality(Path(row.runs[0]), arm.config.data.oracle)
        rows.append(row)
    _compare(rows, sign=1 if metric.higher_is_better else -1)
    result = {
        "metric": metric.name,
        "seeds": list(seeds),
        "rows": [asdict(row) for row in rows],
    }
    write_json(folder / "adapt.json", result)
    page = write_adapt_page(folder, result)
    console.print(format_rows(rows, metric.name))
    for row in rows:
        if row.note:
            terminal.note(console, f"{row.name}: {row.note}")
    console.print(f"table   {folder / 'adapt.json'}\npage    {page}", highlight=False, soft_wrap=True)
    return result


def _check_seeds(seeds: Sequence[int]) -> None:
    wrong = [seed for seed in seeds if not 0 <= seed <= MAX_SEED]
    if wrong or not seeds:
        raise InputError(f"adapt: --seeds: expected integers from 0 to {MAX_SEED}, got {shown(wrong)}")
    if twice := sorted({seed for seed in seeds if list(seeds).count(seed) > 1}):
        raise InputError(f"adapt: --seeds: {listing(twice)} is given more than once. A seed counts once.")


def _check_folder(folder: Path) -> None:
    """Refuse, before anything is trained, a folder that cannot be one."""
    if problem := path_problem(str(folder)):
        raise InputError(f"adapt: --out: the path {problem}. Give the path of a folder.")
    if folder.exists() and not folder.is_dir():
        raise InputError(f"adapt: --out: '{folder}' is not a folder. Give the path of a folder.")


def _metric(config: Config) -> Metric:
    """Return the metric of the table: the task's main metric, or the target metric that `evaluate.select` names."""
    select = config.evaluate.select.removeprefix("target/").removeprefix("source/")
    metrics = get_task(get_plugin(config.model.plugin).task_of(config.model.arch)).metrics()
    return next((metric for metric in metrics if metric.name == select), metrics[0])


def _zero_shot(arm: Arm, row: Row, folder: Path, metric: Metric, console: Console) -> None:
    """Evaluate the pretrained weights as they are, where they have all of our classes."""
    from tlvision.engine.build import build_run
    from tlvision.engine.session import build_session
    from tlvision.training.fabric import make_fabric

    console.rule("zero_shot")
    config = arm.config.model_copy(update={"hooks": ()})
    parts = build_run(config, as_pretrained=True)
    fresh = [*parts.report.missing, *parts.report.mismatched, *(t for t in parts.report.remapped if "; fresh " in t)]
    if fresh:
        row.note = (
            f"the weights do not have all of it ({parts.report.summary()}; for example {fresh[0]}), so there is "
            "nothing to evaluate before training; model.rename maps their classes to yours"
        )
        return
    run = folder / arm.name
    with output_folder(run, COMMAND, about=arm.name):
        session = build_session(parts, run, make_fabric(config.train))
        session.evaluate()
    row.runs.append(str(run))
    row.selected_by = "nothing was trained"
    _read(run, row, metric, evaluations=[])


def _run(arm: Arm, row: Row, folder: Path, seed: int, metric: Metric) -> None:
    """Train one arm with one seed, unless that has been done."""
    from tlvision.engine.run_folder import is_finished
    from tlvision.engine.train import train

    config = _seeded(arm.config, folder / arm.name, seed)
    run = Path(config.run.out)
    if (run / "config.yaml").exists():
        if not is_finished(run):
            train(config, resume=run)  # from its checkpoint, or from the start if there is none yet
    else:
        train(config)
    log = (run / "log.jsonl").read_text(encoding="utf-8").splitlines()
    lines = [json.loads(line) for line in log]
    row.runs.append(str(run))
    _read(run, row, metric, [line["metrics"] for line in lines if line["kind"] == "evaluation"])


def _seeded(config: Config, folder: Path, seed: int) -> Config:
    update = {
        "train": config.train.model_copy(update={"seed": seed}),
        "run": config.run.model_copy(update={"out": str(folder / f"seed{seed}")}),
    }
    return config.model_copy(update=update)


COMMAND = "adapt"


def _check_folders(arms: Sequence[Arm], seeds: Sequence[int], folder: Path) -> None:
    """Raise InputError, before anything is trained, if a run folder holds another run or foreign files."""
    if (folder / "adapt.html").exists() and not (folder / "adapt.json").exists():
        raise InputError(
            f"adapt: '{folder / 'adapt.html'}' is not of `tlvision adapt`; give another --out, or remove it"
        )
    for arm in arms:
        if arm.kind == "zero_shot":
            check_folder(folder / arm.name, COMMAND, about=arm.name)
    for config in (_seeded(arm.config, folder / arm.name, seed) for arm in arms for seed in seeds):
        run = Path(config.run.out)
        if (run / "config.yaml").exists():
            if (run / "config.yaml").read_text(encoding="utf-8") != dump_config(config):
                raise InputError(f"adapt: '{run}' holds a run with another config; give another --out, or remove it")
        elif run.exists() and any(run.iterdir()):
            raise InputError(f"adapt: '{run}' is not empty and holds no run (no config.yaml); remove it")


def _read(run: Path, row: Row, metric: Metric, evaluations: Sequence[dict[str, float]]) -> None:
    name = metric.name
    metrics = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
    value, source = _measured(metrics, name), _measured(metrics.get("source", {}), name)
    if value is None:
        _add_note(row, f"{name} is not measured on the target: data.val has no such object")
    else:
        row.values.append(value)
        seen = [each[key] for each in evaluations for key in (f"target/{name}", name) if key in each]
        row.best.append((max if metric.higher_is_better else min)([value, *seen]))
    if source is not None:
        row.source.append(source)
    elif "source" in metrics:
        _add_note(row, f"{name} is not measured on the source: data.source_val has no such object")
    if "objects" in metrics.get("unlabelled", {}):
        row.objects.append(metrics["unlabelled"]["objects"])
    row.selected_by = row.selected_by or metrics.get("selection", {}).get("by", f"target/{name}")


def _measured(metrics: Mapping[str, Any], metric: str) -> float | None:
    """Return the metric "bbox/AP" of metrics.json; None if there was nothing to measure."""
    kind, _, name = metric.partition("/")
    value: float | None = metrics.get(kind, {}).get(name)
    return value


def _add_note(row: Row, text: str) -> None:
    if text and text not in row.note:
        row.note = f"{row.note}. {text}" if row.note else text


def _compare(rows: Sequence[Row], sign: int = 1) -> None:
    """Fill in the columns that are computed from the values of all rows.

    sign: 1 if a higher metric is better, -1 if a lower one is.
    """
    for row in rows:
        if row.values:
            row.mean, row.low, row.high = statistics.mean(row.values), min(row.values), max(row.values)
    by_kind = {row.kind: row for row in rows if row.kind in {"source_only", "oracle"}}
    base, top = by_kind.get("source_only"), by_kind.get("oracle")
    for row in rows:
        if row.mean is not None and base is not None and base.mean is not None:
            if top is not None and top.mean is not None and sign * (top.mean - base.mean) > 0:
                row.gap_closed = (row.mean - base.mean) / (top.mean - base.mean)
            if row.source and base.source:
                row.forgetting = sign * (statistics.mean(base.source) - statistics.mean(row.source))
        if row.kind == "method" and base is not None:
            _add_note(row, _count_note(row.objects, base.objects))


def _count_note(found: Sequence[float], base: Sequence[float]) -> str:
    """Return a note if a method finds fewer than half or more than twice as many objects as source_only."""
    if not found or not base:
        return ""
    usual = statistics.mean(base)
    outside = [count for count in found if not 0.5 * usual <= count <= 2 * usual]
    if not outside:
        return ""
    odd = max(outside, key=lambda count: abs(count - usual))
    what = "prediction collapse" if odd < usual else "confirmation bias"
    return (
        f"possible {what}: {odd:.1f} detections per unlabelled image (score of 0.5 or more, worst seed), source_only "
        f"has {usual:.1f}. Inspect the predictions before using this result."
    )


def format_rows(rows: Sequence[Row], metric: str) -> Table:
    """Return the table for a terminal."""
    table = terminal.table(
        "arm", f"{metric} on the target", "min to max", "gap closed", "regret", "on the source", "chosen by"
    )
    for row in rows:
        regret = [abs(best - value) for best, value in zip(row.best, row.values, strict=True)]
        table.add_row(
            row.name,
            _mean(row.values, missing="not measured" if row.runs else "-"),
            "-" if row.low is None or row.high is None else f"{row.low:.4f} to {row.high:.4f}",
            "-" if row.gap_closed is None else f"{100 * row.gap_closed:.0f} %",
            "-" if not regret else f"{statistics.mean(regret):.4f}",
            _mean(row.source),
            row.selected_by or "-",
        )
    return table


def _mean(values: Sequence[float], missing: str = "-") -> str:
    return f"{statistics.mean(values):.4f}" if values else missing
