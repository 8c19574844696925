"""Names of architectures: our list against smp's own, and what is said of names that are none."""

from __future__ import annotations

import subprocess
import sys
import warnings
from typing import Any

import pytest
import segmentation_models_pytorch as smp
import timm
import torch

from fast import first_fast
from tlvision.plugin import BuildSpec, HasOptions
from tlvision.types import ClassMap, InputError
from tlvision_smp.architectures import _VITS, DECODERS, ENCODERS, find_architecture, listed, why_not
from tlvision_smp.plugin import plugin

SMALLEST = (
    "resnet18", "resnext50_32x4d", "mobilenet_v2", "efficientnet-b0", "mit_b0", "mobileone_s0", "densenet121", "dpn68",
    "vgg11", "se_resnet50", "inceptionv4", "inceptionresnetv2", "xception", "timm-efficientnet-b0",
    "timm-tf_efficientnet_lite0", "timm-skresnet18",
)  # fmt: skip
"""One of smp's encoders of each make."""


def test_our_list_is_smps() -> None:
    assert set(DECODERS) == set(smp.MODEL_ARCHITECTURES_MAPPING)
    assert sorted(ENCODERS) == sorted(smp.encoders.get_encoder_names())
    assert set(_VITS) <= {f"tu-{name}" for name in timm.list_models()}
    assert len(set(plugin.architectures())) == len(plugin.architectures()) > 700
    assert plugin.architectures()[0] == "unet/resnet18"
    assert {plugin.task_of(name) for name in listed()} == {"semantic"}
    assert isinstance(plugin, HasOptions)


def test_listing_and_asking_import_nothing_heavy() -> None:
    code = (
        "import sys; from tlvision_smp.plugin import plugin\n"
        "[plugin.task_of(name) for name in plugin.architectures()]; plugin.options_type()\n"
        "assert not {'torch', 'timm', 'segmentation_models_pytorch'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_any_of_timms_encoders_may_be_named() -> None:
    assert plugin.task_of("segformer/tu-convnext_atto") == "semantic"
    assert plugin.task_of("unet/tu-resnet18.a1_in1k") == "semantic"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("unet", "expects '<decoder>/<encoder>'"),
        ("unett/resnet18", "Did you mean 'unet'"),
        ("unet/resnet81", "Did you mean 'unet/resnet18'"),
        ("unet/tu-resnet81", "Did you mean 'unet/tu-resnet18'"),
        ("unet/tu-" + 30 * "q", "Known: unet/tu-.* more"),
        ("dpt/resnet18", "vision transformer"),
        ("pan/vgg11", "dilated to stride 16"),
        ("deeplabv3/densenet121", "dilated to stride 8"),
        ("linknet/mit_b0", "map of stride 2"),
    ],
)
def test_a_name_that_is_none(name: str, said: str) -> None:
    with pytest.raises(InputError, match=said) as caught:
        plugin.task_of(name)
    assert len(str(caught.value)) < 600
    with pytest.raises(InputError):
        plugin.build(BuildSpec(arch=name, weights="none", classes=ClassMap.from_names(["a"])))


def upstreams_own(decoder: str, encoder: str) -> torch.nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model: torch.nn.Module = smp.create_model(decoder, encoder_name=encoder, encoder_weights=None, classes=2)
    return model


@pytest.mark.slow
@pytest.mark.parametrize("decoder", DECODERS)
def test_what_is_ruled_out_does_not_work_and_the_rest_does(decoder: str, build: Any) -> None:
    wrong = []
    for encoder in SMALLEST:
        if not why_not(decoder, encoder):
            build(f"{decoder}/{encoder}")
            continue
        try:
            upstreams_own(decoder, encoder).eval()(torch.zeros(1, 3, 128, 128))
        except (ValueError, RuntimeError, KeyError, IndexError, AttributeError):
            continue
        wrong.append(encoder)
    assert not wrong, f"{decoder} works with {wrong}"


@pytest.mark.parametrize(
    ("arch", "said"),
    first_fast(
        [
            ("unet/tu-vit_tiny_patch16_224", "downsampling pattern.*for the decoder 'dpt'"),
            ("deeplabv3/tu-swin_tiny_patch4_window7_224", "can be dilated"),
            ("unet/tu-maxvit_rmlp_pico_rw_256", "divisible by window.*images of any size"),
            ("dpt/tu-vit_small_patch14_dinov2", "patches of 8, 16 or 32 pixels"),
        ],
        2,
    ),
)
def test_what_smp_cannot_make_is_an_error_with_its_reason(build: Any, arch: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        build(arch)


def test_upstream_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "segmentation_models_pytorch", None)
    with pytest.raises(InputError, match=r"pip install 'tlvision\[smp\]'"):
        plugin.build(BuildSpec(arch="unet/resnet18", weights="none", classes=ClassMap.from_names(["a"])))


@pytest.mark.parametrize(
    ("encoder", "peer"),
    [
        ("resnet18", "resnet18"),
        ("mobilenet_v2", "mobilenetv2_100"),
        ("dpn68", "dpn68"),
        ("inceptionv4", "inception_v4"),
        ("inceptionresnetv2", "inception_resnet_v2"),
        ("xception", "legacy_xception"),
        ("timm-tf_efficientnet_lite0", "tf_efficientnet_lite0"),
        ("timm-skresnet18", "skresnet18"),
        ("tu-swin_tiny_patch4_window7_224", "swin_tiny_patch4_window7_224"),
        ("tu-vit_tiny_patch16_224", "vit_tiny_patch16_224"),
    ],
)
def test_images_arrive_as_the_weights_want_them(encoder: str, peer: str) -> None:
    from tlvision_smp.build import input_spec

    spec = input_spec(find_architecture(f"{'dpt' if 'vit' in encoder else 'unet'}/{encoder}"), 32)
    config = timm.models.get_pretrained_cfg(peer)
    assert spec.mean == pytest.approx(config.mean, abs=1e-4)
    assert spec.std == pytest.approx(config.std, abs=1e-4)
    assert (spec.place, spec.resize, spec.channel_order, spec.value_range) == ("corner", "letterbox", "rgb", 1.0)
    padded = [(value / 255 - mean) / std for value, mean, std in zip(spec.pad_value, spec.mean, spec.std, strict=True)]
    assert padded == pytest.approx([0, 0, 0], abs=0.02)


@pytest.mark.parametrize(
    ("arch", "multiple"),
    [("unet/resnet18", 32), ("deeplabv3/resnet18", 8), ("pspnet/resnet18", 8), ("pan/resnet18", 128)],
)
def test_the_input_is_a_multiple_of_what_the_decoder_wants(build: Any, arch: str, multiple: int) -> None:
    adapter, _ = build(arch)
    assert adapter.input_spec.multiple_of == multiple
    adapter.module.eval()
    logits = adapter.dense_logits(torch.zeros(1, 3, multiple, 3 * multiple))
    assert logits.shape == (1, 3, multiple, 3 * multiple)
