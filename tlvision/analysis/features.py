"""Extract pooled features, colours and prediction statistics of images with a model, for `domain-gap`."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tlvision.data.settings import MAX_SIDE
from tlvision.engine.model import load, open_model
from tlvision.formats.label_maps import read_class_file
from tlvision.library.library import local_weights
from tlvision.plugin import Adapter, BuildSpec, WeightReport, get_plugin
from tlvision.training.settings import TrainSettings
from tlvision.types import ClassMap, ImageFile, InputError, counted
from tlvision.types.shown import shown

if TYPE_CHECKING:
    from lightning_fabric import Fabric
    from torch import Tensor

    from tlvision.data.batches import Batch

Numbers = npt.NDArray[np.float64]

MIN_SCORE = 0.25
"""Objects from this score on count as predictions: what `tlvision predict` draws."""
_BATCH = 8
_RIM = 0.05
"""Part of a cell that may be padding: sides are rounded to whole pixels."""
_NO_CLASSES = ClassMap(("object", "background"), (1, 2))


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelChoice:
    """The model to extract features with: a run, or a plugin with arch and weights.

    classes:    of a plugin's model: names, or one text file of them; empty if predictions are not wanted.
    image_size: long side of the network input in pixels; None takes the run's, or 640.
    """

    run: Path | None = None
    plugin: str | None = None
    arch: str | None = None
    weights: str | None = None
    classes: tuple[str, ...] = ()
    image_size: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GapModel:
    """A model to look through.

    title:     for people.
    uninitialised: names of the parameters that no weights were loaded for.
    window:    as `evaluate.window` of a config.
    no_predictions_because: why its predictions mean nothing; empty if they do.
    """

    title: str
    adapter: Adapter
    fabric: Fabric
    classes: ClassMap
    image_size: int
    uninitialised: tuple[str, ...] = ()
    window: int = 0
    no_predictions_because: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageStatistics:
    """Statistics of N images and of a model's features and predictions on them.

    features: {tap name: (N, C)}: each feature map averaged over the cells that show the image, not its padding.
    colours:  (N, 6): mean and standard deviation of red, green and blue, 0..1, padding left out.
    classes:  (N, K): objects of each class, or share of the pixels; None if the model's predictions mean nothing.
    numbers:  {what: (N,)}: statistics of the predictions of each image, nan where it has none.
    """

    features: Mapping[str, Numbers]
    colours: Numbers
    classes: Numbers | None
    numbers: Mapping[str, Numbers]


def choose_model(choice: ModelChoice, seed: int) -> GapModel:
    """Return the model in eval mode on its device.

    seed: of uninitialised parameters.

    Raises InputError: not exactly one of run and plugin, arch or weights missing, a size below 32, and errors of
    loading runs and building models.
    """
    if (choice.run is None) == (choice.plugin is None):
        raise InputError(
            "domain-gap: which model to look through? Give either --run RUN, or --plugin P --arch ARCH --weights W"
        )
    if choice.image_size is not None and not 32 <= choice.image_size <= MAX_SIDE:
        raise InputError(f"domain-gap: --image-size: expected 32 to {MAX_SIDE} pixels, got {shown(choice.image_size)}")
    if choice.run is None:
        return _pretrained(choice, seed)
    if choice.arch or choice.weights or choice.classes:
        raise InputError(
            "domain-gap: a run has its own arch, weights and classes. Remove --arch, --weights and --classes."
        )
    model = load(choice.run)
    return GapModel(
        title=f"{model.config.model.plugin} {model.config.model.arch}, run {choice.run}",
        adapter=model.adapter,
        fabric=model.fabric,
        classes=model.classes,
        image_size=choice.image_size or model.config.data.image_size,
        window=model.config.evaluate.window,
    )


def _pretrained(choice: ModelChoice, seed: int) -> GapModel:
    if not choice.plugin or not choice.arch or not choice.weights:
        raise InputError("domain-gap: --plugin goes with --arch and --weights (coco, imagenet, pretrained, a path)")
    plugin = get_plugin(choice.plugin)
    plugin.task_of(choice.arch)  # refuses an unknown name before anything is built
    names = choice.classes
    if len(names) == 1 and Path(names[0]).is_file():
        names = tuple(read_class_file(names[0]))
    classes = ClassMap(names, tuple(range(1, len(names) + 1))) if names else _NO_CLASSES
    size = choice.image_size or 640
    spec = BuildSpec(arch=choice.arch, weights=local_weights(choice.weights), classes=classes, image_size=size)
    model = open_model(plugin, spec, TrainSettings(epochs=1, precision="fp32", seed=seed))
    return GapModel(
        title=f"{choice.plugin} {choice.arch}, {model.report.summary()}",
        adapter=model.adapter,
        fabric=model.fabric,
        classes=classes,
        image_size=size,
        uninitialised=_uninitialised(model.report),
        no_predictions_because=_why_no_predictions(model.report) if names else "no --classes were given",
    )


def _uninitialised(report: WeightReport) -> tuple[str, ...]:
    return (*report.missing, *(entry.partition(":")[0] for entry in report.mismatched))


def _why_no_predictions(report: WeightReport) -> str:
    """Return why predictions mean nothing: a part of the model was never trained."""
    missing = _uninitialised(report)
    if missing:
        return f"no weights for {counted(len(missing), 'tensor')} of the model, such as {missing[0]}"
    fresh = [entry for entry in report.remapped if "fresh" in entry]
    return f"the weights do not know every class: {fresh[0]}" if fresh else ""


def uninitialised_taps(model: GapModel, inputs: Tensor) -> frozenset[str]:
    """Return the names of the taps whose features depend on a parameter that has no trained weights.

    inputs: (1, 3, H, W) float32, normalised. Which taps depend on what is asked of the graph of one forward pass: a
    tap's place among the modules does not tell.
    """
    import torch

    named = dict(model.adapter.module.named_parameters())
    fresh = [named[name] for name in model.uninitialised if name in named and named[name].requires_grad]
    if not fresh:
        return frozenset()
    with torch.enable_grad():
        features = model.adapter.features(inputs)
        found = set()
        for name, value in features.items():
            grads = torch.autograd.grad(value.sum(), fresh, retain_graph=True, allow_unused=True)
            if any(grad is not None for grad in grads):
                found.add(name)
    return frozenset(found)


def extract(model: GapModel, images: Sequence[ImageFile]) -> Iterator[tuple[int, ImageStatistics, frozenset[str]]]:
    """Yield statistics batch by batch: the number of images, their statistics, and the uninitialised taps.

    Raises InputError if an image cannot be read, RunError if a feature is not finite.
    """
    import torch

    from tlvision.data.batches import eval_batches, normalise
    from tlvision.data.dataset import EvalImages
    from tlvision.data.unlabelled import samples_of

    data = EvalImages(samples_of(images), model.adapter.input_spec, model.image_size, cache_bytes=0)
    model.adapter.module.eval()
    fresh: frozenset[str] | None = None
    for batch in eval_batches(data, batch_size=_BATCH):
        on_device = batch.to(model.fabric.device)
        inputs = normalise(on_device.images, model.adapter.input_spec)
        if fresh is None:
            fresh = uninitialised_taps(model, inputs[:1])
        regions = _regions(batch)
        with torch.no_grad(), model.fabric.autocast():
            features = model.adapter.features(inputs)
            canvas = (inputs.shape[2], inputs.shape[3])
            pooled = {name: _pool(value, regions, canvas) for name, value in features.items()}
            classes, numbers = (
                (None, {}) if model.no_predictions_because else _predictions(model, inputs, batch, regions)
            )
        yield (
            len(batch),
            ImageStatistics(features=pooled, colours=_colours(batch, regions), classes=classes, numbers=numbers),
            fresh,
        )


def join(parts: Sequence[ImageStatistics]) -> ImageStatistics:
    """Return the statistics of several batches as one."""
    first = parts[0]
    return ImageStatistics(
        features={name: np.concatenate([part.features[name] for part in parts]) for name in first.features},
        colours=np.concatenate([part.colours for part in parts]),
        classes=None if first.classes is None else np.concatenate([part.classes for part in parts]),
        numbers={name: np.concatenate([part.numbers[name] for part in parts]) for name in first.numbers},
    )


Region = tuple[float, float, float, float]
"""Top, bottom, left, right of the image inside its network input, in pixels."""


def _regions(batch: Batch) -> list[Region]:
    matrices = batch.matrices.numpy()
    return [
        (m[1, 2], m[1, 2] + m[1, 1] * height, m[0, 2], m[0, 2] + m[0, 0] * width)
        for m, (height, width) in zip(matrices, batch.sizes, strict=True)
    ]


def _cells(region: Region, canvas: tuple[int, int], shape: Sequence[int]) -> tuple[slice, slice]:
    """Return the rows and columns of a map that lie in the image; where none is whole, those with their centre in it.

    canvas: height and width of the network input. shape: height and width of the map over it.

    >>> _cells((8, 24, 2, 28), (32, 32), (4, 4))
    (slice(1, 3, None), slice(1, 3, None))
    """
    spans = []
    for low, high, length, count in zip(region[::2], region[1::2], canvas, shape, strict=True):
        step = length / count
        first, end = math.ceil(low / step - _RIM), math.floor(high / step + _RIM)
        if end <= first:
            first, end = math.ceil(low / step - 0.5), math.floor(high / step + 0.5)
        first = min(max(first, 0), count - 1)
        spans.append(slice(first, min(max(end, first + 1), count)))
    return spans[0], spans[1]


def _pool(maps: Tensor, regions: Sequence[Region], canvas: tuple[int, int]) -> Numbers:
    """Return (N, C) means of (N, C, h, w) over the cells of each image alone: padding would tell domains apart."""
    import torch

    rows = []
    for one, region in zip(maps.float(), regions, strict=True):
        down, across = _cells(region, canvas, maps.shape[2:])
        rows.append(one[:, down, across].mean(dim=(1, 2)))
    return np.asarray(torch.stack(rows).cpu().numpy(), np.float64)


def _colours(batch: Batch, regions: Sequence[Region]) -> Numbers:
    rows = []
    for image, region in zip(batch.images.cpu(), regions, strict=True):
        down, across = _cells(region, (image.shape[1], image.shape[2]), image.shape[1:])
        pixels = image[:, down, across].reshape(3, -1).numpy().astype(np.float64) / 255
        rows.append(np.concatenate([pixels.mean(axis=1), pixels.std(axis=1)]))
    return np.stack(rows)


def _predictions(
    model: GapModel, inputs: Tensor, batch: Batch, regions: Sequence[Region]
) -> tuple[Numbers, dict[str, Numbers]]:
    from tlvision.plugin import HasDenseLogits

    if isinstance(model.adapter, HasDenseLogits):
        return _dense(model, inputs, regions)
    from tlvision.inference.predict import to_original

    found = model.adapter.predict(inputs)
    classes, rows = [], []
    for one, matrix, (height, width) in zip(found, batch.matrices.numpy(), batch.sizes, strict=True):
        objects = to_original(replace(one, masks=None), matrix, width, height)
        kept = objects.scores >= MIN_SCORE
        classes.append(np.bincount(objects.labels[kept], minlength=len(model.classes)))
        rows.append(_object_numbers(objects.boxes[kept], objects.scores[kept], width * height))
    return np.asarray(classes, np.float64), _columns(rows)


def _object_numbers(boxes: Any, scores: Any, area: int) -> dict[str, float]:
    sides = np.sqrt((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]) / area)
    return {
        "objects in an image": float(len(scores)),
        "mean score": float(scores.mean()) if len(scores) else math.nan,
        "box side / image side": float(sides.mean()) if len(scores) else math.nan,
    }


def _dense(model: GapModel, inputs: Tensor, regions: Sequence[Region]) -> tuple[Numbers, dict[str, Numbers]]:
    from tlvision.inference.dense import dense_scores
    from tlvision.plugin import class_log_probabilities, score_kind

    kind = score_kind(model.adapter)
    scores = dense_scores(model.adapter, inputs, model.window)  # type: ignore[arg-type]
    canvas = (inputs.shape[2], inputs.shape[3])
    classes, rows = [], []
    for one, region in zip(scores, regions, strict=True):
        down, across = _cells(region, canvas, canvas)
        logs = class_log_probabilities(one[:, down, across].flatten(1), kind, dim=0)  # (K, pixels)
        chances = logs.exp()
        best, labels = chances.max(dim=0)
        classes.append(labels.bincount(minlength=len(logs)).cpu().numpy() / len(labels))
        entropy = float(-(chances * logs).sum(dim=0).mean()) / math.log(max(len(logs), 2))
        rows.append({"mean confidence": float(best.mean()), "entropy (0 to 1)": entropy})
    return np.asarray(classes, np.float64), _columns(rows)


def _columns(rows: Sequence[Mapping[str, float]]) -> dict[str, Numbers]:
    return {name: np.array([row[name] for row in rows], np.float64) for name in rows[0]}
