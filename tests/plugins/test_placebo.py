"""Every objective does nothing where there is nothing to do, and nothing to the others.

Placebo: with one domain on both sides, what compares domains or models is 0; what learns from the target alone does
not depend on the source. With a weight of 0 a run ends with the bits of a run without the hook. And a hook's losses are
the same bits whatever other hooks there are, in whatever order.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from fast import first_fast
from tlvision.data.batches import Batch, Views
from tlvision.hooks import Context, Duration, Hook, ObjectiveHook, initial_plan
from tlvision.hooks.features.discriminators import MapDiscriminator
from tlvision.hooks.generators import own_generators
from tlvision.hooks.observers.ema import Ema
from tlvision.hooks.observers.pseudo_labels import PseudoLabels
from tlvision.hooks.registry import BUILT_IN, hook_class
from tlvision.hooks.run_model import LearnsFromRun, RunModel
from tlvision.plugin import BuildSpec, HasDenseLogits, WeightReport, get_plugin, map_groups
from tlvision.synthetic.shapes import Shape, draw
from tlvision.training.losses import batch_losses
from tlvision.types import ClassMap

TINY = Path(__file__).parent / "openmmlab" / "configs"
TRANSFORMERS = Path(__file__).parent / "transformers" / "configs"
TOYS = {"toy detector": ("toy", "tiny_detector"), "toy segmenter": ("toy", "tiny_segmenter")}
# A small architecture of each make; with batch norm, and dropout or drop path in some.
OTHERS = {
    "mmdet two-stage": ("mmdet", str(TINY / "faster-rcnn_tiny.py")),
    "mmseg": ("mmseg", "deeplabv3plus_mobilenet-v2-d16"),
    "mmseg mask classifier": ("mmseg", str(TINY / "mask2former_tiny.py")),
    "smp": ("smp", "unet/resnet18"),
    "smp drop path": ("smp", "fpn/efficientnet-b0"),
    "torchvision two-stage": ("torchvision", "fasterrcnn_mobilenet_v2_fpn_light"),
    "transformers": ("transformers", str(TRANSFORMERS / "rt_detr_v2.json")),
    "transformers tokens": ("transformers", str(TRANSFORMERS / "yolos.json")),
    "transformers semantic": ("transformers", str(TRANSFORMERS / "segformer.json")),
    "transformers masks": ("transformers", str(TRANSFORMERS / "mask2former.json")),
    "yolo": ("yolo", "yolov8n"),
}
FAMILIES = [
    *(pytest.param(family, id=name) for name, family in TOYS.items()),
    *(pytest.param(family, id=name, marks=pytest.mark.slow) for name, family in OTHERS.items()),
]
ONE = first_fast([(family,) for family in (*TOYS.values(), *OTHERS.values())])
"""The same, for tests of hooks that fit every model: the fast suite runs them on one."""
LABELS: dict[str, Any] = {"burn_in": 0.0, "ramp": 0.0, "threshold": 0.0005, "adaptive": True}
"""Of the hook `pseudo_labels`, which adds no loss of its own."""
OBJECTIVES: dict[str, dict[str, Any]] = {
    "class_mix": {},
    "coral": {},
    "distill": {"run": "the model itself", "objects": 1.0, "threshold": 0.0005},
    "domain_adversarial": {"hidden": 16},
    "entropy": {"weight": 1.0, "ramp": 0.0},
    "feature_distance": {"taps": ["all"]},
    "l2_sp": {},
    "masked_consistency": {},
    "mean_teacher": {"distillation": "both"},
    "mmd": {},
}
FROM_THE_TARGET_ALONE = ("entropy", "masked_consistency", "mean_teacher")
SIZE = 64
CLASSES = ClassMap.from_names(("rectangle", "ellipse", "rhombus"))


def test_no_objective_is_forgotten() -> None:
    found = [name for name in BUILT_IN if issubclass(hook_class(name), ObjectiveHook)]
    assert found
    assert sorted(found) == sorted(OBJECTIVES)


def fitting(family: tuple[str, str]) -> list[str]:
    """Return the objectives that the family has the capabilities for."""
    adapter = build(family)
    return [name for name in OBJECTIVES if all(isinstance(adapter, needed) for needed in hook_class(name).needs)]


def make(name: str, *, weight: float | None = None) -> Any:
    settings = dict(OBJECTIVES[name])
    if weight is not None:
        weights = {"l2_sp": ("alpha", "beta"), "distill": ("features", "scores", "objects")}.get(name, ("weight",))
        settings |= dict.fromkeys(weights, weight)
    return hook_class(name)(**settings)


def build(family: tuple[str, str]) -> Any:
    torch.manual_seed(0)
    plugin, arch = family
    return get_plugin(plugin).build(BuildSpec(arch=arch, weights="none", classes=CLASSES, image_size=SIZE))[0]


class Run:
    """A few steps of training, by hand, of a fresh model with some objectives."""

    def __init__(self, family: tuple[str, str], hooks: Sequence[ObjectiveHook]) -> None:
        self.adapter = build(family)
        module, self.hooks = self.adapter.module, list(hooks)
        for hook in self.hooks:
            if isinstance(hook, LearnsFromRun):
                hook.open_run(
                    RunModel(adapter=build(family), classes=CLASSES, folder="run", task="detect", metric="x", value=1.0)
                )
            with own_generators("prepare", hook.key()):
                hook.prepare(self.adapter)
        plan = initial_plan(module, map_groups(module, self.adapter.groups), Duration(1, 10))
        self.context = Context(
            adapter=self.adapter, plan=plan, classes=CLASSES, run_dir=Path(), is_main=True, duration=plan.duration,
            weights=WeightReport(source="file", loaded=tuple(module.state_dict())), select="x", wants_teacher=True,
        )  # fmt: skip
        self.ema = Ema(decay=0.5, warmup=0)
        moments: list[Hook] = [self.ema, PseudoLabels(**LABELS), *self.hooks]
        for hook in moments:
            hook.before_fit(self.context)
        owned = [p for hook in self.hooks if hook.module is not None for p in hook.module.parameters()]
        groups = [{"params": list(module.parameters())}, *([{"params": owned}] if owned else [])]
        self.optimizer = torch.optim.AdamW(groups, lr=1e-3, weight_decay=0.1)
        torch.manual_seed(1)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        return batch_losses(self.context, self.hooks, batch)

    def step(self, batch: Batch) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        torch.stack([value.float() for value in self.losses(batch).values()]).sum().backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_([p for group in self.optimizer.param_groups for p in group["params"]], 1.0)
        self.optimizer.step()
        self.context.step += 1
        self.ema.after_step(self.context)

    def state(self) -> dict[str, Tensor]:
        """Return weights, buffers, the average of both, and what the optimizer knows of the model."""
        found = {f"model.{name}": tensor for name, tensor in self.adapter.module.state_dict().items()}
        found |= {f"ema.{name}": tensor for name, tensor in (self.ema.evaluation_weights() or {}).items()}
        for number, parameter in enumerate(self.adapter.module.parameters()):
            for name, value in self.optimizer.state.get(parameter, {}).items():
                found[f"optimizer.{number}.{name}"] = torch.as_tensor(value)
        return {name: tensor.detach().clone() for name, tensor in found.items()} | {"drawn": torch.rand(3)}


def pictures(count: int, seed: int) -> list[Any]:
    rng = np.random.default_rng(seed)
    drawn = []
    for number in range(count):
        x, y = rng.uniform(0, 0.5, 2)
        shapes = [Shape(int(rng.integers(3)), (x, y, x + 0.45, y + 0.4))]
        drawn.append(draw((SIZE, SIZE), shapes, seed=int(rng.integers(1 << 30)), background=number % 3))
    return drawn


def make_batch(seed: int, *, labelled: int = 4, unlabelled: int = 2, same: bool = False) -> Batch:
    """Return a batch of one domain: other images on both sides, or the same ones."""
    own = pictures(labelled, seed)
    others = own[:unlabelled] if same else pictures(unlabelled, seed + 1000)
    images, weak = (
        torch.from_numpy(np.stack([one.image for one in each])).permute(0, 3, 1, 2) for each in (own, others)
    )
    valid = torch.ones(unlabelled, SIZE, SIZE, dtype=torch.bool)
    valid[0, :, -SIZE // 4 :] = False
    return Batch(
        images=images,
        boxes=torch.from_numpy(np.concatenate([one.boxes for one in own])),
        labels=torch.from_numpy(np.concatenate([one.labels for one in own])),
        counts=tuple(len(one.boxes) for one in own),
        image_ids=tuple(range(labelled)),
        matrices=torch.eye(3, dtype=torch.float64).repeat(labelled, 1, 1),
        sizes=((SIZE, SIZE),) * labelled,
        semantic=torch.from_numpy(np.stack([one.semantic for one in own])),
        unlabelled=Views(weak=weak, strong=weak.flip(1), image_ids=tuple(range(unlabelled)), valid=valid),
    )


def value_of(losses: dict[str, Tensor], key: str) -> dict[str, float]:
    return {name: float(value.detach()) for name, value in losses.items() if name.startswith(f"{key}/")}


@pytest.mark.parametrize("family", FAMILIES)
def test_the_same_images_on_both_sides_have_no_distance(family: tuple[str, str]) -> None:
    run = Run(family, [make(name) for name in ("coral", "mmd", "feature_distance", "l2_sp")])
    losses = run.losses(make_batch(0, same=True))
    assert value_of(losses, "coral")["coral/distance"] == pytest.approx(0.0, abs=1e-6)
    assert -1 < value_of(losses, "mmd")["mmd/distance"] < 1e-4, "the unbiased estimate is below 0 for equal sets"
    assert value_of(losses, "feature_distance") == pytest.approx(
        {"feature_distance/labelled": 0.0, "feature_distance/unlabelled": 0.0}, abs=1e-9
    )
    assert value_of(losses, "l2_sp") == {"l2_sp/distance": 0.0}


@pytest.mark.parametrize("family", ONE)
def test_other_images_of_one_domain_have_no_distance_beyond_the_sampling_error(family: tuple[str, str]) -> None:
    """With fewer unlabelled images than labelled ones as well: a batch's size is no part of a domain."""
    run = Run(family, [make("mmd")])
    found = [value_of(run.losses(make_batch(10 * seed)), "mmd")["mmd/distance"] for seed in range(12)]
    print("mmd", [round(value, 4) for value in found])
    assert abs(mean(found)) < 4 * stdev(found) / len(found) ** 0.5 + 1e-3


