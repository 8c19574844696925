"""Backbones of timm: the maps are timm's own, whichever are asked for, and stages are cut at them."""

from __future__ import annotations

import ast
import copy
from pathlib import Path
from typing import Any

import pytest
import timm
import torch

import tlvision_timm
from tlvision.types import InputError
from tlvision_timm.backbone import TimmBackbone
from tlvision_timm.models import timm_model


def own(name: str, backbone: TimmBackbone, **options: Any) -> Any:
    """Return timm's own model with the weights of `backbone`, in eval mode."""
    model = timm.create_model(name, features_only=True, **options)
    model.load_state_dict(backbone.net.state_dict())
    return model.eval()


@pytest.mark.parametrize(
    ("name", "strides"),
    [
        ("test_convnext", (4, 8, 16, 32)),
        ("test_efficientnet", (4, 8, 16, 32)),  # it also has a map of stride 2
        pytest.param("swin_tiny_patch4_window7_224", (4, 8, 16, 32), marks=pytest.mark.slow),  # (N, H, W, C)
    ],
)
def test_maps_are_those_of_timm(name: str, strides: tuple[int, ...]) -> None:
    backbone = TimmBackbone(name).eval()
    images = torch.randn(2, 3, 96, 160)
    with torch.no_grad():
        maps = backbone(images)
        expected = own(name, backbone, **timm_model(name).options)(images)[-len(strides) :]
    assert backbone.strides == strides
    assert backbone.channels == tuple(map_.shape[1] for map_ in maps)
    for map_, other, stride in zip(maps, expected, strides, strict=True):
        assert map_.shape[2:] == (96 // stride, 160 // stride)
        assert torch.equal(map_, other.permute(0, 3, 1, 2) if "swin" in name else other)


def test_chosen_maps_are_among_those_of_timm() -> None:
    whole = TimmBackbone("test_convnext").eval()
    few = TimmBackbone("test_convnext", out_indices=(-2, 1)).eval()
    few.load_state_dict({key: whole.state_dict()[key] for key in few.state_dict()})
    images = torch.randn(1, 3, 64, 64)
    assert few.strides == (8, 16)
    for map_, expected in zip(few(images), whole(images)[1:3], strict=True):
        assert torch.equal(map_, expected)
    assert not any("stages_3" in key for key in few.state_dict())  # which nothing would read


def test_a_plain_transformer_gives_its_maps_or_a_pyramid_of_the_last() -> None:
    plain = TimmBackbone("test_vit", pyramid="none").eval()
    images = torch.randn(2, 3, 96, 160)
    maps = plain(images)
    expected = own("test_vit", plain, dynamic_img_size=True, out_indices=(0, 2, 3, 5))(images)
    assert plain.strides == (16,) * 4
    for map_, other in zip(maps, expected, strict=True):
        assert torch.equal(map_, other)
    pyramid = TimmBackbone("test_vit", out_indices=(1, 2), pyramid_channels=8).eval()
    pyramid.net.load_state_dict(plain.net.state_dict())
    assert pyramid.pyramid is not None
    levels = pyramid(images)
    assert (pyramid.strides, pyramid.channels) == ((8, 16), (8, 8))
    assert [tuple(level.shape) for level in levels] == [(2, 8, 12, 20), (2, 8, 6, 10)]
    for level, other in zip(levels, pyramid.pyramid(maps[-1]), strict=True):
        assert torch.equal(level, other)
    assert [tuple(level.shape) for level in TimmBackbone("test_vit", pyramid_channels=8)(images)] == [
        (2, 8, 96 // stride, 160 // stride) for stride in (4, 8, 16, 32)
    ]


def test_patches_of_14_pixels_see_a_resized_image() -> None:
    name = "eva02_tiny_patch14_224"
    backbone = TimmBackbone(name, (-1,), "none").eval()
    images = torch.randn(1, 3, 96, 160)
    resized = torch.nn.functional.interpolate(images, (84, 140), mode="bilinear", align_corners=False)
    with torch.no_grad():
        (map_,) = backbone(images)
        expected = own(name, backbone, dynamic_img_size=True, out_indices=(2, 5, 8, 11))(resized)[-1]
    assert map_.shape == (1, 192, 96 // 16, 160 // 16)
    assert backbone.strides == (16,)
    assert torch.equal(map_, expected)


@pytest.mark.parametrize(
    ("name", "stem", "second", "last"),
    [
        ("test_convnext", {"net.stem_0", "net.stem_1"}, "net.stages_1", "net.stages_3"),
        ("test_efficientnet", {"net.conv_stem", "net.bn1"}, "net.blocks.2", "net.blocks.4"),
        (
            "test_vit",
            {"net.model.cls_token", "net.model.pos_embed", "net.model.patch_embed", "net.model.pos_drop"},
            "net.model.blocks.2",
            "net.model.blocks.5",
        ),
    ],
)
def test_stages_end_at_the_maps(name: str, stem: set[str], second: str, last: str) -> None:
    backbone = TimmBackbone(name)
    segments = backbone.segments
    assert len(segments) == 5
    assert stem <= set(segments[0])
    assert second in segments[2]
    assert last in segments[4]
    keys = [key for key in backbone.state_dict() if key.startswith("net.")]
    assert keys
    for key in keys:
        owners = [at for at, stage in enumerate(segments) for path in stage if f"{key}.".startswith(f"{path}.")]
        assert len(owners) == 1, key


def test_a_copy_and_a_second_build_are_the_same_model() -> None:
    timm_model.cache_clear()
    torch.manual_seed(0)
    first = TimmBackbone("test_vit").eval()
    torch.manual_seed(0)
    second = TimmBackbone("test_vit").eval()
    images = torch.randn(1, 3, 64, 64)
    for map_, other, copied in zip(first(images), second(images), copy.deepcopy(first)(images), strict=True):
        assert torch.equal(map_, other)
        assert torch.equal(map_, copied)
    assert TimmBackbone("test_vit").training


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("test_vitt", {}, "timm has no model 'test_vitt'. Did you mean 'test_vit'"),
        ("test_convnext", {"out_indices": (4,)}, "out_indices (4,) of 'test_convnext' are not among its 4 maps"),
        ("test_vit", {"out_indices": ()}, "choose some of 0 to 3"),
        ("test_convnext", {"pyramid": "simple"}, "needs no pyramid; set pyramid to 'none'"),
        ("test_convnext", {"pyramid": "fpn"}, "pyramid 'fpn' is unknown"),
        ("hiera_tiny_224", {}, "cannot be a backbone for images of any size"),
    ],
)
def test_errors_name_problem_and_remedy(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        TimmBackbone(name, **options)
    assert message in str(caught.value)


def test_timm_is_imported_when_a_backbone_is_built() -> None:
    """The plugins import the package for every model, and timm is an extra."""
    files = list(Path(tlvision_timm.__file__).parent.glob("*.py"))
    assert len(files) > 4
    for path in files:
        imports = [node for node in ast.parse(path.read_text()).body if isinstance(node, ast.Import | ast.ImportFrom)]
        names = [name for node in imports for name in (getattr(node, "module", None), *(a.name for a in node.names))]
        assert not [name for name in names if name and name.partition(".")[0] == "timm"], path
