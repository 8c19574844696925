from __future__ import annotations

import pytest
import torch
from torch import nn
from torchvision.ops import FrozenBatchNorm2d

from tlvision.plugin import LayerGroup, Tap, capture, map_groups, record, tap_features
from tlvision.plugin.groups import is_norm
from tlvision.types import InputError


def make_model() -> nn.Module:
    model = nn.Module()
    model.stem = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2, padding=1), nn.BatchNorm2d(4))
    model.head = nn.Conv2d(4, 2, 1)
    model.scale = nn.Parameter(torch.ones(1))
    model.register_buffer("steps", torch.zeros(1))
    model.forward = lambda x: model.head(model.stem(x)) * model.scale  # type: ignore[method-assign]
    return model


GROUPS = (LayerGroup("stem", "stem", ("stem",)), LayerGroup("head", "head", ("head", "scale", "steps")))


def test_every_parameter_buffer_and_module_is_sorted_into_its_group() -> None:
    mapped = map_groups(make_model(), GROUPS)
    assert mapped.parameters == {
        "scale": 1, "stem.0.weight": 0, "stem.0.bias": 0, "stem.1.weight": 0, "stem.1.bias": 0,
        "head.weight": 1, "head.bias": 1,
    }  # fmt: skip
    assert mapped.buffers == {
        "steps": 1, "stem.1.running_mean": 0, "stem.1.running_var": 0, "stem.1.num_batches_tracked": 0
    }  # fmt: skip
    assert mapped.modules == {"stem": 0, "stem.0": 0, "stem.1": 0, "head": 1}


@pytest.mark.parametrize(
    ("groups", "expected"),
    [
        (GROUPS[:1], r"no group has 4 tensors: scale, head\.weight, head\.bias, steps"),
        ((*GROUPS, LayerGroup("more", "head", ("head.weight",))), r"'head\.weight' is in 'head' and in 'more'"),
        ((LayerGroup("stem", "stem", ("stm",)),), r"the model has no 'stm'\. Did you mean 'stem'"),
        ((GROUPS[0], GROUPS[0]), "'stem' is used more than once"),
    ],
    ids=["orphans", "twice", "unknown", "same name"],
)
def test_what_is_no_partition_is_an_error_that_names_it(groups: tuple[LayerGroup, ...], expected: str) -> None:
    with pytest.raises(InputError, match=expected):
        map_groups(make_model(), groups)


def test_identity_counts_and_not_names() -> None:
    """A tensor that two modules share is one tensor, in one group."""
    model = make_model()
    model.twin = nn.Conv2d(4, 2, 1)
    model.twin.weight = model.head.weight  # type: ignore[union-attr,assignment]
    groups = (GROUPS[0], GROUPS[1], LayerGroup("twin", "head", ("twin",)))
    with pytest.raises(InputError, match=r"'twin\.weight' is in 'head' and in 'twin'"):
        map_groups(model, groups)


def test_taps_capture_what_the_named_module_gives_and_leave_no_hook_behind() -> None:
    model = make_model()
    images = torch.rand(2, 3, 8, 12)
    features = tap_features(model, [Tap("c1", "stem", 4, 2)], images)
    assert torch.equal(features["c1"], model.stem(images))  # type: ignore[operator]
    assert features["c1"].shape == (2, 4, 4, 6)
    assert features["c1"].requires_grad
    with pytest.raises(RuntimeError), capture(model, [Tap("c1", "stem", 4, 2)]):
        raise RuntimeError
    assert not any(module._forward_hooks for module in model.modules())


def test_a_tap_of_a_module_that_does_not_exist_names_the_nearest() -> None:
    with (
        pytest.raises(InputError, match=r"tap 'c1': the model has no module 'stam'\. Did you mean 'stem'"),
        capture(make_model(), [Tap("c1", "stam", 4, 2)]),
    ):
        pass


class RmsScale(nn.Module):
    """A leaf with a scale, which is no norm by its name."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(4))


class OwnRMSNorm(RmsScale):
    """The same under a name that says norm."""


class FusedScale(nn.LayerNorm):
    """One of torch's under another name."""


class NormedBlock(nn.Module):
    """A container that is called a norm and is none."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)


class FrozenScaleNorm(nn.LayerNorm):
    """Called frozen, with parameters all the same."""


NORMS = [
    nn.BatchNorm1d(4), nn.BatchNorm2d(4), nn.BatchNorm3d(4), nn.SyncBatchNorm(4), nn.GroupNorm(2, 4), nn.LayerNorm(4),
    nn.InstanceNorm2d(4), nn.RMSNorm(4), OwnRMSNorm(), FusedScale(4),
]  # fmt: skip
OTHERS = [nn.Linear(4, 4), nn.Dropout(), nn.Sequential(nn.BatchNorm1d(4)), RmsScale(), NormedBlock()]


@pytest.mark.parametrize("module", NORMS, ids=lambda module: type(module).__name__)
def test_every_kind_of_norm_is_known(module: nn.Module) -> None:
    assert is_norm(module)


@pytest.mark.parametrize("module", OTHERS, ids=lambda module: type(module).__name__)
def test_what_is_no_norm_is_not_taken_for_one(module: nn.Module) -> None:
    assert not is_norm(module)


def test_norms_are_listed_by_their_parameters_and_bare_ones_by_name() -> None:
    model = nn.ModuleDict(
        {
            "linear": nn.Linear(4, 4),
            "batch": nn.BatchNorm1d(4),
            "deep": nn.Sequential(nn.Conv1d(4, 4, 1), nn.LayerNorm(4)),
            "no_scale": nn.BatchNorm1d(4, affine=False),  # statistics alone
            "no_state": nn.InstanceNorm1d(4),  # neither parameters nor statistics: nothing of it can move
            "own": OwnRMSNorm(),
        }
    )
    mapped = map_groups(model, (LayerGroup("all", "head", tuple(model)),))
    assert mapped.norms == {"batch.weight", "batch.bias", "deep.1.weight", "deep.1.bias", "own.weight"}
    assert mapped.bare_norms == ("no_scale",)


def test_a_norm_that_is_frozen_by_its_class_is_nothing_to_freeze() -> None:
    model = nn.Sequential(FrozenBatchNorm2d(4), nn.BatchNorm2d(4), FrozenScaleNorm(4))
    assert is_norm(model[0])
    mapped = map_groups(model, (LayerGroup("all", "head", ("0", "1", "2")),))
    assert len(mapped.buffers) == 4 + 3
    assert mapped.bare_norms == ()
    assert mapped.norms == {"1.weight", "1.bias", "2.weight", "2.bias"}, "what has parameters can be trained"


def test_a_norm_that_two_modules_share_is_listed_once_by_its_first_name() -> None:
    model = make_model()
    model.again = model.stem
    assert map_groups(model, GROUPS).norms == {"stem.1.weight", "stem.1.bias"}


def test_the_output_of_a_part_is_recorded_whatever_it_is_and_no_longer_than_asked() -> None:
    module = nn.Sequential(nn.ModuleDict({"a": nn.MaxPool1d(2, return_indices=True)}))
    part, image = module.get_submodule("0.a"), torch.arange(4.0)[None]
    with record(module, "0.a") as outputs:
        first, second = part(image), part(image)
    part(image)
    assert len(outputs) == 2
    assert outputs[0] is first
    assert outputs[1] is second
    with record(module, None) as outputs:
        part(image)
    assert outputs == []
    with pytest.raises(AttributeError, match="b"), record(module, "0.b"):
        pass