@pytest.mark.parametrize("family", ONE)
def test_a_discriminator_cannot_tell_a_domain_from_itself(family: tuple[str, str]) -> None:
    run = Run(family, [make("domain_adversarial")])
    hook = run.hooks[0]
    (tap,) = hook.taps
    judge: Any = hook.module["at_" + tap.replace(".", "_")]  # type: ignore[index]
    assert isinstance(judge, MapDiscriminator)
    optimizer = torch.optim.AdamW(judge.parameters(), lr=1e-2)
    rates = []
    for step in range(30):
        losses = run.losses(make_batch(10 * step))
        if step >= 22:  # images that it has not learnt from yet
            data = run.context.step_data
            sides = (data.features[tap], data.unlabelled_features[tap])
            scale = torch.cat([side.flatten() for side in sides]).square().mean().sqrt()
            verdicts = [judge(side.detach() / scale) > 0 for side in sides]
            rates.append((1 - verdicts[0].float().mean() + verdicts[1].float().mean()) / 2)
        optimizer.zero_grad(set_to_none=True)
        losses["domain_adversarial/image"].backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    accuracy = float(torch.stack(rates).mean())
    print("accuracy", round(accuracy, 3))
    assert abs(accuracy - 0.5) < 0.12


@pytest.mark.parametrize("family", FAMILIES)
def test_what_learns_from_the_target_alone_does_not_look_at_the_source(family: tuple[str, str]) -> None:
    names = [name for name in fitting(family) if name in FROM_THE_TARGET_ALONE]
    batch = make_batch(0)
    other = copy.copy(batch)
    object.__setattr__(other, "images", 255 - batch.images)
    found = []
    for each in (batch, other):
        run = Run(family, [make(name) for name in names])
        losses = run.losses(each)
        found.append([value_of(losses, name) for name in names])
    assert found[0] == found[1]
    assert all(sum(values.values()) > 0 for values in found[0]), found[0]


