from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import tlvision
from tlvision.hooks import StepData
from tlvision.hooks.objectives.entropy import Entropy, mean_entropy
from tlvision.plugin import LayerGroup
from tlvision.types import ClassMap, InputError


def test_entropy_is_that_of_a_slow_loop() -> None:
    torch.manual_seed(0)
    scores = 3 * torch.randn(2, 3, 4, 5)
    total = 0.0
    for image in scores.double():
        for y in range(4):
            for x in range(5):
                powers = [math.exp(v) for v in image[:, y, x].tolist()]
                total -= sum(p / sum(powers) * math.log(p / sum(powers)) for p in powers) / math.log(3)
    assert mean_entropy(scores).item() == pytest.approx(total / 40, rel=1e-5)


def test_it_is_1_where_nothing_is_known_and_finite_where_all_is() -> None:
    assert mean_entropy(torch.zeros(1, 4, 2, 2)).item() == pytest.approx(1.0)
    sure = torch.tensor([1e4, -1e4]).reshape(1, 2, 1, 1).requires_grad_()
    value = mean_entropy(sure)
    value.backward()  # type: ignore[no-untyped-call]
    assert value.item() == 0.0
    assert sure.grad is not None
    assert sure.grad.isfinite().all()


def test_what_the_scores_are_is_declared_and_padding_does_not_count() -> None:
    sure, unsure = torch.tensor([1.0, 0.0])[:, None], torch.tensor([0.5, 0.5])[:, None]
    chances = torch.cat([sure, unsure], dim=1)[None, :, None]  # (1, 2, 1, 2)
    assert mean_entropy(chances, "probabilities").item() == pytest.approx(0.5, abs=1e-5)
    valid = torch.tensor([[[True, False]]])
    assert mean_entropy(chances, "probabilities", valid).item() == pytest.approx(0.0, abs=1e-5)
    assert mean_entropy(chances, "probabilities", ~valid).item() == pytest.approx(1.0)
    assert mean_entropy(chances, "probabilities", valid & ~valid).item() == 0.0


def test_the_weight_rises_over_the_ramp() -> None:
    hook = Entropy(start=0.2, ramp=0.4)
    assert [round(hook.risen(p), 6) for p in (0.0, 0.2, 0.3, 0.6, 1.0)] == [0, 0, 0.25, 1, 1]
    assert [Entropy(start=0.5, ramp=0.0).risen(p) for p in (0.4, 0.5)] == [0, 1]


class Dense:
    """Its scores are its images."""

    def __init__(self) -> None:
        self.module = torch.nn.BatchNorm2d(2)

    def dense_logits(self, images: torch.Tensor) -> torch.Tensor:
        return images

    @property
    def groups(self) -> tuple[LayerGroup, ...]:
        return ()


def data_of(weak: Any) -> Any:
    return StepData(batch=None, images=weak, unlabelled=SimpleNamespace(weak=weak))  # type: ignore[arg-type]


def test_only_the_weak_views_count_and_only_from_the_start() -> None:
    hook = Entropy(weight=0.5, start=0.5, ramp=0.25)
    weak = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0)).requires_grad_()
    context: Any = SimpleNamespace(adapter=Dense(), step_data=data_of(weak), progress=0.625)
    losses = hook.losses(context)
    assert [*losses] == ["unlabelled"]
    assert losses["unlabelled"].item() == pytest.approx(0.25 * mean_entropy(weak).item())
    context.progress = 0.49
    assert hook.losses(context) == {}


def test_the_statistics_of_norms_stay_as_they_are() -> None:
    adapter = Dense()
    adapter.dense_logits = adapter.module.forward  # type: ignore[method-assign]
    context: Any = SimpleNamespace(adapter=adapter, step_data=data_of(torch.randn(1, 2, 3, 4)), progress=1.0)
    Entropy().losses(context)
    assert adapter.module.running_mean.tolist() == [0.0, 0.0]
    assert adapter.module.training


def test_a_single_class_is_refused() -> None:
    with pytest.raises(InputError, match="needs two classes to choose between, and the data has 'road' only"):
        Entropy().before_fit(SimpleNamespace(classes=ClassMap(("road",), (1,))))  # type: ignore[arg-type]


@pytest.mark.slow
def test_a_run(segment_config: dict[str, Any], losses_of: Callable[[Path, str], list[dict[str, float]]]) -> None:
    segment_config["hooks"].append({"entropy": {"weight": 0.1, "start": 0.5, "ramp": 0.0}})
    steps = losses_of(tlvision.train(segment_config).run, "entropy")
    assert [set(step) for step in steps] == [set(), set(), {"entropy/unlabelled"}, {"entropy/unlabelled"}]
    assert all(0 < value <= 0.1 for step in steps for value in step.values())


@pytest.mark.slow
def test_a_resumed_run_ends_with_the_same_bits(
    segment_config: dict[str, Any], assert_resumes: Callable[[dict[str, Any], int], None]
) -> None:
    segment_config["hooks"].append({"entropy": {"weight": 1.0}})
    assert_resumes(segment_config, 3)


def test_a_run_without_unlabelled_images_is_refused(
    segment_config: dict[str, Any],
) -> None:
    segment_config["hooks"].append("entropy")
    for change, expected in (
        ({"data": {"target": None}}, "'entropy' learns from unlabelled images. Set data.target"),
        ({"data": {"batch": {"labelled": 4}}}, "'entropy' needs unlabelled images in each batch"),
    ):
        config = {**segment_config, "data": segment_config["data"] | change["data"]}
        with pytest.raises(InputError, match=expected):
            tlvision.train(config)


def test_a_detector_is_refused(adapt_config: dict[str, Any]) -> None:
    adapt_config["hooks"].append("entropy")
    with pytest.raises(
        InputError,
        match=r"'entropy' needs HasDenseLogits, which this model of plugin 'toy' does not offer; models of .*smp",
    ):
        tlvision.train(adapt_config)
