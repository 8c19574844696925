"""What hooks share of a micro-batch is worked out once, and let go of after it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tlvision.data.batches import Views
from tlvision.hooks import ObjectiveHook
from tlvision.hooks.norm_statistics import fixed_norm_statistics
from tlvision.plugin import InputSpec, Tap, capture
from tlvision.training.objectives import batch_losses, forget_batch


class Detector:
    """As far as the losses of a step look at an adapter; its neck counts how often it runs."""

    input_spec = InputSpec(mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))

    def __init__(self) -> None:
        self.module = nn.ModuleDict({"backbone": nn.Conv2d(3, 2, 1), "neck": nn.Conv2d(2, 2, 1)})
        self.outputs: list[Tensor] = []
        self.module["neck"].register_forward_hook(lambda part, inputs, output: self.outputs.append(output))

    def taps(self) -> tuple[Tap, ...]:
        return (Tap("c1", "backbone", 2, 1),)

    def loss(self, images: Tensor, targets: Any) -> dict[str, Tensor]:
        return {"own": self.module["neck"](self.module["backbone"](images)).mean()}

    def features(self, images: Tensor) -> dict[str, Tensor]:
        with capture(self.module, self.taps()) as features:
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
        self.seen = (context.pyramid, context.unlabelled_pyramid)
        return {}


class Plain(Judge):
    uses_pyramid = False


def make_context(adapter: Detector) -> Any:
    images = torch.randint(0, 255, (2, 3, 4, 4), dtype=torch.uint8)
    views = Views(weak=images.flip(0), strong=images, image_ids=(0, 1))
    return SimpleNamespace(
        adapter=adapter, batch=SimpleNamespace(images=images, targets=[], unlabelled=views), measures={}
    )


def test_boxes_can_be_pooled_from_the_passes_that_are_made_anyway() -> None:
    adapter, hook = TwoStage(), Judge()
    context = make_context(adapter)
    batch_losses(context, [hook])
    assert len(adapter.outputs) == 2, "one pass of each domain"
    assert [seen is output for seen, output in zip(hook.seen, adapter.outputs, strict=True)] == [True, True]
    assert adapter.outputs[0].requires_grad
    forget_batch(context)
    assert (context.pyramid, context.unlabelled_pyramid) == (None, None)


@pytest.mark.parametrize(("adapter", "hook"), [(TwoStage(), Plain()), (Detector(), Judge())])
def test_nothing_is_kept_that_no_hook_wants_or_no_model_has(adapter: Detector, hook: Judge) -> None:
    batch_losses(make_context(adapter), [hook])
    assert hook.seen == (None, None)


def test_unlabelled_images_leave_no_trace_in_the_statistics_of_norms() -> None:
    """Else an objective of weight 0 would change the model, and each domain would look like the other."""
    adapter = Detector()
    norm, dropout = nn.BatchNorm2d(2), nn.Dropout(0.5)
    adapter.module["neck"] = nn.Sequential(norm, dropout)
    context, hook = make_context(adapter), Plain()
    batch_losses(context, [])
    expected = {name: tensor.clone() for name, tensor in norm.state_dict().items()}
    for name, start in (("running_mean", 0.0), ("running_var", 1.0), ("num_batches_tracked", 0)):
        assert not torch.equal(expected[name], torch.full_like(expected[name], start)), "labelled images do count"
        getattr(norm, name).fill_(start)
    modes = []
    norm.register_forward_hook(lambda part, inputs, output: modes.append((norm.training, dropout.training)))
    batch_losses(context, [hook])
    assert modes == [(True, True), (False, True)]
    assert norm.training
    for name, tensor in norm.state_dict().items():
        assert torch.equal(tensor, expected[name]), name


def test_a_norm_that_is_frozen_stays_so_when_a_pass_fails() -> None:
    frozen, trained = nn.BatchNorm2d(2).eval(), nn.BatchNorm2d(2)
    seen = []
    frozen.register_forward_hook(lambda *_: seen.append(trained.training))
    with pytest.raises(ValueError, match="4D"), fixed_norm_statistics(nn.ModuleList([frozen, trained])):
        trained(frozen(torch.zeros(2, 2, 1, 1))[0])
    assert seen == [False]
    assert (frozen.training, trained.training) == (False, True)
