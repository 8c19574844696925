"""Measure a trained run on corrupted validation images, and write tables, curves, pictures and JSON."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from tlvision import terminal
from tlvision.analysis.robustness import results
from tlvision.analysis.robustness.corruptions import Condition, check_names, check_severities
from tlvision.analysis.robustness.labels import MIN_VISIBLE, move_labels
from tlvision.analysis.robustness.results import Curve, make_curve
from tlvision.analysis.robustness.severities import SCALES, SEVERITIES
from tlvision.analysis.robustness.sheet import draw_sheet, shown_severities
from tlvision.data.dataset import EvalImages
from tlvision.data.images import write_image
from tlvision.data.settings import MAX_SEED
from tlvision.engine.datasets import label_options
from tlvision.engine.evaluate import read_evaluated
from tlvision.engine.evaluators import build_evaluator
from tlvision.engine.measured import open_measured
from tlvision.evaluation.protocol import protocol_hash
from tlvision.files.inputs import path_problem
from tlvision.files.json_files import write_json
from tlvision.files.outputs import numbered_folder, output_folder
from tlvision.report.small_multiples import Panel, severity_curves
from tlvision.tasks import Metric, Task
from tlvision.types import Dataset, InputError, Pixels, Sample, counted
from tlvision.types.shown import shown

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from tlvision.config.schema import Config
    from tlvision.inference.evaluator import Evaluator

COMMAND = "stress"
PROTOCOL = 1
"""Raised when a corruption, its strengths or the treatment of labels change, because results then differ."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StressSettings:
    """Settings of a stress test.

    images:      validation images at most, evenly spread over the data; the same for every corruption.
    corruptions: names, keys of `SCALES`.
    severities:  1 to 5.
    seed:        of all random draws of the corruptions.
    out:         folder for the results; None takes `<run>/stress/<name of the data>`.
    """

    images: int = 100
    corruptions: tuple[str, ...] = tuple(SCALES)
    severities: tuple[int, ...] = SEVERITIES
    seed: int = 0
    out: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Bench:
    """A model with the images that it is measured on.

    run:      its folder, of a run or of a bundle.
    predict:  measures its predictions for the network inputs of the evaluator.
    inputs:   network inputs of the chosen samples, whose cache of decoded images serves all conditions.
    work:     folder for ground truth and predictions of one condition at a time.
    protocol: of the measured metric, as metrics.json has it; filled by the first measurement.
    """

    run: Path
    config: Config
    fabric: Fabric
    predict: Callable[[Evaluator, EvalImages | None], dict[str, float]]
    task: Task
    data: Dataset
    metric: Metric
    inputs: EvalImages
    work: Path
    protocol: dict[str, Any] = field(default_factory=dict)

    def measure(self, condition: Condition | None) -> float | None:
        """Return the metric on the images under a condition, or as they are; None if there is nothing to measure."""
        config, folder = self.config, self.work / "condition"
        folder.mkdir()
        samples, inputs = self.inputs.samples, self.inputs
        if condition is not None:
            parts = self.task.targets(self.data, label_options(config.data))
            samples = move_labels(samples, condition, parts, folder / "moved")
            moves = condition.moves_labels
            inputs = inputs.with_changes(None if moves else condition.change, condition.view if moves else None)
        data = self.task.subset(self.data, samples, folder / "labels.json", write=True)
        evaluator = build_evaluator(config, self.task, data, out=folder, fabric=self.fabric, workers=0, images=inputs)
        values = self.predict(evaluator, inputs)
        self.protocol.update(evaluator.metrics.get("protocol") or {})
        shutil.rmtree(folder)
        return values.get(self.metric.name)


