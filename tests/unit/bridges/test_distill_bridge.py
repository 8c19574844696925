"""The hook `distill` in the trainers of others: features of a run's model, of images normalised another way."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import tlvision
from tlvision.bridges import plain
from tlvision.bridges.run import BridgeRun, ModelParts
from tlvision.hooks import Duration
from tlvision.plugin import InputSpec, LayerGroup, Tap
from tlvision.types import InputError

IMAGES = InputSpec(mean=(100.0, 110.0, 120.0), std=(50.0, 60.0, 70.0), channel_order="bgr", value_range=255.0)
GROUPS = [LayerGroup("body", "backbone", ("body",)), LayerGroup("head", "head", ("head",))]


class Student(nn.Module):
    """A body of stride 8 and a head."""

    def __init__(self, width: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Conv2d(3, width, 8, stride=8)
        self.head = nn.Conv2d(width, 1, 1)

    def forward(self, images: Tensor) -> Tensor:
        scores: Tensor = self.head(self.body(images))
        return scores


def taps(width: int) -> list[Tap]:
    return [Tap("p3", "body", width, 8)]


def given_images() -> tuple[Tensor, Tensor]:
    """Return images, (2, 3, 64, 64), as the teacher gets them and as a trainer with `IMAGES` gives them."""
    pixels = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))  # RGB, 0..1
    mean, std = (torch.tensor(each).reshape(3, 1, 1) for each in (IMAGES.mean, IMAGES.std))
    return (pixels - 0.45) / 0.25, (255 * pixels.flip(1) - mean) / std


def hook(run: Path, **options: Any) -> dict[str, Any]:
    return {"distill": {"run": str(run), "scores": 0, "least": 0, **options}}


def test_the_teacher_sees_the_images_of_the_trainer_as_its_own(small_run: Path) -> None:
    model = Student(64)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    wanted, images = given_images()
    teacher = tlvision.load(small_run).model.adapter
    with torch.no_grad():
        theirs, ours = teacher.features(wanted)["p3"], model.body(images)
        both = torch.stack([ours, theirs]).transpose(1, 2).reshape(2, 64, -1).numpy()  # of a channel: images and places
    correlations = [torch.corrcoef(torch.tensor(both[:, c]))[0, 1].item() for c in range(64) if both[1, c].std() > 1e-5]
    parts = {"groups": GROUPS, "taps": taps(64), "input_spec": IMAGES}
    with plain(model, optimizer, [hook(small_run)], epochs=1, steps_per_epoch=1, **parts) as step:
        loss = step(torch.zeros(()) * model(images).sum())
        loss.backward()
        optimizer.step()
    assert len(correlations) > 30
    assert loss.item() == pytest.approx(1 - sum(correlations) / len(correlations), abs=1e-4)


def test_a_layer_between_widths_is_trained_with_the_model_and_kept(small_run: Path) -> None:
    def run(model: Student) -> BridgeRun:
        parts = ModelParts(groups=GROUPS, taps=taps(5), input_spec=IMAGES)
        return BridgeRun(model, [hook(small_run)], trainer="a loop", parts=parts)

    model = Student(5)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    _, images = given_images()
    with plain(
        model, optimizer, [hook(small_run)], epochs=1, steps_per_epoch=3, groups=GROUPS, taps=taps(5), input_spec=IMAGES
    ) as step:
        layer = optimizer.param_groups[-1]["params"]
        assert [tuple(each.shape) for each in layer] == [(64, 5, 1, 1), (64,)]
        before, gradients = layer[0].clone(), []
        for _ in range(3):
            step(0 * model(images).sum()).backward()
            gradients.append(layer[0].grad.norm().item())
            optimizer.step()
            model.zero_grad()  # of the model alone, as some trainers do
            assert layer[0].grad is None
    assert not torch.equal(before, layer[0])
    assert gradients[2] < gradients[0] * 1.5, "they do not add up"

    kept, other = run(Student(5)), run(Student(5))
    for each in (kept, other):
        each.set_up(torch.optim.SGD(each.module.parameters(), lr=0.1), Duration(1, 1))
    (module,) = kept._hook_modules().values()
    nn.init.constant_(next(module.parameters()), 0.5)
    other.load_state_dict(kept.state_dict())
    (restored,) = other._hook_modules().values()
    assert set(next(restored.parameters()).flatten().tolist()) == {0.5}


def test_what_is_not_known_of_a_model_is_an_error(small_run: Path) -> None:
    model = Student(64)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    cases = [
        (hook(small_run), {}, "'distill' has to know how images are normalised, which a hand-written loop does not"),
        (hook(small_run, scores=1.0), {"input_spec": IMAGES}, "'distill' may need the labels of a batch"),
        (hook(small_run, objects=1.0), {"input_spec": IMAGES}, "'distill' may need the labels of a batch"),
    ]
    for listed, options, words in cases:
        with (
            pytest.raises(InputError, match=words),
            plain(model, optimizer, [listed], groups=GROUPS, taps=taps(64), **options),
        ):
            pass


def test_mmengine_tells_how_its_images_are_normalised() -> None:
    """The preprocessor of a config of mmdet, as our plugin reads the same config."""
    pytest.importorskip("mmdet")
    from tlvision.plugin import BuildSpec, get_plugin
    from tlvision.types import ClassMap
    from tlvision_bridges.mmengine import _input_spec
    from tlvision_openmmlab.common.engine import DefaultScope, quiet

    config = str(Path(__file__).parents[2] / "plugins" / "openmmlab" / "configs" / "faster-rcnn_tiny.py")
    spec = BuildSpec(arch=config, weights="none", classes=ClassMap.from_names(["a"]), image_size=64)
    own = get_plugin("mmdet").build(spec)[0].input_spec
    with quiet(), DefaultScope.overwrite_default_scope("mmdet"):
        from mmdet.models import DetDataPreprocessor
        from mmengine.config import Config

        settings = {**Config.fromfile(config).model.data_preprocessor}
        settings.pop("type")
        module = nn.Module()
        module.data_preprocessor = DetDataPreprocessor(**settings)
        found = _input_spec(module)
    assert found is not None
    assert (found.mean, found.std) == (pytest.approx(own.mean), pytest.approx(own.std))
    assert (found.channel_order, found.value_range) == (own.channel_order, own.value_range)
    assert _input_spec(nn.Module()) is None
