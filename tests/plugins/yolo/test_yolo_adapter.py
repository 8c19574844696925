"""Losses and predictions against upstream's own, on random weights and images."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from fast import first_fast
from tlvision.plugin import BuildSpec, HasTrainingProgress
from tlvision.types import ClassMap, InputError, Prediction, Target
from tlvision_yolo.options import YoloOptions
from tlvision_yolo.plugin import plugin
from tlvision_yolo.upstream import DEFAULT_CFG, DetectionModel

FAMILIES = ("yolov8n", "yolov10n", "yolo26n", "yolov5nu", "yolov9t", "yolo11n", "yolo12n")
MakeTarget = Callable[..., Target]


def two_targets(make_target: MakeTarget) -> list[Target]:
    return [make_target([[3, 4, 40, 50, 1], [50, 10, 90, 60, 2]]), make_target(), make_target([[0, 0, 96, 64, 0]])]


def upstream_batch(images: torch.Tensor, targets: list[Target]) -> dict[str, torch.Tensor]:
    """Write upstream's batch for images of 64 x 96 by hand."""
    rows = []
    for index, target in enumerate(targets):
        for (x0, y0, x1, y1), label in zip(target.boxes.tolist(), target.labels.tolist(), strict=True):
            rows.append([index, label, (x0 + x1) / 2 / 96, (y0 + y1) / 2 / 64, (x1 - x0) / 96, (y1 - y0) / 64])
    table = torch.tensor(rows).reshape(-1, 6)
    return {"img": images, "batch_idx": table[:, 0], "cls": table[:, 1:2], "bboxes": table[:, 2:]}


def upstream_loss(adapter: Any, arch: str, images: torch.Tensor, targets: list[Target], epoch: int = 0) -> torch.Tensor:
    """Return what upstream's own model and trainer would add up: built by name, batch written out by hand."""
    model = DetectionModel(f"{arch.removesuffix('u')}.yaml", nc=3, verbose=False)
    model.load_state_dict(adapter.module.state_dict())
    model.args = copy.copy(DEFAULT_CFG)
    model.args.epochs = 5
    batch = upstream_batch(images, targets)
    model.criterion = model.init_criterion()
    for _ in range(epoch):
        model.criterion.update()
    return model.loss(batch)[0]


@pytest.mark.parametrize(
    ("arch", "empty"), first_fast([("yolov8n", True), *((arch, False) for arch in FAMILIES), ("yolo26n", True)], 4)
)
def test_the_loss_is_upstreams_over_the_batch_size(build: Any, make_target: MakeTarget, arch: str, empty: bool) -> None:
    adapter, _ = build(arch)
    images = torch.rand(3, 3, 64, 96)
    targets = [make_target() for _ in images] if empty else two_targets(make_target)
    losses = adapter.loss(images, targets)
    expected = upstream_loss(adapter, arch, images, targets) / len(images)
    assert list(losses) == ["box", "cls", "l1" if arch == "yolo26n" else "dfl"]
    assert all(loss.shape == () and loss.dtype == torch.float32 for loss in losses.values())
    torch.testing.assert_close(torch.stack(list(losses.values())), expected)
    assert sum(losses.values()) > 0
    sum(losses.values()).backward()
    without = [name for name, parameter in adapter.module.named_parameters() if parameter.grad is None]
    assert without == []


def test_the_loss_does_not_depend_on_how_often_an_image_is_given(build: Any, make_target: MakeTarget) -> None:
    adapter, _ = build("yolov8n")
    adapter.module.eval()  # else the batch statistics change with the batch
    images, targets = torch.rand(3, 3, 64, 96), two_targets(make_target)
    once = adapter.loss(images, targets)
    twice = adapter.loss(images.repeat(2, 1, 1, 1), targets * 2)
    for name, loss in once.items():
        torch.testing.assert_close(loss, twice[name])


@pytest.mark.parametrize("arch", first_fast(["yolo26n", "yolov10n"]))
def test_a_dual_head_shifts_its_loss_as_upstream_does_over_epochs(
    build: Any, make_target: MakeTarget, arch: str
) -> None:
    adapter, _ = build(arch)
    assert isinstance(adapter, HasTrainingProgress)
    images, targets = torch.rand(3, 3, 64, 96), two_targets(make_target)
    sums = []
    for epoch in (3, 0):
        adapter.set_progress(epoch / 4)
        expected = upstream_loss(adapter, arch, images, targets, epoch) / len(images)
        found = torch.stack(list(adapter.loss(images, targets).values()))
        torch.testing.assert_close(found, expected)
        sums.append(found.sum().item())
    assert sums[0] != pytest.approx(sums[1], rel=0.01)


