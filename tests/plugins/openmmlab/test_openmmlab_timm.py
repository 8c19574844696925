"""Backbones of timm in mmdet and mmseg: named in a config or in options, with the channels that others read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import timm
import torch

from tlvision.plugin import BuildSpec, WeightReport, get_plugin, map_groups
from tlvision.types import ClassMap, InputError

CONFIGS = Path(__file__).parent / "configs"
STAGES = ["backbone.stage1", "backbone.stage2", "backbone.stage3", "backbone.stage4"]
TINY = str(CONFIGS / "faster-rcnn_tiny.py")


def build(plugin: str, arch: str, backbone: str | None = None, weights: object = "none") -> tuple[Any, WeightReport]:
    torch.manual_seed(0)
    found = get_plugin(plugin)
    options = None if backbone is None else found.options_type()(backbone=backbone)  # type: ignore[attr-defined]
    classes = ClassMap.from_names(("ant", "bee"))
    return found.build(BuildSpec(arch=arch, weights=str(weights), classes=classes, image_size=96, options=options))


def write(folder: Path, backbone: str, base: str = TINY) -> str:
    path = folder / "mine.py"
    path.write_text(f"_base_ = {base!r}\nmodel = dict(backbone=dict({backbone}))\n", encoding="utf-8")
    return str(path)


# Plugin, config, backbone option, channels of the maps, groups behind the stages.
FAMILIES = {
    "mmdet, in the config": ("mmdet", "faster-rcnn_timm.py", None, (24, 32, 48, 64), ["neck", "rpn_head"]),
    "mmdet, plain transformer": ("mmdet", "retinanet_timm.py", None, (32,) * 4, ["pyramid", "neck"]),
    "mmdet, by option": ("mmdet", "faster-rcnn_tiny.py", "timm/test_vit", (256,) * 4, ["pyramid", "neck"]),
    "mmdet, three maps": ("mmdet", "deformable-detr_tiny.py", "timm/test_convnext", (32, 48, 64), ["neck", "encoder"]),
    "mmseg, in the config": ("mmseg", "upernet_timm.py", None, (24, 32, 48, 64), ["decode_head", "auxiliary_head"]),
    "mmseg, by option": ("mmseg", "mask2former_tiny.py", "timm/test_vit", (256,) * 4, ["pyramid", "pixel_decoder"]),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_groups_and_maps(family: str) -> None:
    plugin, config, backbone, channels, rest = FAMILIES[family]
    adapter, report = build(plugin, str(CONFIGS / config), backbone)
    groups = [group.name for group in adapter.groups]
    assert groups[:7] == ["stem", *STAGES, *rest]
    map_groups(adapter.module, adapter.groups)  # raises where a tensor is in two groups or in none
    assert adapter.module.backbone.channels == channels
    assert {tap.channels for tap in adapter.taps if tap.name[0] == "c"} == set(channels)
    assert set(report.missing) == set(adapter.module.state_dict())


@pytest.mark.parametrize(("plugin", "config"), [("mmdet", "retinanet_timm.py"), ("mmseg", "upernet_timm.py")])
def test_a_file_of_timm_fills_the_backbone(plugin: str, config: str, tmp_path: Path) -> None:
    name = "test_vit" if plugin == "mmdet" else "test_convnext"
    classifier = timm.create_model(name)
    path = tmp_path / "timm.pth"
    torch.save(classifier.state_dict(), path)
    adapter, report = build(plugin, str(CONFIGS / config), None, path)
    backbone = adapter.module.backbone.eval()
    own = timm.create_model(name, features_only=True, out_indices=(-1,), **backbone.model.options).eval()
    own.load_state_dict({key: value for key, value in backbone.net.state_dict().items() if key in own.state_dict()})
    images = torch.randn(1, 3, 96, 160)
    with torch.no_grad():
        expected = own(images)[-1]
        if backbone.pyramid is None:
            assert torch.equal(backbone(images)[-1], expected)
        else:
            for level, other in zip(backbone(images), backbone.pyramid(expected), strict=True):
                assert torch.equal(level, other)
    first = {"test_vit": ("model.patch_embed.proj.weight", "patch_embed.proj.weight")}
    here, there = first.get(name, ("stem_0.weight", "stem.0.weight"))
    assert torch.equal(backbone.net.state_dict()[here], classifier.state_dict()[there])
    assert {f"backbone.net.{key}" for key in backbone.net.state_dict()} == set(report.loaded)
    assert not [key for key in report.missing if key.startswith("backbone.") and ".pyramid." not in key]


def test_a_checkpoint_of_the_model_fills_all_of_it(tmp_path: Path) -> None:
    source, _ = build("mmdet", str(CONFIGS / "faster-rcnn_timm.py"))
    path = tmp_path / "mine.pth"
    torch.save({"state_dict": source.module.state_dict(), "meta": {"CLASSES": ("ant", "bee")}}, path)
    _, report = build("mmdet", str(CONFIGS / "faster-rcnn_timm.py"), None, path)
    assert set(report.loaded) == set(source.module.state_dict())


def test_an_option_normalises_images_as_timms_weights_expect() -> None:
    assert build("mmdet", str(CONFIGS / "faster-rcnn_timm.py"))[0].input_spec.mean == (123.675, 116.28, 103.53)
    spec = build("mmdet", TINY, "timm/test_vit")[0].input_spec
    assert (spec.mean, spec.std, spec.value_range, spec.channel_order) == ((0.5,) * 3, (0.5,) * 3, 1.0, "rgb")
    assert spec.pad_value == (128, 128, 128)


@pytest.mark.parametrize(
    ("plugin", "arch", "name", "expected"),
    [
        ("mmseg", "segmenter_vit-t_mask_8xb1-160k_ade20k-512x512", "test_vit", (16,)),
        ("mmseg", "upernet_r18_4xb2-40k_cityscapes-512x1024", "test_vit", (4, 8, 16, 32)),
        ("mmdet", "yolof_r50-c5_8xb8-1x_coco", "test_vit", (32,)),
        ("mmdet", "yolov3_mobilenetv2_8xb24-320-300e_coco", "test_convnext", (8, 16, 32)),  # its neck begins with 32
    ],
)
def test_as_many_maps_as_the_config_reads(plugin: str, arch: str, name: str, expected: tuple[int, ...]) -> None:
    """A config that is written for a plain transformer gets its maps, any other gets the pyramid."""
    assert build(plugin, arch, f"timm/{name}")[0].module.backbone.strides == expected


@pytest.mark.parametrize(
    ("backbone", "message"),
    [
        ("type='tlvision_timm.backbone.TimmBackbone', name='test_vit'", "has depth, "),
        ("_delete_=True, type='tlvision_timm.backbone.TimmBackbone'", "has no name, but TimmBackbone takes"),
        (
            "_delete_=True, type='tlvision_timm.backbone.TimmBackbone', name='test_vit', out_indices=(0, 1)",
            "mine.py: test_vit gives 2 maps, but FPN reads 4",
        ),
        (
            "_delete_=True, type='tlvision_timm.backbone.TimmBackbone', name='test_vitt'",
            "timm has no model 'test_vitt'. Did you mean 'test_vit'",
        ),
    ],
)
def test_errors_of_a_config(backbone: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        build("mmdet", write(tmp_path, backbone))
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("plugin", "arch", "weights", "message"),
    [
        ("mmdet", TINY, "coco", "'coco' is a checkpoint with the config's own backbone"),
        ("mmdet", "ssd300_coco", "none", "the model of 'ssd300_coco.py' cannot be built on timm's 'test_convnext'"),
        ("mmdet", "faster-rcnn_r50-caffe-c4_ms-1x_coco", "none", "neither a neck nor a head has `in_channels`"),
        (
            "mmseg",
            "bisenetv2_fcn_4xb4-160k_cityscapes-1024x1024",
            "none",
            "test_convnext gives 4 maps, but FCNHead reads those at 4",
        ),
    ],
)
def test_errors_of_an_option(plugin: str, arch: str, weights: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        build(plugin, arch, "timm/test_convnext", weights)
    assert message in str(caught.value)


def test_imagenet_weights_are_those_of_timm(monkeypatch: pytest.MonkeyPatch) -> None:
    create = timm.create_model
    torch.manual_seed(1)
    classifier = create("test_convnext")

    def offered(name: str, *, pretrained: bool = False, **options: Any) -> Any:
        return classifier if pretrained else create(name, **options)

    monkeypatch.setattr(timm, "create_model", offered)
    for arch, backbone in ((str(CONFIGS / "faster-rcnn_timm.py"), None), (TINY, "timm/test_convnext")):
        adapter, report = build("mmdet", arch, backbone, "imagenet")
        assert torch.equal(adapter.module.backbone.net.stem_0.weight, classifier.stem[0].weight)
        assert report.source == "imagenet"
        assert not [key for key in report.missing if key.startswith("backbone.")]


def test_nothing_is_registered_in_upstream() -> None:
    build("mmdet", str(CONFIGS / "faster-rcnn_timm.py"))
    from mmdet.registry import MODELS

    assert "TimmBackbone" not in MODELS.module_dict
    assert len(MODELS.module_dict) > 100
