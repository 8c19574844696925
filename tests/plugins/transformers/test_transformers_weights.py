"""Weights of transformers: folders of `save_pretrained`, files, names on the hub, and tensors with two names."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tlvision.plugin import BuildSpec
from tlvision.training.checkpoint import save_weights
from tlvision.types import ClassMap, InputError
from tlvision_transformers.plugin import plugin

Build = Callable[..., Any]


@pytest.fixture
def saved(build: Build, tmp_path: Path) -> Callable[..., Path]:
    """Return `save(kind, names)`: a folder that upstream's `save_pretrained` has written."""

    def save(kind: str, names: tuple[str, ...] = ("a", "b", "c")) -> Path:
        adapter, _ = build(kind, names)
        with torch.no_grad():
            for parameter in adapter.module.parameters():
                parameter.add_(0.01 * torch.randn_like(parameter))
        folder = tmp_path / f"saved_{kind}"
        adapter.module.save_pretrained(folder)
        return folder

    return save


def test_two_names_of_a_tensor_are_both_in_the_report(build: Build, saved: Any) -> None:
    """Upstream saves a tensor with two names once; RT-DETR's prediction heads are in its decoder as well."""
    folder = saved("rt_detr_v2")
    adapter, report = build("rt_detr_v2", weights=folder)
    state = adapter.module.state_dict()
    assert len(load_file(folder / "model.safetensors")) < len(state)
    assert set(report.loaded) == set(state)
    assert state["class_embed.0.weight"].data_ptr() == state["model.decoder.class_embed.0.weight"].data_ptr()
    assert report.unused == ()


@pytest.mark.parametrize("kind", ["rt_detr_v2", "segformer", "mask2former", "deformable_detr", "eomt", "lw_detr"])
def test_a_folder_and_the_file_in_it_are_the_same(kind: str, build: Build, saved: Any) -> None:
    folder = saved(kind)
    one, _ = build(kind, weights=folder)
    other, report = build(kind, weights=folder / "model.safetensors")
    theirs = other.module.state_dict()
    assert all(torch.equal(tensor, theirs[key]) for key, tensor in one.module.state_dict().items())
    assert set(report.loaded) == set(theirs)


def test_a_plain_state_dict_names_no_classes(build: Build, tmp_path: Path) -> None:
    adapter, _ = build("rt_detr_v2")
    torch.save(adapter.module.state_dict(), tmp_path / "plain.pt")
    _, report = build("rt_detr_v2", weights=tmp_path / "plain.pt")
    assert report.missing == ()
    assert {each.partition(":")[0].rpartition(".")[0] for each in report.mismatched} == {
        "class_embed.0",
        "class_embed.1",
        "model.decoder.class_embed.0",
        "model.decoder.class_embed.1",
        "model.denoising_class_embed",
        "model.enc_score_head",
    }


def test_a_file_of_save_pretrained_needs_the_config_next_to_it(build: Build, saved: Any, tmp_path: Path) -> None:
    """Its keys have the names of older versions."""
    shutil.copy(saved("rt_detr_v2") / "model.safetensors", tmp_path / "model.safetensors")
    with pytest.raises(InputError, match="is not a checkpoint of"):
        build("rt_detr_v2", weights=tmp_path / "model.safetensors")


def test_class_rows_go_by_the_names_in_the_config(build: Build, saved: Any) -> None:
    folder = saved("rt_detr_v2", ("car", "Road ", "sky"))
    adapter, report = build("rt_detr_v2", ("road", "tree", "car"), folder)
    theirs = load_file(folder / "model.safetensors")["model.enc_score_head.weight"]
    ours = adapter.module.state_dict()["model.enc_score_head.weight"]
    assert torch.equal(ours[0], theirs[1])
    assert torch.equal(ours[2], theirs[0])
    assert "model.enc_score_head.weight: rows road, car of 3; fresh tree" in report.remapped
    # The row behind the classes is the one of padding, of no class.
    embedding = adapter.module.state_dict()["model.denoising_class_embed.weight"]
    assert torch.equal(embedding[3], load_file(folder / "model.safetensors")["model.denoising_class_embed.weight"][3])


