from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from frozen_bits import copied, moved, table
from tlvision.bridges import plain
from tlvision.bridges.hooks import reason_against
from tlvision.bridges.models import children_as_groups
from tlvision.hooks import Duration, ObjectiveHook, initial_plan
from tlvision.hooks.registry import BUILT_IN, hook_class
from tlvision.hooks.setup.layerwise_lr import LayerwiseLr
from tlvision.plugin import LayerGroup, Tap, map_groups
from tlvision.training.optim import build_optimizer
from tlvision.training.settings import TrainSettings
from tlvision.types import InputError, RunError

FREEZE_FIRST = {"freeze": {"groups": ["first"]}}


class Small(nn.Module):
    """Two blocks with batch norm and dropout, and a head."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Dropout(0.5))
        self.second = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4))
        self.head = nn.Conv2d(4, 1, 1)

    def forward(self, images: Tensor) -> Tensor:
        scores: Tensor = self.head(self.second(self.first(images)))
        return scores


def sgd(model: nn.Module, lr: float = 0.1) -> torch.optim.SGD:
    return torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9, weight_decay=0.01)


def batch(seed: int = 0) -> Tensor:
    return torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(seed))


def steps(
    model: nn.Module, optimizer: torch.optim.Optimizer, number: int, add: Callable[[Tensor], Tensor] = lambda loss: loss
) -> list[float]:
    """Take `number` steps as people write them, and return the losses."""
    losses = []
    for at in range(number):
        model.train()
        loss = add(model(batch(at)).square().mean())
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss.detach()))
    return losses


def test_what_is_frozen_is_bit_equal_at_the_end_and_reported() -> None:
    model = Small()
    before, optimizer = copied(model), sgd(model)
    with plain(model, optimizer, [FREEZE_FIRST]) as step:
        steps(model, optimizer, 5)
        assert step.report is None
        assert not any(name.startswith("first") for name in table(optimizer, model))
    assert moved(before, model, ("first",)) == set()
    assert moved(before, model, ("second", "head")) == {name for name in before if not name.startswith("first")}
    assert step.report is not None
    assert [(each.first, each.steps, each.frozen) for each in step.report.phases] == [(0, 5, 7)]
    assert step.report.ledger.keys() == {name for name, _ in model.named_parameters() if not name.startswith("first")}


def test_without_the_bridge_the_statistics_and_decay_move_it() -> None:
    """`eval()` and `requires_grad_(False)` before the same loop: `train()` of each step undoes the first."""
    model = Small()
    before, optimizer = copied(model), sgd(model)
    model.first.requires_grad_(False).eval()
    steps(model, optimizer, 5)
    assert moved(before, model, ("first",)) == {
        f"first.1.{name}" for name in ("running_mean", "running_var", "num_batches_tracked")
    }


def test_parts_are_freed_at_their_steps_and_their_rate_rises() -> None:
    model = Small()
    before, optimizer = copied(model), sgd(model)
    rates: list[dict[str, float]] = []
    with plain(model, optimizer, [{"gradual_unfreeze": {"every": 1, "rewarm": 1.0}}], epochs=3, steps_per_epoch=2):
        optimizer.register_step_pre_hook(
            lambda *_: rates.append({name: lr for name, (lr, _) in table(optimizer, model).items()})
        )
        steps(model, optimizer, 2)
        assert moved(before, model, ("first", "second")) == set()
        steps(model, optimizer, 1)
        assert moved(before, model, ("first",)) == set()
        assert moved(before, model, ("second",)) == {name for name in before if name.startswith("second")}
        steps(model, optimizer, 3)
        assert moved(before, model) == set(before)
        assert {lr for lr, _ in table(optimizer, model).values()} == {0.1}  # a schedule finds the rate that it has set
    assert [each["head.weight"] for each in rates] == [0.1] * 6
    assert [each["second.0.weight"] for each in rates[2:]] == pytest.approx([0.05, 0.1, 0.1, 0.1])
    assert [each["first.0.weight"] for each in rates[4:]] == pytest.approx([0.05, 0.1])


def test_layerwise_rates_are_those_of_our_own_optimizer() -> None:
    model = Small()
    decayed = [each for each in model.parameters() if each.ndim > 1]
    vectors = [each for each in model.parameters() if each.ndim <= 1]
    optimizer = torch.optim.AdamW(
        [{"params": decayed}, {"params": vectors, "weight_decay": 0.0}], lr=1e-3, weight_decay=0.05
    )
    groups = map_groups(model, children_as_groups(model))
    plan = LayerwiseLr(decay=0.5).setup(initial_plan(model, groups, Duration(1, 1)))
    settings = TrainSettings(epochs=1, lr=1e-3, weight_decay=0.05)
    with plain(model, optimizer, [{"layerwise_lr": {"decay": 0.5}}]):
        assert table(optimizer, model) == table(build_optimizer(model, plan, settings, {}), model)
        assert table(optimizer, model)["first.0.weight"] == (2.5e-4, 0.05)


def test_l2_sp_adds_its_loss_and_the_loop_has_to_ask_for_it() -> None:
    hooks = [{"l2_sp": {"alpha": 0.5, "beta": 0.2}}]
    model, other = Small(), Small()
    start = copied(model)
    optimizer = sgd(model)
    with plain(model, optimizer, hooks, new=["head.*"]) as step:
        steps(model, optimizer, 3, step)
        other.load_state_dict(model.state_dict())
        model.train()
        total = step(model(batch()).sum() * 0)
        weights = {name: each for name, each in other.named_parameters() if each.ndim > 1}
        near = sum((each - start[name]).square().sum() for name, each in weights.items() if name != "head.weight")
        expected = 0.25 * near + 0.1 * weights["head.weight"].square().sum()
        assert bool(expected > 0)
        torch.testing.assert_close(total, expected)
        optimizer.step()
        optimizer.zero_grad()
    with (
        pytest.raises(RunError, match=r"l2_sp/distance.* are not in the loss .*loss = step\(loss\)"),
        plain(model, optimizer := sgd(model), hooks),
    ):
        steps(model, optimizer, 1)


def test_feature_distance_is_that_from_the_model_at_the_start() -> None:
    model = Small()
    model.first[2].p = 0.0
    start, optimizer = copy.deepcopy(model), sgd(model)
    extra: list[float] = []

    def features(of: Small) -> Tensor:
        found: Tensor = of.second(of.first(batch(len(extra)).detach()))
        return found

    with plain(
        model,
        optimizer,
        [{"feature_distance": {"taps": ["maps"], "weight": 2.0}}],
        taps=[Tap("maps", "second", 4, 1)],
    ) as step:

        def add(loss: Tensor) -> Tensor:
            now, wanted = features(copy.deepcopy(model)), features(copy.deepcopy(start))
            total = step(loss)
            torch.testing.assert_close(
                total - loss, 2 * (now - wanted).square().mean() / wanted.square().mean(), rtol=1e-4, atol=1e-6
            )
            extra.append(float((total - loss).detach()))
            return total

        steps(model, optimizer, 3, add)
    assert extra[0] == 0.0
    assert min(extra[1:]) > 0.01


def test_ema_averages_as_written_and_lends_its_weights() -> None:
    model = Small()
    optimizer = sgd(model)
    average = copied(model)
    with plain(model, optimizer, [FREEZE_FIRST, {"ema": {"decay": 0.5, "warmup": 0}}]) as step:
        for _ in range(3):
            steps(model, optimizer, 1)
            now = copied(model)
            average = {
                name: 0.5 * average[name] + 0.5 * now[name] if now[name].is_floating_point() else now[name]
                for name in now
            }
        trained = copied(model)
        with step.averaged():
            found = copied(model)
        assert moved(trained, model) == set()  # its own weights again
    torch.testing.assert_close(found, average)
    assert all(torch.equal(found[name], trained[name]) for name in found if name.startswith("first"))


WORKING = {
    "freeze",
    "gradual_unfreeze",
    "linear_probe",
    "layerwise_lr",
    "lr_groups",
    "l2_sp",
    "feature_distance",
    "ema",
}


@pytest.mark.parametrize("name", sorted(BUILT_IN))
def test_every_hook_works_or_is_refused_with_the_trainer_that_has_what_it_needs(name: str) -> None:
    assert len(BUILT_IN) > len(WORKING) + 10
    options: dict[str, Any] = {
        "freeze": {"groups": ["first"]}, "gradual_unfreeze": {"at": [0.2, 0.5]}, "layerwise_lr": {"decay": 0.9},
        "lr_groups": {"roles": {"head": {"lr": 0.2}}}, "feature_distance": {"taps": ["maps"]},
        "distill": {"run": "teacher"},
    }  # fmt: skip
    model = Small()
    optimizer = sgd(model)
    context = plain(
        model,
        optimizer,
        [{name: options.get(name, {})}],
        epochs=2,
        steps_per_epoch=5,
        taps=[Tap("maps", "second", 4, 1)],
    )
    if name in WORKING:
        with context as step:
            steps(model, optimizer, 10, step)
        assert step.report is not None
        return
    with pytest.raises(InputError, match=rf"^hooks: '{name}' ") as error, context:
        pass
    schedule = name in {"cyclic_lr", "warm_restart"}
    assert ("Set the schedule there" if schedule else "`tlvision train`") in str(error.value)


def test_an_objective_that_does_not_say_that_it_needs_only_the_model_is_refused() -> None:
    class Mine(ObjectiveHook):
        pass

    assert reason_against(Mine()) == "may need the labels of a batch"


@pytest.mark.parametrize(
    ("hooks", "message"),
    [
        (["emma"], r"hooks\[0\]: unknown hook 'emma'.*ema"),
        ([{"ema": {"decay": 2}}], r"hooks\[0\].ema.decay"),
        (["ema", "ema"], "'ema' is listed more than once"),
        ([{"freeze": {"groups": ["frist"]}}], "no layer group 'frist'.*first"),
        ([{"gradual_unfreeze": {"every": 1}}], "Set epochs and steps_per_epoch"),
        (["feature_distance"], "'feature_distance' needs a tap, and this model has none"),
    ],
)
def test_wrong_hooks_are_told_in_a_sentence(hooks: list[Any], message: str) -> None:
    model = Small()
    with pytest.raises(InputError, match=message), plain(model, sgd(model), hooks):
        pass


def test_an_optimizer_with_a_schedule_or_without_a_parameter_is_refused() -> None:
    model = Small()
    optimizer = sgd(model)
    torch.optim.lr_scheduler.StepLR(optimizer, 1)
    with pytest.raises(InputError, match="Build the schedule after the bridge"), plain(model, optimizer, []):
        pass
    optimizer = torch.optim.SGD(model.head.parameters(), lr=0.1)
    with pytest.raises(InputError, match=r"lacks parameters that are to be trained: first\.0\.weight"):
        plain(model, optimizer, []).__enter__()
    with plain(model, optimizer, [{"freeze": {"roles": ["backbone"]}}]):
        steps(model, optimizer, 1)


def test_a_schedule_inside_the_block_works_on_the_split_groups() -> None:
    model = Small()
    optimizer = sgd(model)
    with plain(model, optimizer, [{"layerwise_lr": {"decay": 0.5}}]):
        schedule = torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.1)
        steps(model, optimizer, 1)
        schedule.step()
        rates = {name: lr for name, (lr, _) in table(optimizer, model).items()}
        assert rates["head.weight"] == pytest.approx(0.01)
        assert rates["first.0.weight"] == pytest.approx(0.0025)


def spoil_weight(model: Small) -> None:
    with torch.no_grad():
        model.first[0].weight[0, 0, 0, 0] += 1e-6


def spoil_mode(model: Small) -> None:
    def train(module: nn.Module, inputs: object) -> None:
        model.first[1].train()

    model.first.register_forward_pre_hook(train)


def spoil_gradient(model: Small) -> None:
    model.first[0].weight.grad = torch.ones_like(model.first[0].weight)


def spoil_graph(model: Small) -> None:
    model.first.register_forward_pre_hook(lambda module, inputs: (inputs[0].requires_grad_(),))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (spoil_weight, "'first.0.weight' .*has moved"),
        (spoil_mode, "'first.1' .*runs in train mode"),
        (spoil_gradient, "'first.0.weight' .*has a gradient"),
        (spoil_graph, "'first.* .*builds a graph"),
    ],
)
def test_what_breaks_a_fact_of_frozen_fails_the_run(spoil: Callable[[Small], None], message: str) -> None:
    with pytest.raises(RunError, match=f"{message}.*a hand-written loop, one of its callbacks or your code"):
        train_spoiled(lambda model, optimizer: spoil(model))


def train_spoiled(spoil: Callable[[Small, torch.optim.Optimizer], object]) -> None:
    """Train with the first block frozen, and spoil something after the first step."""
    model = Small()
    optimizer = sgd(model)
    with plain(model, optimizer, [FREEZE_FIRST]):
        steps(model, optimizer, 1)
        spoil(model, optimizer)
        steps(model, optimizer, 2)


def test_a_frozen_parameter_that_is_put_back_into_the_optimizer_fails_the_run() -> None:
    with pytest.raises(RunError, match=r"'first.0.weight' .*is in the optimizer"):
        train_spoiled(lambda model, optimizer: optimizer.add_param_group({"params": [model.first[0].weight]}))


@pytest.mark.parametrize("fails", [False, True])
def test_nothing_is_left_on_model_and_optimizer(fails: bool) -> None:
    model = Small()
    optimizer = sgd(model)

    def run() -> None:
        with plain(model, optimizer, [FREEZE_FIRST, "l2_sp"]) as step:
            steps(model, optimizer, 2, step)
            assert not model.first[1].training
            if fails:
                raise KeyError("of the loop")

    if fails:
        with pytest.raises(KeyError):
            run()
    else:
        run()
    assert all(module.training for module in model.modules())
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    assert not optimizer._optimizer_step_pre_hooks
    assert not optimizer._optimizer_step_post_hooks


def test_a_constant_of_the_model_stays_one() -> None:
    model = Small()
    model.second[0].bias.requires_grad_(False)
    optimizer = sgd(model)
    with plain(model, optimizer, []):
        assert "second.0.bias" not in table(optimizer, model)
        steps(model, optimizer, 1)
    assert not model.second[0].bias.requires_grad


def test_modes_of_what_is_trained_stay_the_users() -> None:
    """A norm that the user keeps in eval mode is not put into train mode."""
    model = Small()
    optimizer = sgd(model)
    with plain(model, optimizer, [FREEZE_FIRST]):
        model.train()
        model.second[1].eval()
        loss = model(batch()).sum()
        assert not model.second[1].training
        assert model.second.training
        loss.backward()
        optimizer.step()


def test_copies_of_the_model_are_plain_models() -> None:
    model = Small()
    optimizer = sgd(model)
    with plain(model, optimizer, [FREEZE_FIRST, "l2_sp"]) as step:
        steps(model, optimizer, 1, step)
        twin = copy.deepcopy(model).train()
        twin(batch())
        assert twin.first[1].training
        step.check()  # the pass of the copy has added no losses
        steps(model, optimizer, 1, step)


def test_groups_that_are_given_are_used() -> None:
    model = Small()
    optimizer = sgd(model)
    groups = [LayerGroup("body", "backbone", ("first", "second")), LayerGroup("top", "head", ("head",))]
    with plain(model, optimizer, [{"freeze": {"roles": ["backbone"]}}], groups=groups) as step:
        steps(model, optimizer, 1)
    assert step.report is not None
    assert step.report.ledger.keys() == {"head.weight", "head.bias"}


def test_mean_of_several_micro_batches_counts_as_one_step() -> None:
    model = Small()
    before, optimizer = copied(model), sgd(model)
    with plain(model, optimizer, [{"gradual_unfreeze": {"at": [0.25, 0.5]}}], epochs=1, steps_per_epoch=4) as step:
        for at in range(8):
            model(batch(at)).mean().backward()
            if at % 2:
                optimizer.step()
                optimizer.zero_grad()
            if at == 1:
                assert moved(before, model, ("first", "second")) == set()
    assert step.report is not None
    assert [(each.first, each.steps) for each in step.report.phases] == [(0, 1), (1, 1), (2, 2)]


def test_hook_class_lists_only_known_hooks() -> None:
    assert {name for name in BUILT_IN if hook_class(name).key() in WORKING} == WORKING


def test_a_change_long_after_the_first_steps_fails_the_run_at_its_end() -> None:
    model = Small()
    optimizer = sgd(model)

    def run() -> None:
        with plain(model, optimizer, [FREEZE_FIRST]):
            steps(model, optimizer, 6)
            spoil_weight(model)

    with pytest.raises(RunError, match=r"'first.0.weight' .*has moved"):
        run()


def test_a_part_that_is_freed_is_in_train_mode_though_the_loop_sets_it_only_once() -> None:
    model = Small().train()
    before, optimizer = copied(model), sgd(model)
    with plain(model, optimizer, [{"gradual_unfreeze": {"at": [0.3, 0.6]}}], epochs=1, steps_per_epoch=4):
        for at in range(4):
            model(batch(at)).mean().backward()
            optimizer.step()
            optimizer.zero_grad()
    assert {"second.1.running_mean", "first.1.running_mean"} <= moved(before, model)


def test_both_models_of_the_feature_distance_drop_the_same_features() -> None:
    model = Small()
    assert model.first[2].p == 0.5
    optimizer = sgd(model)
    with plain(
        model, optimizer, [{"feature_distance": {"taps": ["maps"]}}], taps=[Tap("maps", "second", 4, 1)]
    ) as step:
        loss = model(batch()).mean()
        assert torch.equal(step(loss), loss)
