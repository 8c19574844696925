"""Compare domain-adaptation methods with their baselines: an experiment, and the quality of the pseudo-labels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tlvision.analysis.pseudo_label_quality import write_pseudo_label_quality
from tlvision.config.compose import split_names
from tlvision.config.schema import Config
from tlvision.data.settings import MAX_SEED
from tlvision.experiment.baselines import KINDS, Arm, Kind, has_teacher, make_arms
from tlvision.experiment.builders import Values, replicates
from tlvision.experiment.file import ExperimentFile, parse_experiment, set_of
from tlvision.experiment.run import check_out, run_experiment, write_pages
from tlvision.plugin import get_plugin
from tlvision.tasks import get_task
from tlvision.types import InputError, listing
from tlvision.types.shown import shown

AXIS = "arm"


def adapt(
    configs: Sequence[str],
    overrides: Sequence[str] = (),
    *,
    seeds: Sequence[int] = (0, 1, 2),
    out: str | Path = "runs/adapt",
    kinds: Sequence[Kind] = KINDS,
    extra: Sequence[str] = (),
    jobs: int | None = None,
    plan_only: bool = False,
    estimate: bool = False,
) -> dict[str, Any] | None:
    """Train every arm with every seed, and return the table, which is also written to `out`.

    configs:   files, presets or compositions ("yolo+mean_teacher"), one a method; see
               `tlvision.experiment.baselines.make_arms`.
    overrides, extra: as for `tlvision.train`, for all methods.
    out, jobs, plan_only, estimate: as for `tlvision.experiment.run.run_experiment`.

    A method with a teacher has "pseudo_labels" in its row: their quality on `data.oracle`, of the first seed.

    Raises InputError if the configs are not comparable.
    """
    _check_seeds(seeds)
    check_out(Path(out))
    arms = make_arms(configs, overrides, kinds, extra)
    experiment = adaptation(arms, configs, overrides, seeds, extra)
    table = run_experiment(experiment, Path("config"), Path(out), jobs=jobs, plan_only=plan_only, estimate=estimate)
    if table is None:
        return None
    teachers = {arm.name: arm.config for arm in arms if has_teacher(arm.config) and arm.config.data.oracle is not None}
    for row in table["rows"]:
        config, runs = teachers.get(row["point"][AXIS]), row["runs"]
        first = next(iter(row["values"].values()))
        if config is not None and config.data.oracle is not None and first is not None:
            row["pseudo_labels"] = write_pseudo_label_quality(Path(runs[0]), config.data.oracle)
    write_pages(table, Path(out))
    return table


def adaptation(
    arms: Sequence[Arm],
    configs: Sequence[str],
    overrides: Sequence[str],
    seeds: Sequence[int],
    extra: Sequence[str],
) -> ExperimentFile:
    """Return the experiment of a comparison: an axis with source_only and the methods, and one with the seeds."""
    kinds = {arm.kind for arm in arms}
    more = [kind for kind in ("zero_shot", "oracle") if kind in kinds]
    trained = [arm for arm in arms if arm.kind in ("source_only", "method")]
    if more and "source_only" not in kinds:
        raise InputError(f"adapt: --arms: {listing(more)} are made from source_only; add source_only")
    return parse_experiment(
        {
            "base": [*split_names(configs[0]), *extra],
            "set": set_of(overrides),
            "axes": {
                AXIS: {"variants": {arm.name: {"set": _differences(arm.config)} for arm in trained}},
                "seed": replicates("train.seed", seeds),
            },
            "extra": more,
            "compare": {
                "metric": _metric(arms[0].config),
                "against": {AXIS: "source_only"} if "source_only" in kinds else {},
            },
        },
        "adapt",
    )


def _differences(config: Config) -> Values:
    """Return the keys in which arms differ; see `make_arms`."""
    content = config.model_dump(mode="json", by_alias=True)
    return {"hooks": content["hooks"], "data.batch": content["data"]["batch"]}


def _check_seeds(seeds: Sequence[int]) -> None:
    wrong = [seed for seed in seeds if not 0 <= seed <= MAX_SEED]
    if wrong or not seeds:
        raise InputError(f"adapt: --seeds: expected integers from 0 to {MAX_SEED}, got {shown(wrong)}")
    if twice := sorted({seed for seed in seeds if list(seeds).count(seed) > 1}):
        raise InputError(f"adapt: --seeds: {listing(twice)} is given more than once. A seed counts once.")


def _metric(config: Config) -> str:
    """Return the metric of the table: the task's main metric, or the target metric that `evaluate.select` names."""
    select = config.evaluate.select.removeprefix("target/").removeprefix("source/")
    metrics = get_task(get_plugin(config.model.plugin).task_of(config.model.arch)).metrics()
    return select if any(metric.name == select for metric in metrics) else metrics[0].name
