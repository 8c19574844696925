"""Weights into a model: class rows by name, a classifier into the backbone, every key in the report, offline too."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any
from urllib.error import URLError

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torchvision.models import get_model, get_weight
from torchvision.ops import FrozenBatchNorm2d

from fast import first_fast
from tlvision.plugin import WeightReport
from tlvision.types import InputError
from tlvision_torchvision.architectures import ARCHITECTURES, BACKBONES

FASTER, MASK, RETINA = "fasterrcnn_mobilenet_v3_large_320_fpn", "maskrcnn_resnet50_fpn", "retinanet_resnet50_fpn"
SSDLITE = "ssdlite320_mobilenet_v3_large"
CLASSES = ("zebra", "blood cell", "Person ")


def assert_covers(report: WeightReport, state: dict[str, Tensor]) -> None:
    keys = [*report.loaded, *report.missing, *(entry.split(":")[0] for entry in report.mismatched + report.remapped)]
    assert sorted(keys) == sorted(state)


def randomise(module: Any) -> Any:
    for tensor in module.state_dict().values():
        if tensor.is_floating_point():
            tensor.copy_(torch.rand_like(tensor) + 0.1)
    return module


def coco_enum(arch: str) -> Any:
    return get_weight(f"{ARCHITECTURES[arch].coco}.COCO_V1")


def coco_file(arch: str, folder: Path, old_names: bool = False) -> Any:
    """Write torchvision's detector for 91 COCO categories with random values under its own file name; return it."""
    model = randomise(get_model(arch, weights=None, weights_backbone=None, num_classes=91))
    state = {key: value for key, value in model.state_dict().items()
             if not (ARCHITECTURES[arch].frozen and key.startswith("backbone") and "num_batches" in key)}  # fmt: skip
    if old_names:
        state = {_old(key): value for key, value in state.items()}
    torch.save(state, folder / Path(coco_enum(arch).url).name)
    return model


def _old(key: str) -> str:
    """As torchvision wrote its files before 0.13."""
    key = key.replace("rpn.head.conv.0.0.", "rpn.head.conv.")
    key = re.sub(r"mask_head\.(\d)\.0\.", lambda m: f"mask_head.mask_fcn{int(m[1]) + 1}.", key)
    return re.sub(r"_head\.conv\.(\d)\.0\.", lambda m: f"_head.conv.{2 * int(m[1])}.", key)


def class_outputs(model: Any, pooled: Any) -> list[Tensor]:
    """Run the head on features and return what it says of the classes, (…, classes) each; boxes last in (…, 4)."""
    if hasattr(model, "roi_heads"):
        scores, boxes = model.roi_heads.box_predictor(pooled)
        return [scores, *boxes.reshape(len(boxes), -1, 4).unbind(2)]
    return [model.head(pooled)["cls_logits"]]


@pytest.mark.parametrize("arch", [FASTER, pytest.param(RETINA, marks=pytest.mark.slow), SSDLITE])
def test_coco_rows_go_by_class_name(build: Any, hub: Path, arch: str) -> None:
    source = coco_file(arch, hub).eval()
    adapter, report = build(arch, CLASSES, "coco")
    model = adapter.module.eval()
    assert_covers(report, model.state_dict())
    assert (report.source, report.missing, report.mismatched, report.unused) == ("coco", (), (), ())
    assert report.remapped
    assert all(entry.endswith("fresh blood cell") and "zebra, Person " in entry for entry in report.remapped)

    categories = coco_enum(arch).meta["categories"]
    with torch.no_grad():
        if hasattr(model, "roi_heads"):
            given: Any = torch.rand(5, 1024)
        else:
            given = list(source.backbone(torch.rand(1, 3, 128, 128)).values())
        ours, theirs = class_outputs(model, given), class_outputs(source, given)
    background = arch != RETINA
    for mine, other in zip(ours, theirs, strict=True):
        assert mine.shape[-1] == len(CLASSES) + background
        for label, name in enumerate(CLASSES):
            same = torch.allclose(mine[..., label + background], other[..., _index(categories, name)])
            assert same is (name != "blood cell"), name
        if background:
            torch.testing.assert_close(mine[..., 0], other[..., 0])


def _index(categories: list[str], name: str) -> int:
    return categories.index(name.strip().lower()) if name.strip().lower() in categories else 5