def stress_run(run: Path, settings: StressSettings) -> tuple[dict[str, Any], Path]:
    """Measure how the metric of a run falls on corrupted validation images; print a table and write the results.

    run: folder of a trained run, or of a bundle that `tlvision export` wrote. Its selected weights and its validation
         data are used.

    Returns the content of `stress.json` and its folder, which has `stress.png` (one image under every corruption) and
    `curves.png` as well. docs/robustness.md describes the keys. If the metric is 0 or not measured on the clean
    images, no corruption is measured, and the relative losses are None.

    Raises InputError: not a run, no image, an unknown corruption, a severity that is not 1 to 5, an output folder with
    files of the user.

    Example: ``stress_run(Path("runs/quickstart"), StressSettings(images=40, corruptions=("fog", "jpeg")))``
    """
    settings = _checked(run, settings)
    model = open_measured(run)
    if model.config.data.tiles.size:
        raise InputError(
            "stress: the run sees images in tiles (data.tiles), and corruptions are for whole images. Corrupt the "
            "images themselves and use tlvision evaluate"
        )
    task, data = read_evaluated(model, model.config.data.evaluated)
    samples = choose(data.samples, settings.images)
    metric = task.metrics(model.config.evaluate.max_detections)[0]
    about = _about(data, settings)
    out = settings.out or numbered_folder(run / "stress" / data.path.stem, COMMAND, about=about)
    with output_folder(out, COMMAND, inputs=[run, data.path, data.images_dir], about=about) as folder:
        with TemporaryDirectory(dir=folder) as work:
            inputs = EvalImages(
                samples,
                model.input_spec,
                model.config.data.image_size,
                cache_bytes=model.config.data.cache_bytes,
            )
            bench = _Bench(
                run=run,
                config=model.config,
                fabric=model.fabric,
                predict=model.measure,
                task=task,
                data=data,
                metric=metric,
                inputs=inputs,
                work=Path(work),
            )
            clean, curves = _measure(bench, settings)
        result = _as_json(bench, settings, clean, curves)
        write_json(folder / "stress.json", result, indent=1)
        write_image(folder / "stress.png", _sheet(bench, settings))
        if any(curve.loss is not None for curve in curves):
            _draw_curves(folder / "curves.png", metric, clean, curves)
    _print(result, metric, curves, out)
    return result, out


def choose(samples: tuple[Sample, ...], count: int) -> tuple[Sample, ...]:
    """Return at most `count` samples, evenly spread: neighbours in a video show the same thing."""
    chosen = np.unique(np.linspace(0, len(samples) - 1, min(count, len(samples))).round().astype(int))
    return tuple(samples[index] for index in chosen)


def _checked(run: Path, settings: StressSettings) -> StressSettings:
    """Return the settings with corruptions and severities in order; InputError if one cannot be used."""
    if settings.images < 1:
        raise InputError(f"stress: --images: expected 1 or more, got {shown(settings.images)}")
    if not 0 <= settings.seed <= MAX_SEED:
        raise InputError(f"stress: --seed: expected an integer from 0 to {MAX_SEED}, got {shown(settings.seed)}")
    for flag, path in (("RUN", run), ("--output", settings.out)):
        if path is not None and (problem := path_problem(str(path))):
            raise InputError(f"stress: {flag}: the path {problem}. Give the path of a folder.")
    if not run.is_dir():
        raise InputError(f"stress: there is no folder '{run}'. Give the folder of a trained run.")
    return replace(
        settings,
        corruptions=check_names(settings.corruptions),
        severities=check_severities(settings.severities),
    )


def _about(data: Dataset, settings: StressSettings) -> str:
    """Return what the results are of, so that other settings get another folder."""
    corruptions = "all" if settings.corruptions == tuple(SCALES) else "+".join(settings.corruptions)
    severities = ",".join(map(str, settings.severities))
    return f"{data.path.resolve()}, {settings.images} images, {corruptions}, {severities}, seed {settings.seed}"


