"""Losses, predictions and region features against upstream's own forward pass, with its own transform."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torchvision.models import get_model

from fast import first_fast
from tlvision.conformance.case import Case
from tlvision.plugin import HasInstanceFeatures, record
from tlvision.types import Target
from tlvision_torchvision.plugin import plugin

ZOO = (
    "fasterrcnn_mobilenet_v3_large_320_fpn",
    "ssdlite320_mobilenet_v3_large",
    "maskrcnn_resnet50_fpn",
    "retinanet_resnet50_fpn",
    "fcos_resnet50_fpn",
)
SMALL = (
    "fasterrcnn_mobilenet_v3_small_fpn",
    "maskrcnn_mobilenet_v3_small_fpn",
    "retinanet_mobilenet_v3_small_fpn",
    "fcos_mobilenet_v3_small_fpn",
    "ssdlite320_mobilenet_v3_large",
)
SIZE = (96, 96)


def slow_but(*fast: str) -> list[Any]:
    """Return SMALL as parameters, all but `fast` marked slow."""
    assert set(fast) < set(SMALL)
    return [pytest.param(arch, marks=() if arch in fast else pytest.mark.slow) for arch in SMALL]


MakeTarget = Callable[..., Target]


def upstream_of(adapter: Any, arch: str) -> tuple[Any, int]:
    """Return torchvision's own model with the adapter's tensors, for images in 0..1, and the label of our class 0."""
    first = 0 if arch.startswith(("retinanet", "fcos")) else 1
    size = {} if arch.startswith("ssdlite") else {"min_size": SIZE[0], "max_size": SIZE[1]}
    model = get_model(arch, weights=None, weights_backbone=None, num_classes=3 + first, **size)
    if arch.startswith("ssdlite"):
        model.transform.fixed_size = SIZE
    model.transform.torch_choice = lambda sizes: sizes[0]  # upstream draws it, and the samples of regions after it
    model.load_state_dict(adapter.module.state_dict())
    return model, first


def batch(make_target: MakeTarget, arch: str) -> tuple[torch.Tensor, list[Target]]:
    size = SIZE if arch.startswith("maskrcnn") else None
    targets = [make_target([[3, 4, 60, 70, 1], [50, 10, 90, 60, 2]], size), make_target([], size)]
    return torch.rand(2, 3, *SIZE), targets


def normalised(adapter: Any, images: torch.Tensor) -> torch.Tensor:
    spec = adapter.input_spec
    mean, std = (torch.tensor(values)[None, :, None, None] for values in (spec.mean, spec.std))
    return (images - mean) / std


@pytest.mark.parametrize("arch", first_fast(ZOO, 2))
def test_losses_are_upstreams(build: Any, make_target: MakeTarget, arch: str) -> None:
    adapter, _ = build(arch)
    images, targets = batch(make_target, arch)
    model, first = upstream_of(adapter, arch)
    if hasattr(model, "rpn"):
        model.rpn.score_thresh = 0.0
    theirs = [{"boxes": each.boxes, "labels": each.labels + first} for each in targets]
    if arch.startswith("maskrcnn"):
        theirs = [{**given, "masks": each.masks} for given, each in zip(theirs, targets, strict=True)]
    torch.manual_seed(1)
    expected = model(list(images), theirs)
    torch.manual_seed(1)
    losses = adapter.loss(normalised(adapter, images), targets)
    assert list(losses) == list(expected)
    for name, loss in losses.items():
        assert loss.shape == ()
        torch.testing.assert_close(loss, expected[name])
    assert all(loss.item() > 0 for loss in losses.values())


def lively(adapter: Any) -> Any:
    """Give the class branch of a fresh model scores that vary, so that it finds many different things."""
    for name, parameter in adapter.module.named_parameters():
        if any(part in name for part in ("cls_score", "cls_logits", "classification_head.module_list")):
            nn.init.normal_(parameter, std=0.05 if parameter.ndim > 1 else 0.5)
    adapter.module.eval()
    return adapter


@pytest.mark.parametrize("arch", first_fast(ZOO, 2))
def test_predictions_are_upstreams(build: Any, make_target: MakeTarget, arch: str) -> None:
    adapter = lively(build(arch)[0])
    images, _ = batch(make_target, arch)
    model, first = upstream_of(adapter, arch)
    final = getattr(model, "roi_heads", model)
    final.score_thresh, final.detections_per_img = 0.001, 100 if arch.startswith("maskrcnn") else 300
    if hasattr(model, "rpn"):
        model.rpn.score_thresh = 0.0
    with torch.no_grad():
        expected = model.eval()(list(images))
    found = adapter.predict(normalised(adapter, images))
    assert len(found) == 2
    for ours, theirs in zip(found, expected, strict=True):
        assert len(ours) > 20
        torch.testing.assert_close(ours.boxes, theirs["boxes"])
        torch.testing.assert_close(ours.scores, theirs["scores"])
        assert ours.labels.tolist() == (theirs["labels"] - first).tolist()
        assert set(ours.labels.tolist()) <= {0, 1, 2}
        if arch.startswith("maskrcnn"):
            assert len(ours) <= 100
            assert ours.masks.dtype == torch.uint8
            assert ours.masks.shape == (len(ours), *SIZE)
            assert ours.masks.equal((theirs["masks"][:, 0] > 0.5).to(torch.uint8))
            assert 0 < ours.masks.float().mean() < 1
        else:
            assert set(ours.labels.tolist()) == {0, 1, 2}
            assert ours.masks is None


@pytest.mark.slow
@pytest.mark.parametrize("arch", SMALL)
def test_freezing_any_group_leaves_the_losses_and_the_rest_in_training(
    build: Any, make_target: MakeTarget, arch: str
) -> None:
    case = Case(plugin, arch)
    names = build(arch)[0].groups
    images, targets = batch(make_target, arch)
    assert len(names) >= 6
    for depth in range(len(names)):
        adapter, _ = build(arch)
        if hasattr(adapter.module, "roi_heads"):
            adapter.module.roi_heads.fg_bg_sampler.batch_size_per_image = 16  # much faster
        free = list(adapter.loss(images, targets))
        plan = case.plan(adapter)
        plan = plan.train_from(plan.in_groups([depth]), None, "one group")
        practice = case.trainer(adapter, plan)
        before = {name: tensor.clone() for name, tensor in adapter.module.state_dict().items()}
        for _ in range(2):
            assert list(practice.take_step(images, targets)) == free
        groups = plan.groups.parameters | plan.groups.buffers
        moved = {groups[name] for name, tensor in adapter.module.state_dict().items() if not tensor.equal(before[name])}
        assert moved == set(range(len(names))) - {depth}, names[depth].name


@pytest.mark.parametrize("arch", slow_but(SMALL[0], SMALL[-1]))
def test_half_precision_does_not_reach_the_boxes(build: Any, make_target: MakeTarget, arch: str) -> None:
    adapter = lively(build(arch)[0])
    images, _ = batch(make_target, arch)
    exact = adapter.predict(images)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = adapter.predict(images)
        maps = adapter.module.backbone(images)
        assert {map_.dtype for map_ in maps.values()} == {torch.float32}
    for one, other in zip(exact, found, strict=True):
        assert one.boxes.equal(other.boxes)


def test_predict_asks_for_eval_mode(build: Any) -> None:
    with pytest.raises(RuntimeError, match="eval mode"):
        build()[0].predict(torch.rand(1, 3, 64, 64))


def test_two_stage_detectors_alone_have_instance_features(build: Any) -> None:
    found = {arch: isinstance(build(arch)[0], HasInstanceFeatures) for arch in SMALL}
    assert found == {arch: arch.startswith(("faster", "mask")) for arch in SMALL}


@pytest.mark.parametrize("own", first_fast([True, False]))
def test_instance_features_are_what_the_predictor_gets(build: Any, own: bool) -> None:
    adapter, _ = build()
    adapter.module.eval()
    images = torch.rand(2, 3, 96, 128)
    seen: dict[str, Any] = {}
    heads = adapter.module.roi_heads
    heads.box_roi_pool.register_forward_pre_hook(lambda _, inputs: seen.update(boxes=inputs[1]))
    handle = heads.box_predictor.register_forward_pre_hook(lambda _, inputs: seen.update(features=inputs[0]))
    adapter.predict(images)
    handle.remove()
    expected, boxes = seen["features"], [each.clone() for each in seen["boxes"]]
    found = adapter.instance_features(images, None if own else boxes)
    assert [len(each.boxes) for each in found] == [len(each) for each in boxes]
    torch.testing.assert_close(torch.cat([each.features for each in found]), expected)
    for each, given in zip(found, boxes, strict=True):
        torch.testing.assert_close(each.boxes, given)
    assert found[0].features.requires_grad


def no_objects() -> Target:
    none = torch.zeros(0)
    return Target(boxes=torch.zeros(0, 4), labels=none.long(), crowd=none.bool())


@pytest.mark.parametrize("maps_of", ["loss", "features"])
def test_instance_features_from_the_pyramid_of_another_pass(build: Any, maps_of: str) -> None:
    adapter, _ = build()
    images = torch.rand(2, 3, 96, 128)
    expected = adapter.instance_features(images, most=5)
    with record(adapter.module, adapter.pyramid_path) as pyramids:
        if maps_of == "loss":
            adapter.loss(images, [no_objects(), no_objects()])
        else:
            adapter.features(images)
    assert len(pyramids) == 1
    adapter.module.backbone.register_forward_hook(lambda *_: pytest.fail("the backbone ran once more"))
    found = adapter.instance_features(images, most=5, pyramid=pyramids[0])
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one.boxes, other.boxes)
        assert torch.equal(one.features, other.features)
        assert one.features.requires_grad


def test_instance_features_of_no_box_in_train_mode(build: Any) -> None:
    adapter, _ = build()
    images = torch.rand(2, 3, 64, 64)
    found = adapter.instance_features(images, [torch.zeros(0, 4), torch.zeros(0, 4)])
    assert [tuple(each.features.shape) for each in found] == [(0, 1024), (0, 1024)]
    one, none = adapter.instance_features(images, [torch.tensor([[4.0, 4, 40, 40]]), torch.zeros(0, 4)])
    assert (one.features.shape, none.features.shape) == ((1, 1024), (0, 1024))
    generator = torch.get_rng_state()
    own = adapter.instance_features(images)
    assert len(own[0].boxes) > 100
    few = adapter.instance_features(images, most=7)
    assert all(torch.equal(each.boxes, whole.boxes[:7]) for each, whole in zip(few, own, strict=True))
    assert [each.features.shape for each in few] == [(7, 1024)] * 2
    assert torch.get_rng_state().equal(generator), "proposals are found without upstream's random sample"


@pytest.mark.parametrize(
    ("arch", "resize", "mean"),
    [("fasterrcnn_mobilenet_v3_small_fpn", "letterbox", 0.485), ("ssdlite320_mobilenet_v3_large", "stretch", 0.5)],
)
def test_images_arrive_as_upstreams_weights_want_them(build: Any, arch: str, resize: str, mean: float) -> None:
    spec = build(arch)[0].input_spec
    assert (spec.resize, spec.channel_order, spec.value_range, spec.multiple_of) == (resize, "rgb", 1.0, 32)
    assert spec.mean[0] == mean
    assert spec.place == "corner", "upstream pads to the right and below"
    normal = [(pad / 255 - m) / s for pad, m, s in zip(spec.pad_value, spec.mean, spec.std, strict=True)]
    assert normal == pytest.approx([0, 0, 0], abs=0.02), "upstream pads with zeros after normalising"
