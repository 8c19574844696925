"""The evaluator that a task wants, and the ground truth that it compares with."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tlvision.engine.datasets import Dataset, background_of, class_names
from tlvision.files.names import stems_in
from tlvision.formats.coco import CocoData
from tlvision.formats.label_maps import LabelMapData, write_label_map
from tlvision.types import IGNORE_INDEX, ClassMap, Sample

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from tlvision.config.schema import Config
    from tlvision.data.unlabelled import UnlabelledImages
    from tlvision.engine.build import Parts
    from tlvision.inference.domain_evaluator import DomainEvaluator
    from tlvision.inference.evaluator import Evaluator
    from tlvision.inference.semantic_evaluator import SemanticEvaluator
    from tlvision.plugin import Task


def build_evaluator(
    config: Config, task: Task, data: Dataset, *, classes: ClassMap, out: Path, fabric: Fabric, workers: int
) -> Evaluator | SemanticEvaluator:
    """Return what evaluates a model for `task` on `data`, and writes its results into `out`."""
    if task == "semantic":
        from tlvision.inference.semantic_evaluator import SemanticEvaluator

        return SemanticEvaluator(
            data=data,
            ground_truth=_label_maps(config, data, out, fabric),
            out=out,
            fabric=fabric,
            image_size=config.data.image_size,
            batch_size=config.evaluate.batch,
            workers=workers,
            window=config.evaluate.window,
            boundary=config.evaluate.boundary,
            cache_bytes=config.data.cache_bytes,
        )
    from tlvision.inference.evaluator import Evaluator

    assert not isinstance(data, LabelMapData)
    return Evaluator(
        task=task,
        data=data,
        ground_truth=_json(config, data, classes, out, fabric),
        out=out,
        fabric=fabric,
        image_size=config.data.image_size,
        batch_size=config.evaluate.batch,
        workers=workers,
        cache_bytes=config.data.cache_bytes,
        max_detections=config.evaluate.max_detections,
    )


def run_evaluator(
    parts: Parts, unlabelled: UnlabelledImages | None, *, out: Path, fabric: Fabric, workers: int
) -> Evaluator | SemanticEvaluator | DomainEvaluator:
    """Return what evaluates a run: on one dataset, or where there are two domains on all that is known of them."""
    from tlvision.inference.domain_evaluator import DomainEvaluator

    def build(data: Dataset, folder: Path) -> Evaluator | SemanticEvaluator:
        if fabric.is_global_zero:
            folder.mkdir(parents=True, exist_ok=True)
        fabric.barrier()
        return build_evaluator(
            parts.config, parts.task, data, classes=parts.classes, out=folder, fabric=fabric, workers=workers
        )

    main = build(parts.val, out)
    if not parts.config.data.two_domains:
        return main
    return DomainEvaluator(
        main=main,
        domain="source" if parts.config.data.val is None else "target",
        source=None if parts.source_val is None else build(parts.source_val, out / "source_val"),
        input_spec=parts.adapter.input_spec,
        unlabelled=None if unlabelled is None else unlabelled.for_evaluation(),
        select=parts.select,
    )


def _json(config: Config, data: CocoData, classes: ClassMap, out: Path, fabric: Fabric) -> Path:
    """Return the json to evaluate against: the user's own, or a copy without what training leaves out as well.

    That is the classes that are not in `data.classes`, and annotations that cannot be used: the size of an image that
    the json does not tell is known here, and not to an evaluation of the two files.
    """
    from tlvision.formats.coco import restrict_classes

    if class_names(config.data) is None and not data.unusable:
        return data.path
    copy = out / "ground_truth.json"
    if fabric.is_global_zero:
        restrict_classes(data.path, copy, classes.names, without=data.unusable)
    fabric.barrier()
    return copy


def _label_maps(config: Config, data: Dataset, out: Path, fabric: Fabric) -> Path:
    """Return the folder to evaluate against: the user's own where its values are class indices, else what they mean."""
    if isinstance(data, LabelMapData) and all(_is_index_map(data, sample) for sample in data.samples):
        return data.path
    from tlvision.data.targets import semantic_map

    folder = out / "ground_truth"
    background = background_of(data, config.data)
    if fabric.is_global_zero:
        stems = stems_in([sample.path for sample in data.samples], data.images_dir)
        for sample, stem in zip(data.samples, stems, strict=True):
            path = folder / f"{stem}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            write_label_map(path, semantic_map(sample, background))
    fabric.barrier()
    return folder


def _is_index_map(data: LabelMapData, sample: Sample) -> bool:
    file = sample.label_map
    if file is None or file.coloured or file.values.get(IGNORE_INDEX) != IGNORE_INDEX:
        return False
    stem = sample.path.relative_to(data.images_dir).with_suffix(".png")
    return file.path == data.path / stem and all(value == index for value, index in file.values.items())
