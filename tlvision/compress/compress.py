"""Turn a trained run into smaller and faster bundles, and say which of them to take."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from tlvision.analysis.robustness.stress import StressSettings, stress_run
from tlvision.compress.choose import advice, pareto
from tlvision.compress.int8 import Int8Settings, check_int8, quantise
from tlvision.compress.measure import (
    Bench,
    Variant,
    measure_latency,
    measure_metrics,
    network_inputs,
    peak_memory,
    size_of,
    spread,
)
from tlvision.compress.train import TrainedMethods, train_methods
from tlvision.engine.datasets import label_options, read_dataset
from tlvision.engine.evaluate import read_evaluated
from tlvision.engine.model import LoadedModel, load
from tlvision.export.card import write_card
from tlvision.export.export import check_exportable, export_run
from tlvision.files.json_files import read_object, write_json
from tlvision.files.outputs import check_folder, output_folder
from tlvision.inference.dense import dense_scores
from tlvision.inference.evaluator import flatten
from tlvision.monitoring.reference import NAME as REFERENCE
from tlvision.monitoring.reference import predict_with_reference
from tlvision.plugin import HasDenseLogits
from tlvision.report.compress_page import write_compress_page
from tlvision.runtime import load as load_bundle
from tlvision.runtime.bundle import write_bundle
from tlvision.runtime.model import RuntimeModel
from tlvision.terminal import console
from tlvision.types import InputError

COMMAND = "compress"
_FLOAT = ("onnx", "openvino")


@dataclass(frozen=True, slots=True, kw_only=True)
class CompressSettings:
    """Settings of `compress_run`.

    methods:        what makes models smaller: integers of 8 bits, and runs that are trained for it.
    max_drop:       largest loss of the metric that is accepted, on training images while layers are searched for that
                    need float, and in the advice on validation images.
    calibration:    training images, evenly spread, that give the ranges of integers.
    search:         training images, evenly spread, on which the loss is measured while layers are searched.
    beside:         other runs of the same task and data that get rows too, such as a distilled one.
    latency_budget: milliseconds that an image may take; None for no limit.
    threads:        of the libraries that run the graphs, and of torch.
    stress:         whether each variant is measured on corrupted images as well.
    """

    methods: TrainedMethods = field(default_factory=TrainedMethods)
    max_drop: float = 0.01
    calibration: int = 200
    search: int = 100
    beside: tuple[Path, ...] = ()
    latency_budget: float | None = None
    threads: int = 1
    stress: bool = False


def compress_run(run: Path, out: Path, settings: CompressSettings) -> dict[str, Any]:
    """Write bundles of a run into `out`, in float and in integers of 8 bits, measure them, and return the table.

    out: a new or empty folder, or one that `tlvision compress` wrote. It gets a folder for each bundle, table.json, and
         report.html with the picture of speed and metric.

    Raises InputError if a library is missing, a run cannot be read or exported, or one of `beside` has another task;
    RunError as `export_run` does.
    """
    if "int8" in settings.methods.methods:
        check_int8()
    inputs = [run, *settings.beside]
    check_folder(out, COMMAND, inputs=inputs)
    models = _models(run, settings.beside, settings)
    if trained := train_methods(run, settings.methods):
        models |= _models(run, trained, settings)
    torch.set_num_threads(settings.threads)
    with output_folder(out, COMMAND, inputs=inputs):
        variants = [each for name, model in models.items() for each in _bundles(name, model, out, settings)]
        table = _measure(models[""], variants, out, settings)
        write_json(out / "table.json", table, indent=1, nan="null")
        write_compress_page(out / "report.html", table)
    return table


def _models(run: Path, others: Sequence[Path], settings: CompressSettings) -> dict[str, LoadedModel]:
    """Return the models by name, that of `run` with the name ""; InputError if one does not belong in the table."""
    models = {"": load(run, device="cpu")}
    for other in others:
        if other.name in models:
            raise InputError(f"compress: two runs are called '{other.name}'; rename a folder")
        models[other.name] = load(other, device="cpu")
    for model in models.values():
        check_exportable(model)
        if settings.stress and model.config.data.tiles.size:
            raise InputError(
                f"compress: '{model.run}' sees images in tiles (data.tiles), and --stress corrupts whole images. Leave "
                "out --stress"
            )
        if model.task.name != models[""].task.name or model.classes.names != models[""].classes.names:
            raise InputError(f"compress: '{model.run}' has another task or other classes than '{run}'; leave it out")
    return models


def _bundles(name: str, model: LoadedModel, out: Path, settings: CompressSettings) -> list[Variant]:
    """Write the bundles of a run."""
    variants = []
    for graph_format in _FLOAT:
        title = f"{name} {graph_format}".strip()
        console().print(f"{title}: export of {model.run}", soft_wrap=True)
        folder = out / title.replace(" ", "_")
        export_run(model.run, folder, graph_format=graph_format)
        variants.append(Variant(name=title, folder=folder, kind="float"))
    if "int8" not in settings.methods.methods:
        return variants
    title = f"{name} int8".strip()
    folder = out / title.replace(" ", "_")
    console().print(f"{title}: quantisation with up to {settings.calibration} training images", soft_wrap=True)
    variants.append(_write_int8(title, model, variants[-1].folder, folder, settings))
    return variants


def _write_int8(name: str, model: LoadedModel, source: Path, folder: Path, settings: CompressSettings) -> Variant:
    runtime = load_bundle(source, threads=settings.threads)
    train = read_dataset(model.task, model.config.data.train, "train", label_options(model.config.data), model.classes)
    folder.mkdir()
    with TemporaryDirectory(prefix="tlvision-compress-") as temporary:
        whole = Bench(
            config=model.config,
            task=model.task,
            data=train,
            fabric=model.fabric,
            metric=model.task.metrics(model.config.evaluate.max_detections)[0],
        )
        positions = spread(train.samples, settings.search)
        result = quantise(
            runtime,
            folder,
            Int8Settings(
                max_drop=settings.max_drop,
                calibration=[train.samples[each] for each in spread(train.samples, settings.calibration)],
                search=[train.samples[each] for each in positions],
                measure=_Search(whole, positions, Path(temporary)),
            ),
        )
    about = replace(
        runtime.bundle,
        provenance={**runtime.bundle.provenance, "compression": result.as_json()},
        check={},
    )
    shutil.copy(source / "config.yaml", folder / "config.yaml")
    write_bundle(folder, about)
    _, data = read_evaluated(model, model.config.data.evaluated)
    for _ in predict_with_reference(load_bundle(folder), data.samples, folder / REFERENCE):
        pass  # what it finds is measured with the other variants
    write_card(folder, about, model)
    write_bundle(folder, about)
    in_float = sum(map(len, result.in_float.values()))
    drop = result.float_value - result.int8_value
    variant = Variant(name=name, folder=folder, kind="int8")
    sentence = (
        f"{name}: {result.layers - in_float} of {result.layers} layers with weights compute with integers; on "
        f"{result.search} training images the metric is {result.int8_value:.4f}, in float {result.float_value:.4f}"
    )
    if drop > settings.max_drop:
        sentence += f": more than --max-drop {settings.max_drop} is lost, and no choice of layers keeps it"
    variant.notes.append(sentence)
    console().print(sentence, soft_wrap=True)
    return variant


class _Search:
    """Measures a model on some of the search images; what it has written for a choice of images is kept."""

    def __init__(self, whole: Bench, positions: Sequence[int], folder: Path) -> None:
        self._whole, self._positions, self._folder = whole, positions, folder
        self._parts: dict[tuple[int, ...], Bench] = {}

    def __call__(self, model: RuntimeModel, chosen: Sequence[int]) -> float:
        """Return the metric, higher is better; 0 if nothing can be measured on these images."""
        key = tuple(chosen)
        if key not in self._parts:
            place = self._folder / str(len(self._parts))
            place.mkdir()
            self._parts[key] = self._whole.part([self._positions[each] for each in chosen], place)
        bench = self._parts[key]
        values, _ = bench.measure(model.predict_samples(bench.data.samples))
        value = values.get(bench.metric.name, 0.0)
        return value if bench.metric.higher_is_better else -value


def _measure(model: LoadedModel, variants: Sequence[Variant], out: Path, settings: CompressSettings) -> dict[str, Any]:
    """Fill in the variants, and return the table."""
    task, data = read_evaluated(model, model.config.data.evaluated)
    metric = task.metrics(model.config.evaluate.max_detections)[0]
    bench = Bench(config=model.config, task=task, data=data, fabric=model.fabric, metric=metric)
    bundles = {each.name: load_bundle(each.folder, threads=settings.threads) for each in variants}
    measure_metrics(bench, variants, bundles)
    rows = [_torch_row(model, metric.name), *variants]
    images = [data.samples[each] for each in spread(data.samples, 20)]
    _measure_cost(model, rows, bundles, images, settings)
    if settings.stress:
        for variant in rows:
            console().print(f"{variant.name}: corrupted images", soft_wrap=True)
            target = out / "stress" / variant.name.replace(" ", "_")
            variant.stress = stress_run(variant.folder, StressSettings(images=50, out=target))[0]["mean_relative_loss"]
    return {
        "run": str(model.run),
        "data": str(data.path),
        "images": len(data.samples),
        "metric": metric.name,
        "higher_is_better": metric.higher_is_better,
        "threads": settings.threads,
        "max_drop": settings.max_drop,
        "latency_budget": settings.latency_budget,
        "rows": [{**asdict(each), "folder": str(each.folder)} for each in rows],
        "notes": [text for each in rows for text in each.notes],
        "pareto": [each.name for each in pareto(rows)],
        "advice": advice(rows, settings.max_drop, settings.latency_budget),
    }


def _torch_row(model: LoadedModel, metric: str) -> Variant:
    metrics = read_object(model.run / "metrics.json", "Restore the file from a copy, or use another run.")
    low, high = (metrics.get("intervals") or {}).get(metric, (None, None))
    weights = sum(each.numel() * each.element_size() for each in model.adapter.module.state_dict().values())
    return Variant(
        name="torch",
        folder=model.run,
        kind="float",
        value=flatten(metrics).get(metric),
        low=low,
        high=high,
        megabytes=weights / 1e6,
    )


def _measure_cost(
    model: LoadedModel,
    rows: Sequence[Variant],
    bundles: Mapping[str, RuntimeModel],
    images: Sequence[Any],
    settings: CompressSettings,
) -> None:
    """Fill in latency, size and memory. Variants of one input take turns; another run may have another input."""
    least = model.selection.least()

    def in_torch(inputs: Any) -> Any:
        with torch.inference_mode():
            tensor = torch.from_numpy(inputs)
            if isinstance(model.adapter, HasDenseLogits):
                return dense_scores(model.adapter, tensor, model.config.evaluate.window)
            return model.adapter.predict(tensor)

    prepared = {name: network_inputs(bundle, images) for name, bundle in bundles.items()}
    own = prepared[rows[1].name]
    steps: dict[str, Any] = {"torch": lambda number: in_torch(own[number])}
    for name, bundle in bundles.items():
        steps[name] = lambda number, name=name, bundle=bundle: bundle.run(prepared[name][number], least)
    times = measure_latency(steps, range(len(images)))
    for row in rows:
        row.latency = times[row.name]
        paths = [sample.path for sample in images[:3]]
        row.memory = peak_memory(row.folder, paths, settings.threads, torch=row.name == "torch")
        if row.name != "torch":
            row.megabytes = size_of(bundles[row.name])