def test_progress_set_before_the_first_loss_counts(build: Any, make_target: MakeTarget) -> None:
    images, targets = torch.rand(3, 3, 64, 96), two_targets(make_target)
    early, _ = build("yolov10n")
    early.set_progress(1.0)
    late, _ = build("yolov10n")
    late.loss(images, targets)
    late.module.load_state_dict(early.module.state_dict())
    late.set_progress(1.0)
    for name, loss in early.loss(images, targets).items():
        torch.testing.assert_close(loss, late.loss(images, targets)[name])


def test_half_precision_does_not_reach_the_boxes(build: Any, make_target: MakeTarget) -> None:
    adapter = lively(build("yolov8n")[0])
    images, targets = torch.rand(3, 3, 64, 96), two_targets(make_target)
    exact = adapter.predict(images)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        raw = adapter.module(images)[1]
        assert raw["boxes"].dtype == torch.bfloat16
        half = adapter.loss(images, targets)
        found = adapter.predict(images)
    # The network's output is half precision's, what follows is not.
    single = {"feats": [map_.float() for map_ in raw["feats"]]} | {k: raw[k].float() for k in ("boxes", "scores")}
    expected = adapter.module.init_criterion()(single, upstream_batch(images, targets))[0] / len(images)
    torch.testing.assert_close(torch.stack(list(half.values())), expected, rtol=1e-5, atol=0)
    assert sum(len(prediction) for prediction in exact) > 0
    for one, other in zip(exact, found, strict=True):
        assert one.boxes.equal(other.boxes)


def test_the_fixed_projection_is_no_parameter_and_keeps_its_key(build: Any) -> None:
    adapter, _ = build("yolov8n")
    key = "model.22.dfl.conv.weight"
    assert adapter.module.state_dict()[key].flatten().tolist() == list(range(16))
    assert key not in dict(adapter.module.named_parameters())
    assert all(parameter.requires_grad for parameter in adapter.module.parameters())


def lively(adapter: Any) -> Any:
    """Give a fresh model scores and box sizes that vary, so that it finds many different things."""
    head = adapter.module.model[-1]
    for branch in ("cv3", "one2one_cv3"):
        for layers in getattr(head, branch, None) or ():
            nn.init.normal_(layers[-1].weight, std=3.0)
            nn.init.constant_(layers[-1].bias, -2.0)
    for branch in ("cv2", "one2one_cv2"):
        for layers in getattr(head, branch, None) or ():
            nn.init.normal_(layers[-1].bias, std=1.0)
    adapter.module.eval()
    return adapter


def slow_detections(module: nn.Module, image: torch.Tensor) -> list[tuple[float, int, list[float]]]:
    """Decode and suppress one image in a plain loop: (score, label, box), best first."""
    with torch.no_grad():
        raw = module(image[None])[0][0].double().numpy()  # (4 + classes, anchors): centre, size, scores
    candidates = []
    for column in raw.T:
        x, y, width, height = column[:4]
        box = [x - width / 2, y - height / 2, x + width / 2, y + height / 2]
        candidates += [(score, label, box) for label, score in enumerate(column[4:]) if score > 0.001]
    kept: list[tuple[float, int, list[float]]] = []
    for score, label, box in sorted(candidates, key=lambda entry: -entry[0]):
        if all(other != label or iou(box, rival) <= 0.7 for _, other, rival in kept):
            kept.append((score, label, box))
    return kept[:300]


def iou(a: list[float], b: list[float]) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    inter = max(width, 0) * max(height, 0)
    return inter / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - inter)


@pytest.mark.parametrize("arch", ["yolov8n", "yolov10n", "yolo26n"])
def test_predictions_are_those_of_a_plain_loop_clipped(build: Any, arch: str) -> None:
    adapter = lively(build(arch)[0])
    images = torch.rand(2, 3, 64, 96)
    predictions = adapter.predict(images)
    assert len(predictions) == 2
    for image, prediction in zip(images, predictions, strict=True):
        expected = slow_detections(adapter.module, image)
        assert len(expected) > 20
        assert len(prediction) == len(expected)
        boxes = np.clip([box for _, _, box in expected], 0, [96, 64, 96, 64])
        np.testing.assert_allclose(prediction.scores, [score for score, _, _ in expected], atol=1e-6)
        assert prediction.labels.tolist() == [label for _, label, _ in expected]
        np.testing.assert_allclose(prediction.boxes, boxes, atol=1e-3)


