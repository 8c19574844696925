"""mean_teacher, masked_consistency and class_mix: their equations, whole runs with them, and resuming."""

from __future__ import annotations

import json
from copy import deepcopy
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import tlvision
from interrupt import interrupted
from tlvision.config.load import load_config
from tlvision.data.batches import Views
from tlvision.engine.build import build_run
from tlvision.hooks import StepData
from tlvision.hooks.objectives.class_mix import ClassMix, _half_of_the_classes
from tlvision.hooks.objectives.masked_consistency import MaskedConsistency
from tlvision.hooks.objectives.mean_teacher import MeanTeacher
from tlvision.hooks.observers.pseudo_labels import PseudoLabels
from tlvision.plugin import BuildSpec, get_plugin
from tlvision.types import IGNORE_INDEX, ClassMap, InputError, RunError

CLASSES = ClassMap(("dark", "light"), (0, 1))
QUIET = {"log": {"progress": "none", "tensorboard": "off", "every": 1}}


def build(arch: str) -> Any:
    torch.manual_seed(0)
    adapter, _ = get_plugin("toy").build(BuildSpec(arch=arch, weights="none", classes=CLASSES, image_size=64))
    return adapter


def make_context(arch: str, progress: float = 1.0, **settings: Any) -> Any:
    """Return a context whose pseudo-labels have `settings`."""
    adapter = build(arch)
    teacher = deepcopy(adapter)
    with torch.no_grad():
        for parameter in teacher.module.parameters():
            parameter.mul_(1.1)
    teacher.module.eval()
    adapter.module.eval()  # or dropout would make every pass another one
    weak = torch.randn(2, 3, 64, 64)
    context = SimpleNamespace(
        adapter=adapter, teacher=teacher, classes=CLASSES, progress=progress, measures={}, notices=[],
        step_data=StepData(
            unlabelled=Views(weak=weak, strong=weak + 0.1 * torch.randn_like(weak), image_ids=(1, 2)),
            images=torch.randn(2, 3, 64, 64),
            batch=SimpleNamespace(semantic=torch.randint(0, 2, (2, 64, 64), dtype=torch.uint8)),  # type: ignore[arg-type]
        ),
    )  # fmt: skip
    if arch == "tiny_detector":
        context.step_data.batch = SimpleNamespace(counts=(1, 1))  # type: ignore[assignment]
    PseudoLabels(**settings).before_fit(context)  # type: ignore[arg-type]
    return context


def test_nothing_in_the_burn_in_and_then_a_ramp() -> None:
    for kind in (MeanTeacher, MaskedConsistency, ClassMix):
        hook = kind()
        sums = []
        for progress in (0.49, 0.75, 1.0):
            context = make_context("tiny_segmenter", progress, burn_in=0.5, ramp=0.5, threshold=0.0)
            torch.manual_seed(0)
            losses = hook.losses(context)
            sums.append(sum(loss.item() for loss in losses.values()) if losses else None)
        assert sums[0] is None
        assert sums[1] == pytest.approx(0.5 * sums[2], rel=1e-4)  # type: ignore[operator]
        assert sums[2] > 0  # type: ignore[operator]


@pytest.mark.parametrize("kind", [MeanTeacher, MaskedConsistency])
@pytest.mark.parametrize("background", [0.0, 1.0])
def test_an_image_without_pseudo_labels_teaches_nothing_or_that_it_is_empty(kind: Any, background: float) -> None:
    (loss,) = kind().losses(make_context("tiny_detector", threshold=1.0, background=background)).values()
    assert bool(loss > 0) == (background == 1)


@pytest.mark.parametrize("setting", [{"background": 0.3}, {"max_pseudo_label_ratio": 1.0}])
def test_settings_that_count_objects_are_refused_for_label_maps(setting: dict[str, float]) -> None:
    make_context("tiny_detector", **setting)
    with pytest.raises(InputError, match="this model labels pixels"):
        make_context("tiny_segmenter", **setting)


def test_hard_labels_of_label_maps_are_the_teachers_best_classes() -> None:
    context = make_context("tiny_segmenter", threshold=0.55)
    hook = MeanTeacher(weight=3.0)
    hook.prepare(context.adapter)
    with torch.no_grad():
        scores = context.teacher.dense_logits(context.step_data.unlabelled.weak)
        value, label = torch.nn.functional.interpolate(scores, size=(64, 64), mode="bilinear").softmax(1).max(1)
    label[value < 0.55] = IGNORE_INDEX
    share = float((value >= 0.55).float().mean())
    assert 0.05 < share < 0.95
    student = context.adapter.dense_logits(context.step_data.unlabelled.strong)
    expected = torch.nn.functional.cross_entropy(
        torch.nn.functional.interpolate(student, size=(64, 64), mode="bilinear"), label, ignore_index=IGNORE_INDEX
    )
    assert hook.losses(context)["hard"].item() == pytest.approx(3.0 * share * expected.item(), rel=1e-3)
    assert context.measures["pseudo_labels/share"] == pytest.approx(share)


