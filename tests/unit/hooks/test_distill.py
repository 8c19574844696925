"""A student learns from the model of another run: from features, class scores and objects."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import tlvision
from stripes import striped_data
from tiny import QUIET, config_of
from tlvision.data.batches import normalise
from tlvision.hooks import StepData
from tlvision.hooks.objectives.distill import Distill, pearson_distance, renormalised
from tlvision.hooks.run_model import RunModel
from tlvision.plugin import BuildSpec, InputSpec, Tap, get_plugin
from tlvision.types import ClassMap, InputError, Prediction

CLASSES = ClassMap.from_names(("a", "b", "c"))
IMAGES = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))


def build(arch: str, seed: int = 0, classes: ClassMap = CLASSES) -> Any:
    torch.manual_seed(seed)
    return get_plugin("toy").build(BuildSpec(arch=arch, weights="none", classes=classes, image_size=64))[0]


def model_of(adapter: Any, *, value: float | None = 0.5, classes: ClassMap = CLASSES) -> RunModel:
    return RunModel(adapter=adapter, classes=classes, folder="teacher", task="any", metric="bbox/AP", value=value)


def prepared(student: Any, teacher: RunModel, **options: Any) -> Distill:
    hook = Distill(run="teacher", **options)
    hook.open_run(teacher)
    hook.prepare(student)
    hook.before_fit(context_of(student))
    return hook


def context_of(student: Any, features: dict[str, Tensor] | None = None) -> Any:
    data = StepData(batch=None, images=IMAGES, features=features or {})  # type: ignore[arg-type]
    return SimpleNamespace(adapter=student, classes=CLASSES, step_data=data)


def seen(adapter: Any) -> dict[str, Tensor]:
    adapter.module.eval()
    return dict(adapter.features(IMAGES))


def test_the_distance_is_one_minus_the_correlation_of_each_channel() -> None:
    rng = np.random.default_rng(0)
    one, other = rng.normal(size=(2, 2, 3, 4, 5))
    other += one
    wanted = 1 - np.mean([np.corrcoef(one[:, c].ravel(), other[:, c].ravel())[0, 1] for c in range(3)])
    assert pearson_distance(torch.tensor(one), torch.tensor(other)).item() == pytest.approx(wanted, abs=1e-9)
    flat, varied = torch.zeros(1, 1, 2, 2), torch.tensor(one[:1, :1, :2, :2]).float()
    assert pearson_distance(flat, varied).item() == 1.0, "no variance, no correlation"
    still = flat.clone().requires_grad_()
    pearson_distance(still, varied).backward()
    assert still.grad is not None
    assert still.grad.isfinite().all(), "such as a pruned channel"
    assert pearson_distance(torch.cat([varied, varied], 1), torch.cat([varied, flat], 1)).item() < 1e-6


@pytest.mark.parametrize(
    "other",
    [
        InputSpec(mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.4)),
        InputSpec(mean=(103.5, 116.3, 123.7), channel_order="bgr", value_range=255.0),
    ],
)
def test_the_teacher_sees_the_images_as_its_own_spec_asks(other: InputSpec) -> None:
    pixels = torch.randint(0, 256, (2, 3, 64, 96), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    own = InputSpec(mean=(0.1, 0.2, 0.3), std=(0.5, 0.6, 0.7))
    found = renormalised(normalise(pixels, own), own, other)
    assert torch.allclose(found, normalise(pixels, other), atol=1e-4)
    assert renormalised(normalise(pixels, own), own, replace(own, multiple_of=64)).shape == (2, 3, 64, 128)
    assert renormalised(IMAGES, own, own) is IMAGES


def test_a_student_that_is_its_teacher_has_nothing_to_learn() -> None:
    for arch in ("tiny_detector", "tiny_segmenter"):
        student = build(arch)
        hook = prepared(student, model_of(build(arch)), taps=["all"])
        assert hook.taps == tuple(tap.name for tap in student.taps)
        losses = hook.losses(context_of(student, seen(student)))
        assert sorted(losses) == (["features", "scores"] if arch == "tiny_segmenter" else ["features"])
        assert all(abs(float(value.detach())) < 1e-5 for value in losses.values()), losses
        assert hook.module is None, "equal widths need no layer between"
        fewer = prepared(student, model_of(build(arch))).taps
        assert len(fewer) == len({tap.stride for tap in student.taps}) <= len(hook.taps)
        other = prepared(student, model_of(build(arch, seed=1))).losses(context_of(student, seen(student)))
        assert all(float(value.detach()) > 1e-3 for value in other.values()), other


def test_classes_are_matched_by_name_in_scores_and_objects() -> None:
    """A teacher with the classes in another order teaches the same."""
    student, teacher, order = build("tiny_segmenter"), build("tiny_segmenter", seed=1), [2, 0, 1]
    shuffled = build("tiny_segmenter", seed=1)
    dense = shuffled.dense_logits
    shuffled.dense_logits = lambda images: dense(images)[:, order]
    names = ClassMap.from_names([CLASSES.names[each] for each in order])
    pair = [
        prepared(student, model_of(each, classes=classes), features=0.0).losses(context_of(student))["scores"].item()
        for each, classes in ((teacher, CLASSES), (shuffled, names))
    ]
    assert pair[0] == pytest.approx(pair[1]) != 0
    learnt: list[Any] = []
    detector = build("tiny_detector")
    detector.loss = lambda images, targets: learnt.extend(targets) or {"own": images.sum() * 0}
    found = Prediction(
        boxes=torch.tensor([[4.0, 4.0, 30.0, 30.0], [1.0, 1.0, 9.0, 9.0]]),
        scores=torch.tensor([0.9, 0.1]),
        labels=torch.tensor([0, 1]),
    )
    master = build("tiny_detector", seed=1)
    master.predict = lambda images: [found, found]
    prepared(detector, model_of(master, classes=names), features=0.0, objects=1.0).losses(context_of(detector))
    assert [each.labels.tolist() for each in learnt] == [[2], [2]], "its first class is our third; one score is low"


def test_a_teacher_that_is_of_no_use_is_refused() -> None:
    student, teacher = build("tiny_detector"), build("tiny_detector", seed=1)
    for value, words in ((0.01, "bbox/AP 0.0100, and at least 0.05"), (None, "bbox/AP not measured")):
        with pytest.raises(InputError, match=words):
            Distill(run="teacher").open_run(model_of(teacher, value=value))
    hook = Distill(run="teacher")
    hook.open_run(model_of(teacher, classes=ClassMap.from_names(("a", "b", "d"))))
    with pytest.raises(InputError, match="different classes: only one of them has c, d"):
        hook.before_fit(context_of(student))

    class Coarse:
        taps = (Tap("far", "x", 8, 64),)

    hook = Distill(run="teacher")
    hook.open_run(model_of(SimpleNamespace(taps=Coarse.taps, module=nn.Identity())))
    with pytest.raises(InputError, match=r"teacher and student have no tap of the same stride"):
        hook.prepare(student)
    hook.words = ["finest"]
    with pytest.raises(InputError, match=r"the teacher has no tap of stride \d+, which the student's"):
        hook.prepare(student)


def test_features_of_another_width_pass_through_a_layer_that_is_trained() -> None:
    student, own = build("tiny_detector"), build("tiny_detector", seed=1)
    teacher = SimpleNamespace(
        module=own.module,
        input_spec=own.input_spec,
        taps=tuple(replace(tap, channels=2 * tap.channels) for tap in own.taps),
        features=lambda images: {name: torch.cat([each, each], 1) for name, each in own.features(images).items()},
    )
    hook = prepared(student, model_of(teacher))
    assert isinstance(hook.module, nn.ModuleDict)
    assert len(hook.module) == len(hook.taps) > 0
    student.module.train()
    loss = hook.losses(context_of(student, dict(student.features(IMAGES))))["features"]
    loss.backward()
    assert all(each.grad is not None for each in hook.module.parameters())
    assert any(each.grad is not None for each in student.module.parameters())
    assert not any(each.requires_grad or each.grad is not None for each in teacher.module.parameters())


@pytest.mark.slow
def test_a_run_learns_from_a_run_and_leaves_it_as_it_was(tiny_dataset: Path, tmp_path: Path) -> None:
    def config(name: str, hooks: tuple[Any, ...]) -> dict[str, Any]:
        made = config_of(tiny_dataset, tmp_path / name, epochs=6, hooks=hooks)
        made["model"]["arch"] = "tiny_segmenter"
        made["data"] = made["data"] | data
        return made

    data = striped_data(tmp_path / "stripes", 8)
    teacher = tlvision.train(config("teacher", (QUIET,))).run
    weights = (teacher / "checkpoints" / "best" / "model.safetensors").read_bytes()
    student = tlvision.train(config("student", ({"distill": {"run": str(teacher)}}, QUIET))).run
    rows = [json.loads(line) for line in (student / "log.jsonl").read_text().splitlines()]
    losses = [row["losses"]["distill/scores"] for row in rows if "losses" in row]
    assert losses[-1] < losses[0] / 2
    assert (teacher / "checkpoints" / "best" / "model.safetensors").read_bytes() == weights
    with pytest.raises(InputError, match="learns from the run 'nowhere', and there is no such folder"):
        tlvision.train(config("lost", ({"distill": {"run": "nowhere"}}, QUIET)))
    detector = config_of(tiny_dataset, tmp_path / "detector", hooks=({"distill": {"run": str(teacher)}}, QUIET))
    with pytest.raises(InputError, match="whose task is 'semantic', not 'detect'"):
        tlvision.train(detector)