@pytest.mark.parametrize("arch", ["yolov10n", "yolo26n"])
def test_a_one_to_one_head_gives_its_own_best(build: Any, arch: str) -> None:
    adapter = lively(build(arch)[0])
    images = torch.rand(2, 3, 128, 160)
    adapter.module.end2end = True
    with torch.no_grad():
        expected = adapter.module(images)[0]  # (N, 300, 6): x0, y0, x1, y1, score, class
    assert expected.shape == (2, 300, 6)
    for best, prediction in zip(expected, adapter.predict(images), strict=True):
        rows = best[best[:, 4] > 0.001]
        assert len(prediction) == len(rows) > 20
        assert prediction.scores.equal(rows[:, 4])
        assert prediction.labels.tolist() == rows[:, 5].tolist()


def test_a_slow_machine_loses_no_image(build: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    adapter = lively(build("yolov8n")[0])
    images = torch.rand(3, 3, 64, 96)
    expected = [len(prediction) for prediction in adapter.predict(images)]
    assert min(expected) > 0
    clock = iter(range(0, 10**9, 10**4))
    monkeypatch.setattr(time, "time", lambda: float(next(clock)))
    assert [len(prediction) for prediction in adapter.predict(images)] == expected


def test_an_image_without_a_find_has_an_empty_prediction(build: Any) -> None:
    adapter, _ = build("yolov8n")
    for layers in adapter.module.model[-1].cv3:
        nn.init.constant_(layers[-1].bias, -50.0)
    adapter.module.eval()
    (prediction,) = adapter.predict(torch.rand(1, 3, 64, 64))
    assert isinstance(prediction, Prediction)
    assert prediction.boxes.shape == (0, 4)


def test_predict_asks_for_eval_mode(build: Any) -> None:
    adapter, _ = build("yolov8n")
    with pytest.raises(RuntimeError, match="eval mode"):
        adapter.predict(torch.rand(1, 3, 64, 64))


def test_training_goes_on_after_a_prediction_in_inference_mode(build: Any, make_target: MakeTarget) -> None:
    adapter = lively(build("yolov8n")[0])
    images = torch.rand(3, 3, 64, 96)
    with torch.inference_mode():
        adapter.predict(images)
    adapter.features(images)["p3"].sum().backward()
    sum(adapter.loss(images, two_targets(make_target)).values()).backward()
    adapter.module.train()
    sum(adapter.loss(images, two_targets(make_target)).values()).backward()
    copy.deepcopy(adapter.module)


def test_the_input_is_letterboxed_rgb(build: Any) -> None:
    spec = build("yolov8n")[0].input_spec
    assert (spec.resize, spec.multiple_of, spec.channel_order) == ("letterbox", 32, "rgb")
    assert spec.margin == 16, "half a stride, as upstream's validator pads"
    assert (spec.mean, spec.std, spec.value_range, spec.pad_value) == ((0, 0, 0), (1, 1, 1), 1.0, (114, 114, 114))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("arch", ["yolov8n", "yolo26n"])
def test_the_criterion_follows_the_device(build: Any, make_target: MakeTarget, arch: str) -> None:
    adapter, _ = build(arch)
    adapter.module.eval()
    images, targets = torch.rand(3, 3, 64, 96), two_targets(make_target)
    on_cpu = adapter.loss(images, targets)
    adapter.module.cuda()
    moved = [
        Target(boxes=target.boxes.cuda(), labels=target.labels.cuda(), crowd=target.crowd.cuda()) for target in targets
    ]
    for name, loss in adapter.loss(images.cuda(), moved).items():
        assert loss.device.type == "cuda"
        assert loss.item() == pytest.approx(on_cpu[name].item(), rel=1e-2)
    adapter.module.cpu()
    for name, loss in adapter.loss(images, targets).items():
        torch.testing.assert_close(loss, on_cpu[name])


def test_class_weights_scale_the_classification_loss(make_target: MakeTarget) -> None:
    def losses(options: YoloOptions | None) -> dict[str, torch.Tensor]:
        torch.manual_seed(0)
        classes = ClassMap.from_names(("a", "b", "c"))
        adapter, _ = plugin.build(BuildSpec(arch="yolov8n", weights="none", classes=classes, options=options))
        torch.manual_seed(1)
        return dict(adapter.loss(torch.rand(3, 3, 64, 96), two_targets(make_target)))

    plain = losses(None)
    double = losses(YoloOptions(class_weights=[2.0, 2.0, 2.0]))
    torch.testing.assert_close(double["cls"], 2 * plain["cls"])
    torch.testing.assert_close(double["box"], plain["box"])
    one = losses(YoloOptions(class_weights={"b": 3.0}))
    assert plain["cls"] < one["cls"] < 3 * plain["cls"]
    with pytest.raises(InputError, match=r"model\.options\.class_weights: no class 'bb'"):
        losses(YoloOptions(class_weights={"bb": 3.0}))
    with pytest.raises(InputError, match="plugin 'yolo' expects YoloOptions, got dict"):
        losses({"class_weights": [2.0, 2.0, 2.0]})  # type: ignore[arg-type]
