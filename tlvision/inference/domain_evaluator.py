"""Evaluate a run with two domains: with the target's labels, the source's, and without labels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch

from tlvision.data.batches import eval_batches, normalise, shown
from tlvision.files.json_files import write_json
from tlvision.inference.unlabelled_metrics import MEASURES, measure_unlabelled
from tlvision.tasks import Metric, Task
from tlvision.types import InputError, InputSpec, nearest

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from tlvision.data.dataset import EvalImages
    from tlvision.evaluation import Analysis
    from tlvision.inference.evaluator import Evaluator
    from tlvision.plugin import Adapter
    from tlvision.types import Dataset

Domain = Literal["target", "source"]
MOST_IMAGES = 64
"""Unlabelled images that are evaluated after each epoch; all of them would cost more than the labelled evaluation."""


@dataclass(slots=True, kw_only=True)
class DomainEvaluator:
    """Evaluates on `data.val`, on `data.source_val` and on unlabelled images, and keeps their names apart.

    main:       evaluates `data.val`, or `data.source_val` if there is none, for the run's folder.
    domain:     which of the two that is; "target/bbox/AP" is a metric of `data.val`, "source/bbox/AP" one of the other.
    source:     evaluates `data.source_val` as well, or None.
    input_spec, unlabelled: unlabelled images in the model's format, or None.
    select:     the metric that chooses the checkpoint; it is written into metrics.json, with what it has used.
    """

    main: Evaluator
    domain: Domain
    source: Evaluator | None
    input_spec: InputSpec
    unlabelled: EvalImages | None
    select: str

    @property
    def data(self) -> Dataset:
        """Return the images of `main`."""
        return self.main.data

    @property
    def ground_truth(self) -> Path:
        """Return the ground truth of `main`."""
        return self.main.ground_truth

    @property
    def left_out(self) -> int:
        """Return how many detections of `main` had a class that its ground truth does not have."""
        return self.main.left_out

    def evaluate(self, adapter: Adapter, weights: Mapping[str, Tensor] | None = None) -> dict[str, float]:
        """Return all metrics, flat, each under its domain: "target/bbox/AP", "source/bbox/AP", "unlabelled/stability".

        Writes what `main` writes, with "source", "unlabelled" and "selection" added to metrics.json.
        """
        found = {f"{self.domain}/{name}": value for name, value in self.main.evaluate(adapter, weights).items()}
        extra: dict[str, Any] = {"domain": self.domain}
        if self.source is not None:
            found |= {f"source/{name}": value for name, value in self.source.evaluate(adapter, weights).items()}
            extra["source"] = self.source.metrics
        if self.unlabelled is not None:
            measures = self._measures(adapter, self.unlabelled, weights)
            found |= {f"unlabelled/{name}": value for name, value in measures.items()}
            extra["unlabelled"] = measures
        extra["selection"] = {"by": self.select, "uses_target_labels": self.select.startswith("target/")}
        self.main.metrics = {**self.main.metrics, **extra}
        if self.main.fabric.is_global_zero:
            write_json(self.main.out / "metrics.json", self.main.metrics, indent=1, nan="null")
        return found

    def _measures(self, adapter: Adapter, images: EvalImages, weights: Mapping[str, Tensor] | None) -> dict[str, float]:
        """Return the metrics of the first process. Hooks select checkpoints by them, and all processes must agree."""
        fabric = self.main.fabric
        measures: dict[str, float] = {}
        if fabric.is_global_zero:
            batches, valid = self._some_unlabelled(images)
            measures = measure_unlabelled(adapter, batches, weights, valid)
        return fabric.broadcast(measures, src=0) if fabric.world_size > 1 else measures

    def _some_unlabelled(self, images: EvalImages) -> tuple[list[Tensor], list[Tensor]]:
        """Return normalised batches of the first images, always the same ones, and where each shows its images."""
        taken: list[Tensor] = []
        valid: list[Tensor] = []
        device = self.main.fabric.device
        for batch in eval_batches(images, batch_size=self.main.batch_size):
            left = MOST_IMAGES - sum(len(each) for each in taken)
            if left <= 0:
                break
            inputs = batch.to(device).images[:left]
            places = zip(batch.matrices[:left].numpy(), batch.sizes[:left], strict=True)
            where = np.stack([shown(matrix, size, inputs.shape[-2:]) for matrix, size in places])
            taken.append(normalise(inputs, self.input_spec))
            valid.append(torch.from_numpy(where).to(device))
        return taken, valid

    def analyse(self, results: Path, analysis: Analysis) -> dict[str, Any]:
        """Return what the headline numbers of `main` do not say; see `Evaluator.analyse`."""
        return self.main.analyse(results, analysis)

    def copy_results(self, folder: Path) -> None:
        """Copy the files of the last evaluation of `main` into `folder`."""
        self.main.copy_results(folder)


def resolve_domain_select(
    select: str, task: Task, *, main: Domain, source: bool, unlabelled: bool, most: int = 100
) -> Metric:
    """Return the metric that `evaluate.select` names in a run with two domains.

    auto is the stability on unlabelled images, else the source's own metric: never labels of the target, which
    are missing in practice. The source's metric may fall while a model adapts, and then selects the least adapted one.

    Raises InputError if there is no such metric, or a target metric is asked for without the domain's name.

    >>> from tlvision.tasks import get_task
    >>> resolve_domain_select("auto", get_task("detect"), main="target", source=True, unlabelled=True).name
    'unlabelled/stability'
    """
    domains = sorted({main, *(["source"] if source else [])})
    metrics = task.metrics(most)
    found = [replace(each, name=f"{domain}/{each.name}") for domain in domains for each in metrics]
    found += [Metric(f"unlabelled/{name}") for name in MEASURES] if unlabelled else []
    known = {metric.name: metric for metric in found}
    if select == "auto":
        return known["unlabelled/stability" if unlabelled else f"source/{metrics[0].name}"]
    if select in {metric.name for metric in metrics}:
        raise InputError(
            f"evaluate.select: '{select}' is ambiguous with two domains. Choose one of: "
            f"{', '.join(name for name in known if name.endswith(select) or name.startswith('unlabelled'))}, or auto"
        )
    if select not in known:
        raise InputError(f"evaluate.select: this run has no metric '{select}'.{nearest(select, ['auto', *known])}")
    return known[select]