@pytest.mark.slow
@pytest.mark.parametrize("arch", [MASK, RETINA])
def test_old_key_names_are_understood(build: Any, hub: Path, arch: str) -> None:
    source = coco_file(arch, hub, old_names=True).state_dict()
    assert any("mask_fcn1" in _old(key) or "conv.6." in _old(key) for key in source)
    adapter, report = build(arch, CLASSES, "coco")
    assert (report.missing, report.mismatched, report.unused) == ((), (), ())
    assert all(adapter.module.state_dict()[key].equal(source[key]) for key in report.loaded)
    if arch == MASK:
        rows = adapter.module.state_dict()["roi_heads.mask_predictor.mask_fcn_logits.weight"]
        there = source["roi_heads.mask_predictor.mask_fcn_logits.weight"]
        categories = coco_enum(arch).meta["categories"]
        assert [row for row in range(91) if there[row].equal(rows[1])] == [categories.index("zebra")]
        assert there[0].equal(rows[0])


def test_upstreams_file_is_known_by_its_name_and_another_is_not(build: Any, hub: Path) -> None:
    coco_file(FASTER, hub)
    path = hub / Path(coco_enum(FASTER).url).name
    assert build(FASTER, CLASSES, path)[1].remapped
    renamed = path.rename(hub / "mine.pth")
    _, report = build(FASTER, CLASSES, renamed)
    assert not report.remapped
    assert len(report.mismatched) == 4
    assert all("does not name its classes" in entry for entry in report.mismatched)


def classifier_file(backbone: str, path: Path) -> Any:
    state = randomise(get_model(backbone, weights=None)).state_dict()
    torch.save(state, path)
    return state


KINDS = ("mobilenet_v2", "resnet18", "regnet_x_400mf", "swin_t", "mnasnet0_5")
assert {BACKBONES[backbone] for backbone in KINDS} == set(BACKBONES.values())


@pytest.mark.parametrize("backbone", first_fast(KINDS, 2))
def test_a_classifier_fills_the_whole_body(build: Any, tmp_path: Path, backbone: str) -> None:
    state = classifier_file(backbone, tmp_path / "classifier.pth")
    adapter, report = build(f"fcos_{backbone}_fpn", CLASSES, tmp_path / "classifier.pth")
    assert_covers(report, adapter.module.state_dict())
    body = {key: value for key, value in adapter.module.state_dict().items() if key.startswith("backbone.body.")}
    own = {key for key in body if ".body.stages." in key}  # the norms at Swin's outputs
    assert set(report.loaded) == set(body) - own
    assert len(report.loaded) > 50
    assert set(report.missing) == set(adapter.module.state_dict()) - set(report.loaded)
    assert (report.remapped, report.mismatched) == ((), ())
    left = {key for key in report.unused if not key.endswith("num_batches_tracked")}
    assert all(key.startswith(("classifier", "fc.", "head.", "norm.")) for key in left), left
    # By value: the body computes what the classifier's layers compute.
    classifier = get_model(backbone, weights=None)
    classifier.load_state_dict(state)
    taps = {tap.name: tap for tap in adapter.taps}
    deepest = {"mobilenet_v2": "features", "resnet18": "layer4", "regnet_x_400mf": "trunk_output",
               "swin_t": "features.7", "mnasnet0_5": "layers"}[backbone]  # fmt: skip
    seen: list[Tensor] = []
    classifier.get_submodule(deepest).register_forward_hook(lambda *given: seen.append(given[2]))
    images = torch.rand(1, 3, 64, 64)
    adapter.module.eval()
    with torch.no_grad():
        classifier.eval()(images)
        found = adapter.features(images)["c5"]
    if backbone == "swin_t":
        found, seen[0] = found.permute(0, 2, 3, 1), nn.functional.layer_norm(seen[0], seen[0].shape[-1:])
    assert taps["c5"].channels == found.shape[-1 if backbone == "swin_t" else 1]
    torch.testing.assert_close(found, seen[0], rtol=1e-4, atol=1e-5)


def test_ssdlite_takes_what_its_narrower_tail_leaves(build: Any, tmp_path: Path) -> None:
    state = classifier_file("mobilenet_v3_large", tmp_path / "classifier.pth")
    adapter, report = build(SSDLITE, CLASSES, tmp_path / "classifier.pth")
    ours = adapter.module.state_dict()
    assert_covers(report, ours)
    assert {key for key in ours if key.startswith("backbone.features.0.")} <= set(report.loaded)
    assert ours["backbone.features.0.13.0.weight"].equal(state["features.13.block.0.0.weight"])
    assert ours["backbone.features.1.0.1.0.weight"].equal(state["features.13.block.1.0.weight"])
    assert all(entry.startswith("backbone.features.1.") for entry in report.mismatched)
    assert any("features.1.3.0.weight: (480, 80, 1, 1) here, (960, 160" in entry for entry in report.mismatched)