def end(family: tuple[str, str], hooks: Sequence[ObjectiveHook]) -> dict[str, Tensor]:
    run = Run(family, hooks)
    for seed in range(3):
        run.step(make_batch(seed))
    return run.state()


def different(one: dict[str, Tensor], other: dict[str, Tensor]) -> list[str]:
    assert one.keys() == other.keys()
    return [name for name, value in one.items() if not torch.equal(value, other[name])]


@pytest.mark.parametrize("family", FAMILIES)
def test_with_a_weight_of_0_a_run_ends_with_the_bits_of_one_without_the_hook(family: tuple[str, str]) -> None:
    without, names = end(family, []), fitting(family)
    losses = Run(family, [make(name, weight=0.0) for name in names]).losses(make_batch(0))
    # A gradient of 0 is not none: an optimiser would decay parameters that the model's own loss does not reach.
    assert not [name for name, value in losses.items() if "/" in name and value.requires_grad]
    assert not different(end(family, [make(name, weight=0.0) for name in names]), without)
    assert different(end(family, [make(names[-1])]), without), "with a weight it does something"


@pytest.mark.slow
@pytest.mark.parametrize("family", [*TOYS.values(), OTHERS["yolo"]], ids=[*TOYS, "yolo"])
def test_so_it_does_with_each_hook_by_itself(family: tuple[str, str]) -> None:
    without = end(family, [])
    for name in fitting(family):
        assert not different(end(family, [make(name, weight=0.0)]), without), name
        assert different(end(family, [make(name)]), without), name


@pytest.mark.parametrize("family", FAMILIES)
def test_a_hooks_losses_do_not_depend_on_other_hooks_or_the_order(family: tuple[str, str]) -> None:
    names, batch = fitting(family), make_batch(0)
    alone = {}
    for name in names:
        losses = Run(family, [make(name)]).losses(batch)
        alone |= value_of(losses, name)
        own = {key: float(value.detach()) for key, value in losses.items() if "/" not in key}
    for order in (names, names[::-1]):
        losses = Run(family, [make(name) for name in order]).losses(batch)
        together = {key: float(value.detach()) for key, value in losses.items()}
        assert together == alone | own


def test_every_model_here_is_of_a_kind_that_the_tests_are_about() -> None:
    kinds = [isinstance(build(family), HasDenseLogits) for family in TOYS.values()]
    assert kinds == [False, True]