def test_labels_that_are_only_numbered_name_no_class(build: Build, saved: Any) -> None:
    folder = saved("segformer")
    config = json.loads((folder / "config.json").read_text())
    config["id2label"] = {str(number): f"LABEL_{number}" for number in range(3)}
    (folder / "config.json").write_text(json.dumps(config))
    _, report = build("segformer", weights=folder)
    assert any("does not name its classes" in each for each in report.mismatched)


def test_an_image_classifier_fills_the_encoder_alone(build: Build, tmp_path: Path, config_of: Any) -> None:
    from transformers import SegformerConfig, SegformerForImageClassification

    config = SegformerConfig.from_dict(json.loads(Path(config_of("segformer")).read_text()))
    classifier = SegformerForImageClassification(config)
    classifier.save_pretrained(tmp_path / "mit")
    adapter, report = build("segformer", weights=tmp_path / "mit")
    state = adapter.module.state_dict()
    assert {key.partition(".")[0] for key in report.loaded} == {"segformer"}
    assert {key.partition(".")[0] for key in report.missing} == {"decode_head"}
    assert all(torch.equal(state[key], classifier.state_dict()[key]) for key in report.loaded)
    assert report.unused == ("classifier.bias", "classifier.weight")


def test_weights_of_another_kind_of_model_are_refused(build: Build, saved: Any) -> None:
    with pytest.raises(InputError, match=r"holds a segformer, and model\.arch .* is a rt_detr_v2"):
        build("rt_detr_v2", weights=saved("segformer"))


def test_weights_of_another_size_are_refused(build: Build, saved: Any, config_of: Any, tmp_path: Path) -> None:
    wide = json.loads(Path(config_of("segformer")).read_text()) | {"decoder_hidden_size": 48}
    (tmp_path / "wide").mkdir()
    (tmp_path / "wide" / "config.json").write_text(json.dumps(wide))
    with pytest.raises(InputError, match="is not a checkpoint of"):
        build(str(tmp_path / "wide"), weights=saved("segformer"))


def test_our_own_file_goes_by_its_own_names(build: Build, tmp_path: Path) -> None:
    adapter, _ = build("rt_detr_v2")
    path = tmp_path / "model.safetensors"
    save_weights(path, adapter.module.state_dict(), ClassMap.from_names(("a", "b", "c")))
    other, report = build("rt_detr_v2", weights=path)
    assert set(report.loaded) == set(other.module.state_dict())


def test_without_a_network_one_sentence_says_what_to_put_where(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    spec = BuildSpec(arch="dfine_n", weights="coco", classes=ClassMap.from_names(("a",)))
    with pytest.raises(InputError, match="hf download ustc-community/dfine-nano-coco --local-dir FOLDER"):
        plugin.build(spec)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ("imagenet", r"there are no 'imagenet' weights for .*save_pretrained"),
        ("absent", "is no folder and no weight file"),
        ("absent.safetensors", "absent.safetensors"),
    ],
)
def test_weights_that_are_not_there_are_an_error(weights: str, message: str, build: Build) -> None:
    with pytest.raises(InputError, match=message):
        build("rt_detr_v2", weights=weights)


def test_a_folder_without_safetensors_is_an_error(build: Build, saved: Any) -> None:
    folder = saved("segformer")
    (folder / "model.safetensors").unlink()
    with pytest.raises(InputError, match="cannot be read"):
        build("segformer", weights=folder)
    (folder / "model.safetensors").write_text("no tensors")
    with pytest.raises(InputError, match="cannot be read"):
        build("segformer", weights=folder)
    save_file({"other": torch.ones(3)}, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InputError, match="is not a checkpoint of"):
        build("segformer", weights=folder)
