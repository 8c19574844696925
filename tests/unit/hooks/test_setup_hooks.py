from __future__ import annotations

import pytest
import torch
from torch import nn

from tlvision.hooks import Duration, Plan, initial_plan
from tlvision.hooks.setup.freeze import Freeze
from tlvision.hooks.setup.layerwise_lr import LayerwiseLr
from tlvision.plugin import BuildSpec, LayerGroup, get_plugin, map_groups
from tlvision.types import ClassMap, InputError


def make_model() -> nn.Module:
    """Eleven layers, so that names such as model.1 and model.10 both exist."""
    model = nn.Module()
    model.model = nn.ModuleList(nn.Linear(2, 2) for _ in range(11))
    return model


def make_plan(module: nn.Module | None = None) -> Plan:
    module = module or make_model()
    groups = (
        LayerGroup("stem", "stem", ("model.0",)),
        LayerGroup("backbone.stage1", "backbone", ("model.1", "model.2", "model.3")),
        LayerGroup("neck", "neck", tuple(f"model.{i}" for i in range(4, 10))),
        LayerGroup("head", "head", ("model.10",)),
    )
    return initial_plan(module, map_groups(module, groups), Duration(epochs=2, steps_per_epoch=5))


def frozen(plan: Plan) -> set[str]:
    return {name for name, row in plan.parameters.items() if row.trainable_from is None}


def test_through_freezes_from_the_input_up_to_and_including_the_group() -> None:
    plan = Freeze(through="backbone.stage1").setup(make_plan())
    assert frozen(plan) == {f"model.{i}.{kind}" for i in range(4) for kind in ("weight", "bias")}


def test_roles_groups_and_globs_add_up() -> None:
    plan = Freeze(roles=["stem"], groups=["neck"], parameters=["model.10.bias"]).setup(make_plan())
    assert frozen(plan) == {f"model.{i}.{kind}" for i in (0, 4, 5, 6, 7, 8, 9) for kind in ("weight", "bias")} | {
        "model.10.bias"
    }


def test_a_glob_is_anchored_so_that_model_1_is_not_model_10() -> None:
    assert frozen(Freeze(parameters=["model.1.*"]).setup(make_plan())) == {"model.1.weight", "model.1.bias"}


@pytest.mark.parametrize(
    ("hook", "expected"),
    [
        (Freeze(through="backbone.stage2"), r"no layer group 'backbone.stage2'. Did you mean 'backbone.stage1'\?"),
        (Freeze(groups=["stm"]), r"no layer group 'stm'. Did you mean 'stem'\?"),
        (Freeze(roles=["backbon"]), r"no layer group has the role 'backbon'. Did you mean 'backbone'\?"),
        (Freeze(parameters=["model.1"]), r"no parameter matches 'model.1'"),
        (Freeze(through="head"), r"no parameter is left to train"),
    ],
)
def test_a_selection_that_matches_nothing_or_everything_is_an_error(hook: Freeze, expected: str) -> None:
    with pytest.raises(InputError, match=expected):
        hook.setup(make_plan())


def test_a_freeze_that_names_nothing_is_an_error() -> None:
    with pytest.raises(InputError, match="no parameter is selected"):
        Freeze()


def test_layerwise_lr_decays_once_for_each_group_behind() -> None:
    plan = LayerwiseLr(decay=0.5, minimum=0.2).setup(make_plan())
    scales = [plan.parameters[f"model.{i}.weight"].lr_scale for i in (0, 1, 4, 10)]
    assert scales == [0.2, 0.25, 0.5, 1.0]


def test_heads_beside_each_other_have_the_full_rate() -> None:
    module = make_model()
    groups = (
        LayerGroup("backbone", "backbone", ("model.0",)),
        LayerGroup("neck", "neck", tuple(f"model.{i}" for i in range(1, 7))),
        LayerGroup("regions", "head", ("model.7",), reads=("neck",)),
        LayerGroup("shared", "head", ("model.8",), reads=("neck",)),
        LayerGroup("boxes", "head", ("model.9",), reads=("shared",)),
        LayerGroup("masks", "head", ("model.10",), reads=("shared", "backbone")),
    )
    mapped = map_groups(module, groups)
    assert mapped.distances() == (3, 2, 0, 1, 0, 0)
    plan = LayerwiseLr(decay=0.5).setup(initial_plan(module, mapped, Duration(2, 5)))
    scales = [plan.parameters[f"model.{i}.weight"].lr_scale for i in (0, 1, 7, 8, 9, 10)]
    assert scales == [0.125, 0.25, 1.0, 0.5, 1.0, 1.0]
    later = LayerGroup("boxes", "head", ("model.9",), reads=("maks",))
    with pytest.raises(InputError, match=r"'boxes' reads 'maks', which is no group before it"):
        map_groups(module, (*groups[:4], later, groups[5]))


@pytest.mark.parametrize(
    ("plugin", "arch"),
    [
        ("torchvision", "maskrcnn_mobilenet_v2_fpn"),
        pytest.param("mmdet", "mask-rcnn_r18_fpn_8xb8-amp-lsj-200e_coco", marks=pytest.mark.slow),
        pytest.param("mmseg", "bisenetv2_fcn_4xb4-160k_cityscapes-1024x1024", marks=pytest.mark.slow),
        ("mmseg", "deeplabv3plus_mobilenet-v2-d16"),
        ("smp", "unet/mobilenet_v2"),
        ("yolo", "yolov8n-seg"),
    ],
)
def test_every_head_of_a_family_has_the_full_rate(plugin: str, arch: str) -> None:
    classes = ClassMap.from_names(("a", "b"))
    adapter, _ = get_plugin(plugin).build(BuildSpec(arch=arch, weights="none", classes=classes, image_size=128))
    groups = map_groups(adapter.module, adapter.groups)
    distances = dict(zip(groups.groups, groups.distances(), strict=True))
    assert {distance for group, distance in distances.items() if group.role == "head"} == {0}
    body = [distance for group, distance in distances.items() if group.role != "head"]
    assert body == list(range(len(body), 0, -1))


def test_hooks_that_scale_multiply_and_say_why() -> None:
    plan = LayerwiseLr(decay=0.5).setup(LayerwiseLr(decay=0.5).setup(make_plan()))
    row = plan.parameters["model.4.weight"]
    assert row.lr_scale == 0.25
    assert row.reasons == ("layerwise_lr x 0.5", "layerwise_lr x 0.5")


def test_a_constant_of_the_model_is_never_trained() -> None:
    module = make_model()
    module.get_parameter("model.10.weight").requires_grad_(False)
    plan = make_plan(module)
    assert frozen(plan) == {"model.10.weight"}
    assert frozen(plan.train_from(["model.10.weight"], 3, "unfreeze")) == {"model.10.weight"}


def test_the_plan_is_not_changed_by_a_hook() -> None:
    plan = make_plan()
    Freeze(roles=["stem"]).setup(plan)
    assert frozen(plan) == set()


def test_boundaries_are_the_steps_at_which_the_trained_set_changes() -> None:
    plan = make_plan()
    plan = plan.train_from(plan.in_groups([0]), 6, "later").train_from(plan.in_groups([1]), 4, "later")
    assert plan.boundaries() == (0, 4, 6)
    assert torch.tensor([plan.parameters["model.0.bias"].trainable_at(step) for step in (0, 5, 6, 9)]).tolist() == [
        False,
        False,
        True,
        True,
    ]
