"""Pretrained tensors in mmseg models: class rows by name in all heads, backbones, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from fast import first_fast
from tlvision.plugin import BuildSpec, WeightReport, get_plugin
from tlvision.types import ClassMap, InputError

LIGHT = "deeplabv3plus_mobilenet-v2-d16"
FCN = "fcn_r18b-d8_4xb2-80k_cityscapes-512x1024"
BISENET = "bisenetv1_r18-d32-in1k-pre_4xb4-160k_cityscapes-1024x1024"


def build(arch: str, names: tuple[str, ...], weights: str = "none") -> tuple[Any, WeightReport]:
    spec = BuildSpec(arch=arch, weights=weights, classes=ClassMap.from_names(names), image_size=128)
    return get_plugin("mmseg").build(spec)


def heads(module: Any) -> list[Any]:
    return [module.decode_head.conv_seg, module.auxiliary_head.conv_seg]


def test_rows_of_both_heads_go_by_the_names_in_a_checkpoint_of_mmseg(tmp_path: Path) -> None:
    source, _ = build(LIGHT, ("road", "sky", "car"))
    path = tmp_path / "iter_100.pth"
    meta = {"dataset_meta": {"classes": ("road", "sky", "car")}}
    torch.save({"meta": meta, "state_dict": source.module.state_dict()}, path)
    target, report = build(LIGHT, ("kite", "car", "road"), str(path))
    for old, new in zip(heads(source.module), heads(target.module), strict=True):
        assert torch.equal(new.weight[1:], old.weight[[2, 0]])
        assert not torch.equal(new.weight[0], old.weight[1])
    assert "decode_head.conv_seg.weight: rows car, road of 3; fresh kite" in report.remapped
    assert len(report.remapped) == 4
    assert not (*report.missing, *report.mismatched, *report.unused)
    assert report.source == str(path)


@pytest.mark.slow
def test_a_file_without_names_has_the_classes_of_the_configs_dataset(tmp_path: Path) -> None:
    from tlvision_openmmlab.mmseg.config import read_config
    from tlvision_openmmlab.mmseg.zoo import find_config

    cityscapes = read_config(find_config(FCN)).classes
    assert cityscapes is not None
    assert cityscapes[0] == "road"
    source, _ = build(FCN, cityscapes)
    path = tmp_path / "zoo.pth"
    torch.save(source.module.state_dict(), path)
    target, _ = build(FCN, ("car", "kiwi"), str(path))
    old, new = (each.module.decode_head.conv_seg.weight for each in (source, target))
    assert torch.equal(new[0], old[cityscapes.index("car")])


def test_imagenet_weights_of_torchvision_come_from_torchs_hub_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torchvision.models import mobilenet_v2

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    theirs = mobilenet_v2()
    torch.save(theirs.state_dict(), folder / "mobilenet_v2-b0353104.pth")
    adapter, report = build(LIGHT, ("a", "b"), "imagenet")
    ours = adapter.module.backbone
    assert torch.equal(ours.conv1.conv.weight, theirs.features[0][0].weight)
    assert torch.equal(ours.layer7[0].conv[2].bn.running_var, theirs.features[17].conv[3].running_var)
    assert not any("backbone" in key for key in report.missing)
    assert "features.18.0.weight" in report.unused  # mmseg's own ends before it


@pytest.mark.slow
def test_the_backbone_inside_a_backbone_gets_its_weights(tmp_path: Path) -> None:
    source, _ = build(BISENET, ("a", "b"))
    path = tmp_path / "resnet18.pth"
    torch.save(source.module.backbone.context_path.backbone.state_dict(), path)
    target, report = build(BISENET, ("a", "b"), str(path))
    prefix = "backbone.context_path.backbone."
    assert report.loaded
    assert {key for key in target.module.state_dict() if key.startswith(prefix)} == set(report.loaded)


@pytest.mark.parametrize(
    ("arch", "weights", "said"),
    first_fast(
        [
            (LIGHT, "imagenet", "mobilenet_v2-b0353104.pth"),
            (LIGHT, "pretrained", "lists no checkpoint"),
            (LIGHT, "coco", "give 'pretrained'"),
            (FCN, "pretrained", "fcn_r18b-d8_512x1024_80k_cityscapes_20201225_230143-92c0f445.pth"),
            (BISENET, "imagenet", "resnet18_v1c"),
        ],
        4,
    ),
)
def test_without_a_network_it_says_what_to_fetch_and_where_to_put_it(
    arch: str, weights: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def offline(url: str, path: str) -> None:
        raise OSError("no network")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", offline)
    with pytest.raises(InputError, match=said):
        build(arch, ("a", "b"), weights)


def test_weights_of_another_architecture_are_refused(tmp_path: Path) -> None:
    other, _ = build(FCN, ("a", "b"))
    path = tmp_path / "other.pth"
    torch.save(other.module.state_dict(), path)
    with pytest.raises(InputError, match=r"has only 0 of the \d+ tensors of the backbone"):
        build(LIGHT, ("a", "b"), str(path))


@pytest.mark.shared
@pytest.mark.parametrize("arch", [LIGHT, "mobilenet-v2-d8_deeplabv3plus_4xb2-80k_cityscapes-512x1024"])
def test_the_real_mobilenet_fills_the_whole_backbone(arch: str, shared: Path) -> None:
    adapter, report = build(arch, ("a", "b"), str(shared / "weights" / "mobilenet_v2-imagenet-from-int8.pth"))
    assert len(report.loaded) == 306, "another library's names, and as pretrained as any"
    assert not report.remapped
    assert set(report.loaded) == {key for key in adapter.module.state_dict() if key.startswith("backbone.")}
    assert not any("backbone" in key for key in (*report.missing, *report.mismatched))
