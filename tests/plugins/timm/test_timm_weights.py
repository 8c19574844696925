"""Files of timm's models in the backbone of a larger one."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import timm
import torch

from tlvision.plugin.weights.tensor_file import TensorFile
from tlvision.types import InputError
from tlvision_timm.backbone import TimmBackbone
from tlvision_timm.weights import fit, pretrained_file


@pytest.mark.parametrize("name", ["test_convnext", "test_vit", "test_efficientnet"])
def test_a_classifiers_file_fills_the_backbone(name: str) -> None:
    classifier, backbone = timm.create_model(name), TimmBackbone(name)
    file = TensorFile(Path("timm.safetensors"), dict(classifier.state_dict()))
    fitted = fit(file, backbone, "body.")
    state = {key.removeprefix("body."): tensor for key, tensor in fitted.tensors.items() if key.startswith("body.")}
    missing, unexpected = backbone.load_state_dict(state, strict=False)
    assert all(key.startswith("pyramid.") for key in missing)
    assert not unexpected
    assert len(fitted.tensors) == len(file.tensors)
    # The classifier's own features, of an image of the size that it was made for.
    images = torch.randn(1, 3, 160, 160)
    with torch.no_grad():
        _, expected = classifier.eval().forward_intermediates(images, indices=1)
        plain = TimmBackbone(name, (-1,), "none").eval()
        plain.load_state_dict({key: value for key, value in state.items() if key.startswith("net.")})
        assert torch.equal(plain(images)[0], expected[0])


def test_a_file_of_the_authors_is_converted_by_timm() -> None:
    """The names of Facebook's ConvNeXt."""
    classifier, backbone = timm.create_model("test_convnext"), TimmBackbone("test_convnext")
    renames = [
        (r"^stem\.", "downsample_layers.0."),
        (r"^stages\.(\d)\.downsample\.", r"downsample_layers.\1."),
        (r"\.blocks\.", "."),
        ("conv_dw", "dwconv"),
        (r"mlp\.fc", "pwconv"),
        (r"^head\.norm", "norm"),
        (r"^head\.fc", "head"),
    ]

    def theirs(key: str) -> str:
        for pattern, text in renames:
            key = re.sub(pattern, text, key)
        return key

    file = TensorFile(Path("convnext.pth"), {theirs(key): tensor for key, tensor in classifier.state_dict().items()})
    assert not set(file.tensors) & set(classifier.state_dict())
    fitted = fit(file, backbone, "body.")
    assert torch.equal(fitted.tensors["body.net.stem_0.weight"], classifier.state_dict()["stem.0.weight"])
    assert all(f"body.net.{key}" in fitted.tensors for key in backbone.net.state_dict())


def test_a_file_of_the_whole_model_is_left_as_it_is() -> None:
    file = TensorFile(Path("whole.safetensors"), {"backbone.net.stem_0.weight": torch.zeros(1)})
    assert fit(file, TimmBackbone("test_convnext"), "backbone.") is file


@pytest.mark.parametrize("other", ["test_resnet", "test_convnext2"])
def test_another_models_file_is_refused(other: str) -> None:
    file = TensorFile(Path("other.safetensors"), dict(timm.create_model(other).state_dict()))
    with pytest.raises(InputError, match="does not fit the backbone 'test_convnext' of timm"):
        fit(file, TimmBackbone("test_convnext"), "backbone.")


def test_without_a_network_it_names_what_to_fetch(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*arguments: object, **options: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(InputError) as caught:
        pretrained_file("convnext_atto", "imagenet")
    message = str(caught.value)
    assert "huggingface.co/timm/convnext_atto.d2_in1k" in message
    assert "no network" in message
    assert "fetch model.safetensors on a connected machine and give its path" in message