def test_soft_labels_are_a_divergence_that_is_zero_for_equal_models() -> None:
    context = make_context("tiny_segmenter")
    hook = MeanTeacher(distillation="soft", temperature=2.0)
    hook.prepare(context.adapter)
    with torch.no_grad():
        teacher = (context.teacher.dense_logits(context.step_data.unlabelled.weak) / 2).softmax(1)
        student = (context.adapter.dense_logits(context.step_data.unlabelled.strong) / 2).softmax(1)
    expected = 4 * (teacher * (teacher / student).log()).sum(1).mean()
    found = hook.losses(context)
    assert found.keys() == {"soft"}
    assert teacher.shape[-1] == 64
    assert found["soft"].item() == pytest.approx(expected.item(), rel=1e-3)
    context.adapter.module.load_state_dict(context.teacher.module.state_dict())
    context.adapter.module.eval()
    weak = context.step_data.unlabelled.weak
    context.step_data.unlabelled = Views(weak=weak, strong=weak, image_ids=(1, 2))
    assert hook.losses(context)["soft"].item() == pytest.approx(0.0, abs=1e-6)


def test_soft_distillation_of_a_detector_compares_its_feature_maps() -> None:
    context = make_context("tiny_detector")
    hook = MeanTeacher(distillation="soft", taps=["stride 8", "coarsest"])
    hook.prepare(context.adapter)
    with torch.no_grad():
        names = [tap.name for tap in hook._seen]
        assert len(names) == 2
        wanted, seen = (
            context.teacher.features(context.step_data.unlabelled.weak),
            context.adapter.features(context.step_data.unlabelled.strong),
        )
        parts = [float(((seen[n] - wanted[n]) ** 2).mean() / (wanted[n] ** 2).mean()) for n in names]
    assert hook.losses(context)["soft"].item() == pytest.approx(sum(parts) / 2, rel=1e-4)
    with pytest.raises(InputError, match="needs the tap 'c99'"):
        MeanTeacher(distillation="both", taps=["c99"]).prepare(context.adapter)


def test_masks_hide_whole_patches_at_the_asked_ratio() -> None:
    hook = MaskedConsistency(ratio=0.7, patch=16)
    torch.manual_seed(0)
    visible = hook._visible(torch.zeros(50, 3, 64, 72))
    assert visible.shape == (50, 1, 64, 72)
    assert set(visible.unique().tolist()) == {0.0, 1.0}
    for top in range(0, 64, 16):
        for left in range(0, 72, 16):
            patch = visible[:, :, top : top + 16, left : left + 16]
            assert (patch == patch[:, :, :1, :1]).all()
    assert float(visible.mean()) == pytest.approx(0.3, abs=0.04)


def test_half_of_the_classes_rounded_up_and_nothing_of_what_is_ignored() -> None:
    label_map = torch.tensor([[0, 0, 3], [5, 5, IGNORE_INDEX]])
    torch.manual_seed(0)
    seen = set()
    for _ in range(40):
        pasted = _half_of_the_classes(label_map)
        classes = frozenset(label_map[pasted].tolist())
        assert len(classes) == 2
        assert not pasted[1, 2]
        assert all(bool(pasted[label_map == value].all()) for value in classes)
        seen.add(classes)
    assert seen == {frozenset({0, 3}), frozenset({0, 5}), frozenset({3, 5})}
    assert not _half_of_the_classes(torch.full((2, 2), IGNORE_INDEX)).any()


def test_a_mixture_has_pixels_and_labels_of_both(monkeypatch: pytest.MonkeyPatch) -> None:
    context = make_context("tiny_segmenter", threshold=0.0)
    context.step_data.batch.semantic[:, :, 32:] = 1
    context.step_data.batch.semantic[:, :, :32] = 0
    images, label_maps, share = ClassMix()._mix(context, context.pseudo_labels)
    assert share == 1.0
    with torch.no_grad():
        scores = context.teacher.dense_logits(context.step_data.unlabelled.weak)
        said = torch.nn.functional.interpolate(scores, size=(64, 64), mode="bilinear").argmax(1)
    for number in range(2):
        own = (images[number] == context.step_data.images[number]).all(dim=0)
        other = (images[number] == context.step_data.unlabelled.strong[number]).all(dim=0)
        assert (own ^ other).all()
        assert int(own.sum()) == 32 * 64
        assert torch.equal(label_maps[number][own], context.step_data.batch.semantic[number].long()[own])
        assert torch.equal(label_maps[number][other], said[number][other])


