"""Measure the pseudo-labels of a run's final teacher against labels of the target."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tlvision.config.schema import DatasetSettings
from tlvision.engine.datasets import label_options, read_dataset
from tlvision.engine.evaluate import evaluate_run
from tlvision.engine.model import LoadedModel, load
from tlvision.evaluation import PixelQuality, pseudo_label_quality
from tlvision.files.json_files import read_object, write_json


def write_pseudo_label_quality(run: Path, oracle: DatasetSettings) -> dict[str, Any]:
    """Predict the images of `oracle` with the best weights of a run, and compare over thresholds.

    Writes `pseudo_labels.json` into the run's folder, where a second call finds it, and returns its content: see
    `tlvision.evaluation.pseudo_label_quality`, and `PixelQuality` for label maps.
    """
    path = run / "pseudo_labels.json"
    if not path.exists():
        model = load(run)
        quality = _of_pixels(model, oracle) if "label_map" in model.task.labels else _of_objects(run, oracle)
        write_json(path, quality, nan="null")
    return read_object(path, "Remove it, and it is computed again.")


def _of_objects(run: Path, oracle: DatasetSettings) -> dict[str, Any]:
    assert oracle.json_ is not None
    _, folder = evaluate_run(run, Path(oracle.json_), Path(oracle.images))
    restricted = folder / "ground_truth.json"  # where data.classes leaves some out
    truth = restricted if restricted.exists() else Path(oracle.json_)
    return pseudo_label_quality(truth, folder / "predictions.json")


def _of_pixels(model: LoadedModel, oracle: DatasetSettings) -> dict[str, Any]:
    from tlvision.data.dataset import EvalImages
    from tlvision.data.targets import semantic_map
    from tlvision.inference.predict import predict_confidence

    config = model.config
    options = label_options(config.data)
    everything = oracle.model_copy(update={"subset": None})  # as for objects
    data = read_dataset(model.task, everything, "oracle", options, model.classes, require_objects=False)
    background = model.task.targets(data, options).background
    images = EvalImages(data.samples, model.adapter.input_spec, config.data.image_size)
    quality = PixelQuality(model.classes.names)
    for sample, labels, confidence in predict_confidence(
        model.adapter,
        images,
        fabric=model.fabric,
        batch_size=config.evaluate.batch,
        workers=0,
        window=config.evaluate.window,
    ):
        quality.add(semantic_map(sample, background), labels, confidence)
    return quality.result()
