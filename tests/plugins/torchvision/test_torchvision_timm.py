"""Detectors of torchvision on backbones of timm: parts, weights, and what they accept."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torchvision.ops import FeaturePyramidNetwork

from tlvision.plugin import map_groups
from tlvision.types import InputError
from tlvision_timm.pyramid import SimplePyramid

STAGES = tuple(f"backbone.stage{at}" for at in range(1, 5))


@pytest.mark.parametrize(
    ("arch", "neck", "heads", "taps"),
    [
        ("fasterrcnn_timm/test_vit", SimplePyramid, ("head.rpn", "head.roi"), ["p2", "p3", "c4", "p4", "p5"]),
        ("retinanet_timm/test_vit", SimplePyramid, ("head",), ["p3", "c4", "p4", "p5"]),
        (
            "maskrcnn_timm/test_convnext",
            FeaturePyramidNetwork,
            ("head.rpn", "head.roi"),
            ["c2", "p2", "c3", "p3", "c4", "p4", "c5", "p5"],
        ),
    ],
)
def test_groups_and_taps(build: Any, arch: str, neck: type, heads: tuple[str, ...], taps: list[str]) -> None:
    adapter, report = build(arch)
    assert isinstance(adapter.module.backbone.fpn, neck)
    assert map_groups(adapter.module, adapter.groups).names() == ("stem", *STAGES, "neck", *heads)
    assert [tap.name for tap in adapter.taps] == taps
    adapter.module.eval()
    features = adapter.features(torch.rand(1, 3, 96, 160))
    for tap in adapter.taps:
        assert features[tap.name].shape == (1, tap.channels, 96 // tap.stride, 160 // tap.stride), tap
    assert set(report.missing) == set(adapter.module.state_dict())


def test_a_file_of_timm_fills_the_backbone(build: Any, tmp_path: Path) -> None:
    classifier = timm.create_model("test_vit", dynamic_img_size=True).eval()
    path = tmp_path / "timm.pth"
    torch.save(classifier.state_dict(), path)
    adapter, report = build("fasterrcnn_timm/test_vit", weights=path)
    adapter.module.eval()
    images = torch.randn(1, 3, 96, 160)
    with torch.no_grad():
        _, expected = classifier.forward_intermediates(images, indices=1)
        assert torch.equal(adapter.features(images)["c4"], expected[0])
    body = {key for key in adapter.module.state_dict() if key.startswith("backbone.body.")}
    assert set(report.loaded) == body
    assert all(key.startswith(("backbone.fpn.", "rpn.", "roi_heads.")) for key in report.missing)
    assert set(report.unused) == {"norm.weight", "norm.bias", "head.weight", "head.bias"}


def test_its_own_file_fills_all_of_it(build: Any, tmp_path: Path) -> None:
    source, _ = build("retinanet_timm/test_convnext")
    path = tmp_path / "own.pth"
    torch.save({key: tensor + 1 for key, tensor in source.module.state_dict().items()}, path)
    _, report = build("retinanet_timm/test_convnext", weights=path)
    assert len(report.loaded) + len(report.mismatched) == len(source.module.state_dict())
    with pytest.raises(InputError, match="belongs to another architecture than 'retinanet_timm/test_convnext2'"):
        build("retinanet_timm/test_convnext2", weights=path)


def test_images_are_normalised_as_timms_weights_expect(build: Any) -> None:
    spec = build("fasterrcnn_timm/test_vit")[0].input_spec
    assert (spec.mean, spec.std, spec.pad_value, spec.multiple_of) == ((0.5,) * 3, (0.5,) * 3, (128,) * 3, 32)
    assert build("fasterrcnn_timm/resnet10t")[0].input_spec.mean == (0.485, 0.456, 0.406)


def test_losses_of_an_odd_size_have_gradients_everywhere(build: Any, make_target: Callable[..., Any]) -> None:
    """Patches of 14 pixels: no input size that the spec allows is refused."""
    adapter, _ = build("retinanet_timm/eva02_tiny_patch14_224")
    assert adapter.input_spec.multiple_of == 32
    losses = adapter.loss(torch.rand(1, 3, 32, 96), [make_target([[4, 4, 28, 30, 1]])])
    torch.stack(list(losses.values())).sum().backward()
    assert not [name for name, each in adapter.module.named_parameters() if each.grad is None]


def test_an_unknown_name_gets_the_nearest(build: Any) -> None:
    with pytest.raises(InputError, match=r"timm has no model 'test_convnex'\. Did you mean 'test_convnext'"):
        build("fasterrcnn_timm/test_convnex")
    with pytest.raises(InputError, match=r"Others are '<detector>_<backbone>_fpn' and '<detector>_timm/<name>'"):
        build("yolo_timm/test_convnext")
