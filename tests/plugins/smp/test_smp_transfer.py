"""Pretrained tensors: which files are taken, where their tensors go, and what the report says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import segmentation_models_pytorch as smp
import timm
import torch
import torchvision

from fast import first_fast
from tlvision.training.checkpoint import save_weights
from tlvision.types import ClassMap, InputError
from tlvision_smp.transfer import class_keys


def assert_complete(adapter: Any, report: Any) -> None:
    entries = [
        *report.loaded,
        *report.missing,
        *(text.split(":")[0] for text in (*report.mismatched, *report.remapped)),
    ]
    assert sorted(entries) == sorted(adapter.module.state_dict())


def test_none(build: Any) -> None:
    adapter, report = build()
    assert (report.source, report.loaded) == ("none", ())
    assert_complete(adapter, report)


@pytest.mark.parametrize(
    ("arch", "make"),
    first_fast(
        [
            ("unet/mobilenet_v2", torchvision.models.mobilenet_v2),
            ("fpn/tu-convnext_atto", lambda: timm.create_model("convnext_atto")),
            ("unet/timm-efficientnet-b0", lambda: timm.create_model("tf_efficientnet_b0")),
            ("deeplabv3plus/resnet18", torchvision.models.resnet18),
            ("pspnet/resnet18", lambda: timm.create_model("resnet18")),
            ("unet/tu-resnet18", torchvision.models.resnet18),
            ("unet/tu-mobilenetv3_small_050", lambda: timm.create_model("mobilenetv3_small_050")),
            ("upernet/tu-swin_tiny_patch4_window7_224", lambda: timm.create_model("swin_tiny_patch4_window7_224")),
            ("dpt/tu-vit_tiny_patch16_224", lambda: timm.create_model("vit_tiny_patch16_224")),
            ("unet/densenet121", torchvision.models.densenet121),
            ("unet/vgg11_bn", torchvision.models.vgg11_bn),
        ],
        3,
    ),
)
def test_a_classifiers_file_goes_into_the_encoder(build: Any, tmp_path: Path, arch: str, make: Any) -> None:
    classifier = make()
    torch.save({key: tensor.half() for key, tensor in classifier.state_dict().items()}, tmp_path / "classifier.pth")
    adapter, report = build(arch, weights=tmp_path / "classifier.pth")
    assert_complete(adapter, report)
    state = adapter.module.state_dict()
    own = {key for key in state if key.startswith("encoder.")}
    assert set(report.loaded) == own
    assert set(report.missing) == set(state) - own
    assert not report.mismatched
    assert not report.remapped
    taken = {id(tensor) for tensor in classifier.state_dict().values()}
    assert len(own) + len(report.unused) == len(taken), "every tensor of the file is loaded or unused"
    # The first and the last convolution of the encoder have the values of the classifier's.
    weights = [tensor for tensor in classifier.state_dict().values() if tensor.ndim == 4]
    ours = [state[key] for key in state if key in own and state[key].ndim == 4]
    torch.testing.assert_close(ours[0], weights[0].half().float())


@pytest.mark.parametrize("arch", ["unet/mobilenet_v2", "fpn/tu-convnext_atto"])
def test_an_encoders_own_state_dict(build: Any, tmp_path: Path, arch: str) -> None:
    trained, _ = build(arch)
    torch.save(trained.module.encoder.state_dict(), tmp_path / "encoder.pth")
    torch.manual_seed(5)
    adapter, report = build(arch, weights=tmp_path / "encoder.pth")
    assert_complete(adapter, report)
    assert not report.unused
    assert set(report.missing) == {key for key in adapter.module.state_dict() if not key.startswith("encoder.")}


@pytest.mark.shared
def test_the_shared_mobilenet(shared: Path, build: Any) -> None:
    file = shared / "weights" / "mobilenet_v2-imagenet-from-int8.pth"
    adapter, report = build(weights=file)
    assert_complete(adapter, report)
    assert report.source == str(file)
    assert report.unused == ("classifier.1.weight", "classifier.1.bias")
    assert set(report.loaded) == {key for key in adapter.module.state_dict() if key.startswith("encoder.")}
    stored = torch.load(file, weights_only=True)
    assert adapter.module.encoder.features[0][0].weight.equal(stored["features.0.0.weight"].float())


def changed(adapter: Any) -> dict[str, torch.Tensor]:
    return {key: tensor + 1 for key, tensor in adapter.module.state_dict().items()}


@pytest.mark.parametrize("arch", first_fast(["unet/mobilenet_v2", "dpt/tu-vit_tiny_patch16_224"]))
def test_rows_of_the_head_go_by_class_name(build: Any, tmp_path: Path, arch: str) -> None:
    trained, _ = build(arch, names=["road", "Car ", "tree"])
    state = changed(trained)
    save_weights(tmp_path / "model.safetensors", state, ClassMap.from_names(["road", "Car ", "tree"]))
    adapter, report = build(arch, names=["car", "sky", "tree"], weights=tmp_path / "model.safetensors")
    assert_complete(adapter, report)
    keys = class_keys(adapter.module)
    assert report.remapped == tuple(f"{key}: rows car, tree of 3; fresh sky" for key in keys)
    for key in keys:
        ours = adapter.module.state_dict()[key]
        assert ours[0].equal(state[key][1])
        assert ours[2].equal(state[key][2])
        assert not ours[1].equal(state[key][0])
    assert not report.missing
    assert not report.unused
    same, again = build(arch, names=["road", "Car ", "tree"], weights=tmp_path / "model.safetensors")
    assert len(again.loaded) == len(state)
    assert all(tensor.equal(state[key]) for key, tensor in same.module.state_dict().items())


def test_a_whole_state_dict_of_smp_does_not_name_its_classes(build: Any, tmp_path: Path) -> None:
    theirs = smp.Unet("mobilenet_v2", encoder_weights=None, classes=3)
    torch.save(theirs.state_dict(), tmp_path / "unet.pth")
    adapter, report = build(weights=tmp_path / "unet.pth")
    assert_complete(adapter, report)
    assert [text.split(":")[0] for text in report.mismatched] == list(class_keys(adapter.module))
    assert len(report.loaded) == len(theirs.state_dict()) - 2
    images = torch.rand(1, 3, 64, 64)
    assert adapter.module.eval().encoder(images)[-1].equal(theirs.eval().encoder(images)[-1])


@pytest.mark.parametrize(
    ("arch", "said"),
    first_fast(
        [
            ("unet/resnet18", "does not fit the encoder of 'unet/resnet18'.* are not in it"),
            ("unet/resnet50", "another shape"),
        ]
    ),
)
def test_a_classifier_of_another_architecture_is_refused(build: Any, tmp_path: Path, arch: str, said: str) -> None:
    maker = torchvision.models.mobilenet_v2 if arch.endswith("18") else torchvision.models.resnet101
    state = maker().state_dict()
    torch.save({key: tensor[:1] for key, tensor in state.items() if tensor.ndim} if "50" in arch else state,
               tmp_path / "other.pth")  # fmt: skip
    with pytest.raises(InputError, match=said):
        build(arch, weights=tmp_path / "other.pth")


def test_a_segmenter_of_another_architecture_is_refused(build: Any, tmp_path: Path) -> None:
    torch.save(build("fpn/mobilenet_v2")[0].module.state_dict(), tmp_path / "fpn.pth")
    with pytest.raises(InputError, match="not a checkpoint of 'unet/mobilenet_v2'"):
        build("unet/mobilenet_v2", weights=tmp_path / "fpn.pth")


def test_coco_is_not_offered(build: Any) -> None:
    with pytest.raises(InputError, match="smp has no 'coco' weights; give 'imagenet'"):
        build(weights="coco")


@pytest.mark.parametrize(
    ("arch", "said"),
    [
        ("unet/mobilenet_v2", r"huggingface.co/smp-hub/mobilenet_v2.imagenet at .*give its path"),
        ("unet/dpn68b", r"huggingface.co/smp-hub/dpn68b.imagenet-5k"),
        ("unet/tu-resnet18", r"timm's weights of 'resnet18' \(huggingface.co/timm/resnet18"),
        ("unet/resnext101_32x4d", "no 'imagenet' weights for 'resnext101_32x4d', only ssl, swsl"),
    ],
)
def test_imagenet_without_a_network(build: Any, monkeypatch: pytest.MonkeyPatch, arch: str, said: str) -> None:
    def offline(*_: Any, **__: Any) -> None:
        raise FileNotFoundError("no network\nat all")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", offline)
    monkeypatch.setattr("timm.create_model", offline)
    with pytest.raises(InputError, match=said):
        build(arch, weights="imagenet")


def test_imagenet_from_the_cache(build: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = build()[0].module.encoder
    save_weights(tmp_path / "model.safetensors", encoder.state_dict(), ClassMap.from_names(["x"]))
    asked = []

    def cached(repository: str, *, filename: str, revision: str) -> str:
        asked.append((repository, filename))
        return str(tmp_path / filename)

    monkeypatch.setattr("huggingface_hub.hf_hub_download", cached)
    _, report = build(weights="imagenet")
    assert asked == [("smp-hub/mobilenet_v2.imagenet", "model.safetensors")]
    assert report.source == "imagenet"
    assert len(report.loaded) == len(encoder.state_dict())


def test_imagenet_from_timm(build: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    create = timm.create_model
    asked = []

    def cached(name: str, pretrained: bool = False, **given: Any) -> Any:
        if pretrained:
            asked.append(name)
        return create(name, **given)

    monkeypatch.setattr("timm.create_model", cached)
    adapter, report = build("unet/tu-resnet18", weights="imagenet")
    assert asked == ["resnet18"]
    assert_complete(adapter, report)
    assert report.unused == ("fc.weight", "fc.bias")