def _measure(bench: _Bench, settings: StressSettings) -> tuple[float | None, list[Curve]]:
    """Return the metric on the images as they are, and a curve for each corruption, with a progress bar."""
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn())
    conditions = len(settings.corruptions) * len(settings.severities)
    with Progress(*columns, console=terminal.console(120), transient=True) as progress:
        bar = progress.add_task("clean images", total=1 + conditions)
        clean = bench.measure(None)
        progress.advance(bar)
        curves = []
        for corruption in settings.corruptions:
            values: dict[int, float | None] = dict.fromkeys(settings.severities)
            for severity in settings.severities if clean else ():
                progress.update(bar, description=f"{corruption} {severity}")
                values[severity] = bench.measure(Condition(corruption, severity, settings.seed))
                progress.advance(bar)
            curves.append(make_curve(bench.metric, clean, corruption, values))
    return clean, curves


def _as_json(bench: _Bench, settings: StressSettings, clean: float | None, curves: Sequence[Curve]) -> dict[str, Any]:
    metric, data = bench.metric, bench.data
    worst = results.worst_first(curves)[0]
    fields = {
        "version": PROTOCOL,
        "image_size": bench.config.data.image_size,
        "min_visible": MIN_VISIBLE,
        "severities": list(settings.severities),
        "seed": settings.seed,
        "metric": metric.name,
        "metric_protocol": bench.protocol.get("hash"),
    }
    strengths = {name: SCALES[name].values for name in settings.corruptions}
    return {
        "run": str(bench.run),
        "task": bench.task.name,
        "data": str(data.path),
        "images": len(bench.inputs.samples),
        "images_in_data": len(data.samples),
        "metric": metric.name,
        "higher_is_better": metric.higher_is_better,
        "seed": settings.seed,
        "severities": list(settings.severities),
        "clean": clean,
        "corruptions": results.curves_as_json(curves),
        "mean_relative_loss": results.mean_loss(curves),
        "worst": None if worst.loss is None else worst.corruption,
        "conclusion": results.conclude(metric, clean, curves),
        "not_measured": results.not_measured(metric, clean, curves),
        "protocol": {**fields, "hash": protocol_hash({**fields, "strengths": strengths})},
    }


def _sheet(bench: _Bench, settings: StressSettings) -> Pixels:
    """Return the picture of the image with the most objects; of label maps, of the first image."""
    samples = bench.inputs.samples
    index = max(range(len(samples)), key=lambda number: (len(samples[number].target), -number))
    config = bench.config
    parts = bench.task.targets(bench.data, label_options(config.data))
    names = bench.data.classes.names
    conditions = [
        [Condition(corruption, severity, settings.seed) for severity in shown_severities(settings.severities)]
        for corruption in settings.corruptions
    ]
    return draw_sheet(bench.inputs, index, conditions, parts, names)


def _draw_curves(path: Path, metric: Metric, clean: float | None, curves: Sequence[Curve]) -> None:
    lines = [
        Panel(
            title=f"{curve.title}: {results.percent(curve.loss)}",
            points=tuple(zip((0, *curve.severities), (clean, *curve.values), strict=True)),
        )
        for curve in results.worst_first(curves)
    ]
    title = f"{results.short(metric)} by severity; 0: clean images. In the titles: mean relative loss"
    severity_curves(path, lines, title=title, y_label=results.short(metric))


def _print(result: dict[str, Any], metric: Metric, curves: Sequence[Curve], out: Path) -> None:
    console = terminal.console(120)
    clean = "not measured" if result["clean"] is None else f"{result['clean']:.3f}"
    images = f"{result['images']} of {counted(result['images_in_data'], 'image')}"
    console.print(f"{images} of {result['data']}; {metric.name} on clean images: {clean}", soft_wrap=True)
    console.print(results.loss_table(metric, curves))
    for sentence in result["not_measured"]:
        terminal.note(console, sentence)
    console.print(result["conclusion"], soft_wrap=True)
    for what, name in (("numbers", "stress.json"), ("pictures", "stress.png"), ("curves", "curves.png")):
        if (out / name).exists():
            console.print(f"{what:<15}{out / name}", soft_wrap=True)
