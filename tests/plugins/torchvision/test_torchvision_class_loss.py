"""Class weights and focal parameters of torchvision's detectors, against upstream's own loss functions."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torchvision.models.detection import fcos, retinanet, roi_heads
from torchvision.ops import sigmoid_focal_loss

from tlvision.plugin import BuildSpec
from tlvision.types import ClassMap, InputError, Target
from tlvision_torchvision.options import TorchvisionOptions
from tlvision_torchvision.plugin import plugin

MakeTarget = Callable[..., Target]
FASTER, RETINANET, FCOS = (f"{name}_mobilenet_v3_small_fpn" for name in ("fasterrcnn", "retinanet", "fcos"))
WEIGHTS = torch.tensor([1.0, 4.0, 0.5])


def build(arch: str, **options: Any) -> Any:
    torch.manual_seed(0)
    given = TorchvisionOptions(**options) if options else None
    spec = BuildSpec(arch=arch, weights="none", classes=ClassMap.from_names(("a", "b", "c")), options=given)
    return plugin.build(spec)[0]


def losses_of(adapter: Any, make_target: MakeTarget) -> dict[str, Tensor]:
    torch.manual_seed(1)
    targets = [make_target([[3, 4, 60, 70, 1], [50, 10, 90, 60, 2]]), make_target([]), make_target([[9, 9, 50, 60, 0]])]
    return dict(adapter.loss(torch.rand(3, 3, 96, 96), targets))


@pytest.mark.parametrize("arch", [FASTER, RETINANET, FCOS])
def test_weights_of_one_are_no_weights_bit_for_bit(make_target: MakeTarget, arch: str) -> None:
    plain, ones = (losses_of(build(arch, **given), make_target) for given in ({}, {"class_weights": [1.0, 1.0, 1.0]}))
    assert plain.keys() == ones.keys()
    assert all(torch.equal(plain[name], ones[name]) for name in plain)


def test_the_cross_entropy_of_regions(make_target: MakeTarget, monkeypatch: pytest.MonkeyPatch) -> None:
    weighted = build(FASTER, class_weights={"b": 4.0, "c": 0.5})
    found, of_copy = losses_of(weighted, make_target), losses_of(copy.deepcopy(weighted), make_target)
    upstream = roi_heads.fastrcnn_loss

    def loss(logits: Tensor, boxes: Tensor, labels: list[Tensor], wanted: list[Tensor]) -> tuple[Tensor, Tensor]:
        total, count = torch.zeros(()), torch.zeros(())
        for row, label in zip(logits, torch.cat(labels), strict=True):
            weight = 1.0 if label == 0 else WEIGHTS[label - 1]
            total, count = total - weight * row.softmax(0)[label].log(), count + weight
        return total / count, upstream(logits, boxes, labels, wanted)[1]

    monkeypatch.setattr(roi_heads, "fastrcnn_loss", loss)
    torch.testing.assert_close(found, losses_of(build(FASTER), make_target))
    torch.testing.assert_close(found, of_copy)


@pytest.mark.parametrize(("arch", "module"), [(RETINANET, retinanet), (FCOS, fcos)])
def test_the_focal_loss(make_target: MakeTarget, monkeypatch: pytest.MonkeyPatch, arch: str, module: Any) -> None:
    options = {"class_weights": WEIGHTS.tolist(), "focal_alpha": 0.4, "focal_gamma": 1.5}
    found = losses_of(build(arch, **options), make_target)
    plain = losses_of(build(arch), make_target)

    def loss(logits: Tensor, wanted: Tensor, reduction: str) -> Tensor:
        assert reduction == "sum"
        return (WEIGHTS * sigmoid_focal_loss(logits, wanted, alpha=0.4, gamma=1.5)).sum()

    monkeypatch.setattr(module, "sigmoid_focal_loss", loss)
    expected = losses_of(build(arch), make_target)
    torch.testing.assert_close(found, expected)
    assert not torch.isclose(found["classification"], plain["classification"], rtol=0.05)


@pytest.mark.parametrize(
    ("arch", "options", "words"),
    [
        ("ssdlite320_mobilenet_v3_large", {"class_weights": {"a": 2.0}}, "has no class_weights; remove it, it has no"),
        (FASTER, {"focal_gamma": 1.0}, "has no focal_gamma; remove it. Its options: class_weights"),
        ("lraspp_mobilenet_v3_large", {"focal_alpha": 0.5}, "is a segmenter and has no focal_alpha; remove it"),
        (RETINANET, {"class_weights": {"aa": 2.0}}, "no class 'aa'"),
        (FCOS, {"class_weights": [2.0]}, "expected 3 values"),
    ],
)
def test_options_that_do_not_fit(arch: str, options: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        build(arch, **options)