def test_inputs_of_two_sizes_cannot_be_mixed() -> None:
    context = make_context("tiny_segmenter")
    context.step_data.images = torch.zeros(2, 3, 64, 96)
    with pytest.raises(RunError, match=r"\(64, 96\) and unlabelled ones \(64, 64\)"):
        ClassMix()._mix(context, context.pseudo_labels)


# Whole runs.


def detector(tiny_config: dict[str, Any], tiny_dataset: Path, hooks: list[Any]) -> dict[str, Any]:
    config = deepcopy(tiny_config)
    config["data"]["target"] = {"images": str(tiny_dataset / "images")}
    config["data"]["batch"]["unlabelled"] = 3
    config["data"]["augment"] = {"mosaic": 0, "strong": 0.5}
    config["train"] |= {"epochs": 3, "lr": 3e-3}
    config["hooks"] = [{"ema": {"decay": 0.9, "warmup": 0}}, *hooks, QUIET]
    return config


ALL: list[dict[str, dict[str, Any]]] = [
    {"pseudo_labels": {"threshold": 0.02, "burn_in": 0.3, "adaptive": True}},
    {"mean_teacher": {"distillation": "both"}},
    {"masked_consistency": {}},
]


def segmenter(folder: Path) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    for name in ("images", "masks", "target"):
        (folder / name).mkdir()
    for number in range(8):
        labels = np.zeros((50, 70), np.uint8)
        labels[:, int(rng.integers(20, 50)) :] = 1
        for kind, shift in (("images", 0), ("target", 40)):
            image = np.where(labels[..., None] == 1, 190, 60) + shift + rng.integers(-20, 20, (50, 70, 3))
            Image.fromarray(image.clip(0, 255).astype(np.uint8)).save(folder / kind / f"{number}.png")
        Image.fromarray(labels).save(folder / "masks" / f"{number}.png")
    labelled = {"images": str(folder / "images"), "masks": str(folder / "masks")}
    return {
        "model": {"plugin": "toy", "arch": "tiny_segmenter", "weights": "none"},
        "data": {
            "classes": ["dark", "light"],
            "train": labelled,
            "val": labelled,
            "target": {"images": str(folder / "target")},
            "image_size": 96,
            "batch": {"labelled": 4, "unlabelled": 4},
            "augment": {"mosaic": 0, "crop": 64},
        },
        "train": {"epochs": 4, "lr": 3e-3, "warmup": 0, "device": "cpu"},
        "hooks": [{"ema": {"decay": 0.9, "warmup": 0}}, *ALL, {"class_mix": {"threshold": 0.5}}, QUIET],
        "run": {"out": str(folder / "run")},
    }


def lines(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "log.jsonl").read_text(encoding="utf-8").splitlines()]


@pytest.mark.slow
def test_a_detector_learns_from_unlabelled_images(tiny_config: dict[str, Any], tiny_dataset: Path) -> None:
    result = tlvision.train(detector(tiny_config, tiny_dataset, ALL))
    steps = [line for line in lines(result.run) if line["kind"] == "step"]
    early, late = steps[0]["losses"], steps[-1]["losses"]
    assert not any("teacher" in name for name in early)
    assert {"mean_teacher/hard", "mean_teacher/soft", "masked_consistency/masked"} <= late.keys()
    assert late["mean_teacher/hard"] > 0
    assert steps[-1]["measures"]["pseudo_labels/labels"] > 0
    assert "pseudo_labels/threshold/dark" in steps[-1]["measures"]


@pytest.mark.slow
def test_a_segmenter_learns_from_unlabelled_images(tmp_path: Path) -> None:
    result = tlvision.train(segmenter(tmp_path))
    late = [line for line in lines(result.run) if line["kind"] == "step"][-1]["losses"]
    wanted = {"mean_teacher/hard", "mean_teacher/soft", "masked_consistency/masked", "class_mix/mixed"}
    assert wanted <= late.keys()
    assert all(late[name] > 0 for name in wanted)