def test_imagenet_is_upstreams_file_in_the_hub(build: Any, hub: Path) -> None:
    state = classifier_file("resnet18", hub / "resnet18-f37072fd.pth")
    adapter, report = build("retinanet_resnet18_fpn", CLASSES, "imagenet")
    assert report.source == "imagenet"
    assert len([key for key in report.loaded if key.startswith("backbone.body.")]) == len(report.loaded) == 100
    assert adapter.module.state_dict()["backbone.body.layer4.1.bn2.running_var"].equal(
        state["layer4.1.bn2.running_var"]
    )
    frozen = [module for module in adapter.module.backbone.body.modules() if isinstance(module, FrozenBatchNorm2d)]
    assert len(frozen) == 20
    assert not any(isinstance(module, nn.BatchNorm2d) for module in adapter.module.modules())


@pytest.mark.parametrize(("weights", "file"), [("coco", "coco-"), ("imagenet", "mobilenet_v3_large-")])
def test_offline_it_says_which_file_and_where_to_put_it(
    build: Any, hub: Path, monkeypatch: pytest.MonkeyPatch, weights: str, file: str
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise URLError("no network")

    monkeypatch.setattr(torch.hub, "download_url_to_file", fail)
    with pytest.raises(InputError) as caught:
        build(SSDLITE, CLASSES, weights)
    told = str(caught.value)
    assert f"'{weights}' needs torchvision's file" in told
    for part in ("no network", str(hub), "https://download.pytorch.org/models/", "weights: path/to/", file[:-1]):
        assert part in told


def test_a_download_is_checked_by_the_hash_in_its_name(build: Any, hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def fetch(url: str, path: str, hash_prefix: str, progress: bool) -> None:
        asked.append((url, hash_prefix))
        classifier_file("resnet18", Path(path))

    monkeypatch.setattr(torch.hub, "download_url_to_file", fetch)
    build("fcos_resnet18_fpn", CLASSES, "imagenet")
    build("fcos_resnet18_fpn", CLASSES, "imagenet")
    assert asked == [("https://download.pytorch.org/models/resnet18-f37072fd.pth", "f37072fd")], "and fetched once"
    assert (hub / "resnet18-f37072fd.pth").is_file()


def test_coco_weights_that_do_not_exist_name_those_that_do(build: Any) -> None:
    with pytest.raises(InputError, match=r"no 'coco' weights for 'fcos_swin_t_fpn'.*fcos_resnet50_fpn.*imagenet"):
        build("fcos_swin_t_fpn", CLASSES, "coco")


def save_run(adapter: Any, names: tuple[str, ...], path: Path) -> Path:
    state = {key: tensor.contiguous() for key, tensor in adapter.module.state_dict().items()}
    save_file(state, path, {"classes": json.dumps(names)})
    return path


@pytest.mark.parametrize("pretrained", [False, True])
def test_our_own_file_gives_the_same_model_again(build: Any, tmp_path: Path, pretrained: bool) -> None:
    arch, weights = "fasterrcnn_mobilenet_v2_fpn", "none"
    if pretrained:
        weights = str(tmp_path / "classifier.pth")
        classifier_file("mobilenet_v2", Path(weights))
    tuned = build(arch, CLASSES, weights)[0]
    randomise(tuned.module)
    again, report = build(arch, CLASSES, save_run(tuned, CLASSES, tmp_path / "model.safetensors"))
    assert repr(again.module) == repr(tuned.module), "the norms are of the same kind"
    assert ("FrozenBatchNorm2d" in repr(again.module)) is pretrained
    assert report.loaded == tuple(tuned.module.state_dict())
    state = again.module.state_dict()
    assert all(tensor.equal(state[key]) for key, tensor in tuned.module.state_dict().items())


def eps_of(module: nn.Module) -> set[float]:
    return {child.eps for child in module.modules() if isinstance(child, FrozenBatchNorm2d)}


@pytest.mark.slow
@pytest.mark.parametrize("arch", [RETINA, MASK, "fcos_resnet50_fpn"])
def test_frozen_norms_of_a_classifier_have_upstreams_epsilon(build: Any, tmp_path: Path, arch: str) -> None:
    """Real files of ImageNet have channels whose variance has underflowed to 0."""
    state = get_model("resnet50", weights=None).state_dict()
    state["layer1.0.bn1.running_var"][3] = 0.0
    state["layer1.0.conv1.weight"][3] = 0.0
    torch.save(state, tmp_path / "resnet50.pth")
    adapter, report = build(arch, CLASSES, tmp_path / "resnet50.pth")
    assert eps_of(adapter.module) == {1e-5}
    assert_covers(report, adapter.module.state_dict())
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        maps = adapter.module.eval().backbone(images)
    assert all(map_.isfinite().all() for map_ in maps.values())
    # Our own file says which epsilon it was trained with.
    again, report = build(arch, CLASSES, save_run(adapter, CLASSES, tmp_path / "model.safetensors"))
    assert eps_of(again.module) == {1e-5}
    assert report.loaded == tuple(adapter.module.state_dict())
    with torch.no_grad():
        assert all(map_.equal(maps[name]) for name, map_ in again.module.eval().backbone(images).items())


@pytest.mark.slow
@pytest.mark.parametrize(("arch", "eps"), [(RETINA, 0.0), ("fcos_resnet50_fpn", 1e-5)])
def test_coco_weights_keep_upstreams_epsilon_through_our_own_file(  # noqa: PLR0917
    build: Any, hub: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arch: str, eps: float
) -> None:
    upstream = coco_file(arch, hub)
    adapter, _ = build(arch, CLASSES, "coco")
    assert eps_of(adapter.module) == {eps}
    monkeypatch.setattr(type(coco_enum(arch)), "get_state_dict", lambda *_, **__: upstream.state_dict())
    theirs = get_model(arch, weights=coco_enum(arch), weights_backbone=None)
    assert eps_of(theirs) == {eps}, "what torchvision itself does"
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        wanted, found = theirs.eval().backbone(images), adapter.module.eval().backbone(images)
    assert all(torch.equal(map_, wanted[name]) for name, map_ in found.items())
    again, _ = build(arch, CLASSES, save_run(adapter, CLASSES, tmp_path / "model.safetensors"))
    assert eps_of(again.module) == {eps}


@pytest.mark.parametrize(
    "wanted", first_fast(["resnet34", "mobilenet_v2"])
)  # of the first it is a part, by key and by shape
def test_a_classifier_of_another_architecture_is_refused(build: Any, tmp_path: Path, wanted: str) -> None:
    classifier_file("resnet18", tmp_path / "other.pth")
    with pytest.raises(InputError, match=rf"another architecture than 'fcos_{wanted}_fpn': \d+ of the \d+ tensors"):
        build(f"fcos_{wanted}_fpn", CLASSES, tmp_path / "other.pth")


def test_a_detector_may_give_what_it_shares_with_another(build: Any, tmp_path: Path) -> None:
    path = save_run(build("fasterrcnn_resnet18_fpn")[0], ("a", "b", "c"), tmp_path / "model.safetensors")
    adapter, report = build("maskrcnn_resnet18_fpn", ("c", "d"), path)
    assert_covers(report, adapter.module.state_dict())
    assert report.missing
    assert all(".mask_" in key for key in report.missing)
    assert len(report.remapped) == 4


def test_a_detector_of_another_backbone_is_refused(build: Any, tmp_path: Path) -> None:
    path = save_run(build("fcos_resnet18_fpn")[0], ("a", "b", "c"), tmp_path / "model.safetensors")
    with pytest.raises(InputError, match=r"belongs to another architecture.* are not in it"):
        build("fcos_resnet50_fpn", ("a", "b"), path)


@pytest.mark.shared
def test_the_real_mobilenet_fills_the_body(build: Any, shared: Path) -> None:
    path = shared / "weights" / "mobilenet_v2-imagenet-from-int8.pth"
    adapter, report = build("fasterrcnn_mobilenet_v2_fpn", CLASSES, path)
    state = adapter.module.state_dict()
    assert_covers(report, state)
    body = {key for key in state if key.startswith("backbone.body.")}
    assert set(report.loaded) == body
    assert len(body) == 52 * 5
    assert {key for key in report.unused if "num_batches" not in key} == {"classifier.1.weight", "classifier.1.bias"}
