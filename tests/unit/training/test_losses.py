"""What hooks share of a micro-batch is worked out once, and let go of after it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tlvision.data.batches import Views
from tlvision.hooks import ObjectiveHook
from tlvision.hooks.side_pass import side_pass
from tlvision.plugin import InputSpec, LayerGroup, Tap, capture
from tlvision.training.losses import batch_losses


class Detector:
    """As far as the losses of a step look at an adapter; its neck counts how often it runs."""

    input_spec = InputSpec(mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))

    def __init__(self) -> None:
        self.module = nn.ModuleDict({"backbone": nn.Conv2d(3, 2, 1), "neck": nn.Conv2d(2, 2, 1)})
        self.outputs: list[Tensor] = []
        self.module["neck"].register_forward_hook(lambda part, inputs, output: self.outputs.append(output))

    @property
    def taps(self) -> tuple[Tap, ...]:
        return (Tap("c1", "backbone", 2, 1),)

    @property
    def groups(self) -> tuple[LayerGroup, ...]:
        return LayerGroup("stem", "stem", ("backbone",)), LayerGroup("head", "head", ("neck",))

    def loss(self, images: Tensor, targets: Any) -> dict[str, Tensor]:
        return {"own": self.module["neck"](self.module["backbone"](images)).mean()}

    def features(self, images: Tensor) -> dict[str, Tensor]:
        with capture(self.module, self.taps) as features:
            self.loss(images, [])
        return features


class TwoStage(Detector):
    pyramid_path = "neck"

    def instance_features(self, *_: object, **__: object) -> list[Any]:
        return []


class Judge(ObjectiveHook):
    taps = ("c1",)
    uses_unlabelled = True
    uses_pyramid = True

    def losses(self, context: Any) -> dict[str, Tensor]:
        self.seen = (context.step_data.pyramid, context.step_data.unlabelled_pyramid)
        return {}


class Plain(Judge):
    uses_pyramid = False


def make_context(adapter: Detector) -> Any:
    images = torch.randint(0, 255, (2, 3, 4, 4), dtype=torch.uint8)
    views = Views(weak=images.flip(0), strong=images, image_ids=(0, 1))
    batch = SimpleNamespace(images=images, targets=[], unlabelled=views, image_ids=(7, 8))
    return SimpleNamespace(adapter=adapter, batch=batch, measures={}, progress=0.5)


def test_boxes_can_be_pooled_from_the_passes_that_are_made_anyway() -> None:
    adapter, hook = TwoStage(), Judge()
    context = make_context(adapter)
    batch_losses(context, [hook], context.batch)
    assert len(adapter.outputs) == 3, "the model's own, and one of each domain that compare"
    assert [seen is output for seen, output in zip(hook.seen, adapter.outputs[1:], strict=True)] == [True, True]
    assert adapter.outputs[0].requires_grad


@pytest.mark.parametrize(("adapter", "hook"), [(TwoStage(), Plain()), (Detector(), Judge())])
def test_nothing_is_kept_that_no_hook_wants_or_no_model_has(adapter: Detector, hook: Judge) -> None:
    context = make_context(adapter)
    batch_losses(context, [hook], context.batch)
    assert hook.seen == (None, None)


def with_norm_and_dropout() -> tuple[Detector, nn.BatchNorm2d, nn.Dropout]:
    adapter, norm, dropout = Detector(), nn.BatchNorm2d(2), nn.Dropout(0.5)
    adapter.module["backbone"] = nn.Sequential(nn.Conv2d(3, 2, 1), norm, dropout)
    return adapter, norm, dropout


def test_what_is_compared_passes_through_the_model_as_at_evaluation_and_leaves_no_trace() -> None:
    """Else an objective of weight 0 would change the model, and a domain would differ from itself."""
    adapter, norm, dropout = with_norm_and_dropout()
    context, hook = make_context(adapter), Plain()
    start = {name: tensor.clone() for name, tensor in norm.state_dict().items()}
    batch_losses(context, [], context.batch)
    expected = {name: tensor.clone() for name, tensor in norm.state_dict().items()}
    assert not torch.equal(expected["running_mean"], start["running_mean"]), "labelled images do count"
    norm.load_state_dict(start)
    modes = []
    norm.register_forward_hook(lambda part, inputs, output: modes.append((norm.training, dropout.training)))
    batch_losses(context, [hook], context.batch)
    assert modes == [(True, True), (False, False), (False, False)]
    assert norm.training
    assert dropout.training
    for name, tensor in norm.state_dict().items():
        assert torch.equal(tensor, expected[name]), name


def test_the_same_images_on_both_sides_have_the_same_features() -> None:
    adapter, *_ = with_norm_and_dropout()
    context, hook = make_context(adapter), Plain()
    images = context.batch.images
    context.batch.unlabelled = Views(weak=images[:1], strong=images[:1], image_ids=(0,))
    batch_losses(context, [hook], context.batch)
    assert context.step_data.features["c1"].shape[0] == 1, "as many of both"
    assert torch.equal(context.step_data.features["c1"], context.step_data.unlabelled_features["c1"])
    assert context.step_data.features["c1"].requires_grad


def test_a_hook_that_compares_nothing_gets_the_features_of_the_models_own_loss() -> None:
    adapter, *_ = with_norm_and_dropout()
    context = make_context(adapter)

    class Alone(Plain):
        uses_unlabelled = False

        def losses(self, context: Any) -> dict[str, Tensor]:
            self.features = context.step_data.features["c1"]
            return {}

    hook = Alone()
    outputs: list[Tensor] = []
    adapter.module["backbone"].register_forward_hook(lambda part, inputs, output: outputs.append(output))
    batch_losses(context, [Plain(), hook], context.batch)
    assert hook.features is outputs[0]


def test_random_numbers_of_a_hook_are_its_own() -> None:
    class Draws(ObjectiveHook):
        def losses(self, context: Any) -> dict[str, Tensor]:
            return {"drawn": torch.rand(())}

    class More(Draws):
        pass

    def drawn(*hooks: ObjectiveHook) -> dict[str, float]:
        torch.manual_seed(3)
        adapter, *_ = with_norm_and_dropout()
        context = make_context(adapter)
        return {name: float(value.detach()) for name, value in batch_losses(context, hooks, context.batch).items()}

    alone, both, other = drawn(Draws()), drawn(Draws(), More()), drawn(More(), Draws())
    assert alone["draws/drawn"] == both["draws/drawn"] == other["draws/drawn"] != both["more/drawn"]
    assert drawn()["own"] == alone["own"] == both["own"]


def test_side_passes_do_not_see_what_another_hook_has_moved_and_backward_reads_what_forward_read() -> None:
    adapter, *_ = with_norm_and_dropout()

    class Trains(ObjectiveHook):
        def losses(self, context: Any) -> dict[str, Tensor]:
            return {"pass": context.adapter.loss(100 * context.step_data.images, [])["own"]}

    class Looks(ObjectiveHook):
        uses_unlabelled = True

        def losses(self, context: Any) -> dict[str, Tensor]:
            with side_pass(context.adapter, context.step_data.buffers):
                return {"seen": context.adapter.loss(context.step_data.images, [])["own"].square()}

    start = {name: tensor.clone() for name, tensor in adapter.module.state_dict().items()}
    images = make_context(adapter).batch
    found = []
    for hooks in ([Looks()], [Trains(), Looks()], [Looks(), Trains()]):
        adapter.module.load_state_dict(start)
        adapter.module.zero_grad()
        context = make_context(adapter)
        context.batch = images
        loss = batch_losses(context, hooks, context.batch)["looks/seen"]
        loss.backward()  # type: ignore[no-untyped-call]
        found.append((float(loss.detach()), adapter.module["backbone"][0].weight.grad.clone()))
    assert found[0][0] == found[1][0] == found[2][0]
    assert torch.equal(found[0][1], found[1][1])
    assert torch.equal(found[0][1], found[2][1])


def test_a_norm_that_is_frozen_stays_so_when_a_pass_fails() -> None:
    adapter = Detector()
    frozen, trained = nn.BatchNorm2d(2).eval(), nn.BatchNorm2d(2)
    adapter.module = nn.ModuleDict({"backbone": frozen, "neck": trained})
    seen, buffer = [], trained.running_mean
    frozen.register_forward_hook(lambda *_: seen.append(trained.training))
    with pytest.raises(ValueError, match="4D"), side_pass(adapter):  # type: ignore[arg-type]
        trained(frozen(torch.zeros(2, 2, 1, 1))[0])
    assert seen == [False]
    assert (frozen.training, trained.training) == (False, True)
    assert trained.running_mean is buffer


def test_a_side_pass_silences_what_a_container_draws_and_leaves_the_choice_of_a_head() -> None:
    """Drop path is a function in some models, which goes by the mode of a block; a head returns other things."""

    class Block(nn.Sequential):
        pass

    adapter = Detector()
    adapter.module = nn.ModuleDict(
        {"backbone": Block(Block(nn.Conv2d(3, 2, 1))), "neck": Block(nn.Dropout(0.5), Block(nn.Dropout(0.5)))}
    )
    with side_pass(adapter):  # type: ignore[arg-type]
        modes = {path: part.training for path, part in adapter.module.named_modules()}
    assert modes == {
        "": True, "backbone": False, "backbone.0": False, "backbone.0.0": False,
        "neck": True, "neck.0": False, "neck.1": True, "neck.1.0": False,
    }  # fmt: skip
    assert all(part.training for part in adapter.module.modules())
