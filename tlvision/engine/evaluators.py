"""Build the evaluator of a run, for one dataset or two domains."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from tlvision.engine.datasets import label_options, measure_options
from tlvision.engine.limits import tiling

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from tlvision.config.schema import Config
    from tlvision.data.dataset import EvalImages
    from tlvision.data.unlabelled import UnlabelledImages
    from tlvision.engine.build import Run
    from tlvision.evaluation import Analysis
    from tlvision.inference.domain_evaluator import DomainEvaluator
    from tlvision.inference.evaluator import Evaluator
    from tlvision.tasks import Task
    from tlvision.types import Dataset


def build_evaluator(
    config: Config,
    task: Task,
    data: Dataset,
    *,
    out: Path,
    fabric: Fabric,
    workers: int,
    analysis: Analysis | None = None,
    images: EvalImages | None = None,
) -> Evaluator:
    """Return an evaluator of models for `task` on `data`; it writes its results into `out`.

    analysis: whether each evaluation says more than the headline numbers.
    images:   network inputs for the samples of `data`; None makes them from the image files.
    """
    from tlvision.inference.evaluator import Evaluator

    truth = task.ground_truth(data, label_options(config.data), out, write=fabric.is_global_zero)
    fabric.barrier()  # the first process has written it
    return Evaluator(
        task=task,
        data=data,
        ground_truth=truth,
        out=out,
        fabric=fabric,
        image_size=config.data.image_size,
        batch_size=config.evaluate.batch,
        workers=workers,
        measure=replace(measure_options(config), analysis=analysis),
        window=config.evaluate.window,
        tiles=tiling(config, task),
        cache_bytes=config.data.cache_bytes,
        images=images,
    )


def run_evaluator(
    parts: Run, unlabelled: UnlabelledImages | None, *, out: Path, fabric: Fabric, workers: int
) -> Evaluator | DomainEvaluator:
    """Return the evaluator of a run; with two domains it measures both, and unlabelled images."""
    from tlvision.inference.domain_evaluator import DomainEvaluator

    def build(data: Dataset, folder: Path) -> Evaluator:
        if fabric.is_global_zero:
            folder.mkdir(parents=True, exist_ok=True)
        fabric.barrier()
        return build_evaluator(parts.config, parts.task, data, out=folder, fabric=fabric, workers=workers)

    main = build(parts.val, out)
    if not parts.config.data.two_domains:
        return main
    return DomainEvaluator(
        main=main,
        domain="source" if parts.config.data.val is None else "target",
        source=None if parts.source_val is None else build(parts.source_val, out / "source_val"),
        input_spec=parts.adapter.input_spec,
        unlabelled=None if unlabelled is None else unlabelled.for_evaluation(),
        select=parts.select.name,
    )