@pytest.mark.slow
@pytest.mark.parametrize("step", [1, 4, 6])
def test_an_interrupted_run_ends_with_the_same_bits(
    tiny_config: dict[str, Any], tiny_dataset: Path, tmp_path: Path, step: int
) -> None:
    limited = {"pseudo_labels": ALL[0]["pseudo_labels"] | {"max_pseudo_label_ratio": 2.0, "background": 0.01}}
    config = detector(tiny_config, tiny_dataset, [limited, ALL[1], {"masked_consistency": {"threshold": 0.05}}])
    config["run"]["out"] = str(tmp_path / "straight")
    straight = tlvision.train(config).run
    config["run"]["out"] = str(tmp_path / "broken")
    with interrupted(step):
        tlvision.train(config)
    broken = tlvision.train(config, resume=tmp_path / "broken").run
    for name in ("model", "optimizer", "hook.ema", "hook.pseudo_labels"):
        one, other = (
            load_file(str(run / "checkpoints" / "last" / f"{name}.safetensors")) for run in (straight, broken)
        )
        assert one.keys() == other.keys() != set()
        assert all(torch.equal(one[key], other[key]) for key in one), name
    states = [(run / "checkpoints/last/hook.pseudo_labels.json").read_text() for run in (straight, broken)]
    assert states[0] == states[1]
    assert json.loads(states[0])["monitors"].keys() == {"masked_consistency", "pseudo_labels"}


def test_the_teacher_is_the_average_with_its_buffers(tiny_config: dict[str, Any], tiny_dataset: Path) -> None:
    from tlvision.engine import train as runs
    from tlvision.hooks import Context, ObserverHook

    seen: list[tuple[dict[str, Any], dict[str, Any]]] = []

    class Look(ObserverHook):
        def after_step(self, context: Context) -> None:
            assert context.teacher is not None
            assert not context.teacher.module.training
            teacher, student = context.teacher.module.state_dict(), context.adapter.module.state_dict()
            seen.append(({k: v.clone() for k, v in teacher.items()}, {k: v.clone() for k, v in student.items()}))

    make = runs.build_session

    def watched(*arguments: Any) -> Any:
        session = make(*arguments)
        session.hooks.append(Look())
        return session

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runs, "build_session", watched)
        run = tlvision.train(detector(tiny_config, tiny_dataset, ALL[:2])).run
    assert len(seen) == 9
    moving = [name for name in seen[0][0] if "running_mean" in name]
    assert moving
    for (before, _), (after, student) in pairwise(seen):
        for name in after:
            if after[name].is_floating_point():
                torch.testing.assert_close(after[name], 0.9 * before[name] + 0.1 * student[name])
    best = load_file(str(run / "checkpoints" / "best" / "model.safetensors"))
    assert any(all(torch.equal(best[name], teacher[name]) for name in best) for teacher, _ in seen)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"target": None}, "'pseudo_labels' learns from unlabelled images. Set data.target"),
        (
            {"batch": {"labelled": 4}},
            "'pseudo_labels' needs unlabelled images in each batch. Set data.batch.unlabelled",
        ),
        ({"ema": None}, "'pseudo_labels' needs a teacher, which is the average that the hook 'ema' keeps"),
        (
            {"floor": None},
            "model.score_floor: 'pseudo_labels' also uses predictions of low confidence, .*. Remove it",
        ),
        ({"hooks": None}, "data.batch.unlabelled is 3, but no hook learns from unlabelled images"),
        (
            {"class_mix": None},
            "'class_mix' needs HasDenseLogits, which this model of plugin 'toy' does not offer; models of .*smp",
        ),
        ({"empty": None}, "holds no image"),
        ({"labels": None}, "'mean_teacher' learns from pseudo-labels, but the hook 'pseudo_labels' is missing. Add "),
    ],
)
def test_what_does_not_fit_together_is_refused_before_anything_is_trained(
    tiny_config: dict[str, Any], tiny_dataset: Path, tmp_path: Path, change: dict[str, Any], expected: str
) -> None:
    config = detector(tiny_config, tiny_dataset, [{"pseudo_labels": {}}, {"mean_teacher": {}}])
    if "ema" in change:
        config["hooks"] = config["hooks"][1:]
    elif "floor" in change:
        config["model"]["score_floor"] = 0.1
    elif "hooks" in change:
        config["hooks"] = [QUIET]
    elif "class_mix" in change:
        config["hooks"].append("class_mix")
    elif "labels" in change:
        del config["hooks"][1]
    elif "empty" in change:
        (tmp_path / "nothing").mkdir()
        config["data"]["target"] = {"images": str(tmp_path / "nothing")}
    else:
        config["data"] |= change
    with pytest.raises(InputError, match=expected):
        tlvision.train(config)


def test_pseudo_labels_that_nobody_learns_from_are_noted(tiny_config: dict[str, Any], tiny_dataset: Path) -> None:
    notes = [
        build_run(load_config(detector(tiny_config, tiny_dataset, [{"pseudo_labels": {}}, *students]))).notes
        for students in ([], ["mean_teacher"])
    ]
    assert ["'pseudo_labels' has no effect" in " ".join(found) for found in notes] == [True, False]
