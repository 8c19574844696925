"""DeepLabV3, FCN and LR-ASPP: scores, losses, groups, taps and weights, against torchvision's own models."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.error import URLError

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models import get_model, get_model_weights

import tlvision
from fast import first_fast
from tlvision.plugin import BuildSpec, map_groups
from tlvision.types import IGNORE_INDEX, ClassMap, InputError, Target
from tlvision_torchvision.options import TorchvisionOptions
from tlvision_torchvision.plugin import plugin
from tlvision_torchvision.segmentation.architectures import SEGMENTERS
from tlvision_torchvision.segmentation.weights import class_keys

LRASPP, DEEPLAB, FCN = "lraspp_mobilenet_v3_large", "deeplabv3_mobilenet_v3_large", "fcn_resnet50"
SMALL_FIRST = (LRASPP, DEEPLAB, FCN, *sorted(set(SEGMENTERS) - {LRASPP, DEEPLAB, FCN}))
CLASSES = ("road", "Dog ", "background")
VOC = 21
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SIZE = 320


def target_of(label_map: Tensor | None) -> Target:
    none = torch.zeros(0)
    return Target(boxes=torch.zeros((0, 4)), labels=none.long(), crowd=none.bool(), semantic=label_map)


def upstream(arch: str, classes: int) -> Any:
    auxiliary = {} if arch == LRASPP else {"aux_loss": True}
    return get_model(arch, weights=None, weights_backbone=None, num_classes=classes, **auxiliary)


def upstream_of(adapter: Any, arch: str) -> Any:
    model = upstream(arch, 3)
    model.load_state_dict(adapter.module.state_dict())
    return model


def lively(adapter: Any, images: Tensor) -> Any:
    """Give the norms the statistics of `images`: in eval mode a fresh model's maps are nearly constant."""
    for module in adapter.module.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad():
        adapter.module.train()(images)
    adapter.module.eval()
    return adapter


def coco_file(arch: str, folder: Path) -> tuple[Path, dict[str, Tensor]]:
    """Write a state dict of random numbers under the name of torchvision's own file."""
    torch.manual_seed(3)
    state = upstream(arch, VOC).state_dict()
    path = folder / str(get_model_weights(arch).COCO_WITH_VOC_LABELS_V1.url).rpartition("/")[2]
    torch.save(state, path)
    return path, state


def assert_covers(report: Any, adapter: Any) -> None:
    rows = (entry.split(":")[0] for entry in (*report.mismatched, *report.remapped))
    assert sorted((*report.loaded, *report.missing, *rows)) == sorted(adapter.module.state_dict())


def test_all_of_torchvisions_segmenters_are_there() -> None:
    from torchvision.models import list_models, segmentation

    assert sorted(SEGMENTERS) == sorted(list_models(module=segmentation))
    assert set(SEGMENTERS) < set(plugin.architectures())
    assert {plugin.task_of(name) for name in SEGMENTERS} == {"semantic"}
    with pytest.raises(InputError, match="Did you mean 'deeplabv3_resnet50'"):
        plugin.task_of("deeplabv3_resnet5")


@pytest.mark.parametrize("arch", first_fast(SMALL_FIRST, 2))
def test_scores_and_label_maps_are_upstreams(build: Any, arch: str) -> None:
    adapter, report = build(arch)
    assert report.missing == tuple(adapter.module.state_dict())
    images = torch.randn(2, 3, 64, 96)
    model = upstream_of(lively(adapter, images), arch).eval()
    with torch.no_grad():
        expected = model(images)["out"]
        scores = adapter.dense_logits(images)
    assert scores.shape == (2, 3, 64, 96)
    torch.testing.assert_close(scores, expected)
    found = adapter.predict(images)
    assert len(found) == 2
    for prediction, theirs in zip(found, expected, strict=True):
        assert prediction.semantic.equal(theirs.argmax(0))
        assert prediction.boxes.shape == (0, 4)
    assert len(expected.argmax(1).unique()) > 1


@pytest.mark.parametrize("arch", first_fast((DEEPLAB, FCN, LRASPP)))
def test_losses_are_upstreams_recipe(build: Any, arch: str) -> None:
    adapter, _ = build(arch)
    images, labels = torch.randn(2, 3, 64, 64), torch.randint(0, 3, (2, 64, 64))
    labels[:, :10] = IGNORE_INDEX
    model = upstream_of(adapter, arch)
    torch.manual_seed(1)
    expected = {name: functional.cross_entropy(scores, labels, ignore_index=255)
                for name, scores in model(images).items()}  # fmt: skip
    torch.manual_seed(1)  # dropout
    losses = adapter.loss(images, [target_of(each) for each in labels])
    assert list(losses) == ["loss_cross_entropy", *(["loss_auxiliary"] if arch != LRASPP else [])]
    torch.testing.assert_close(losses["loss_cross_entropy"], expected["out"])
    if arch != LRASPP:
        torch.testing.assert_close(losses["loss_auxiliary"], 0.5 * expected["aux"])
    sum(losses.values()).backward()
    assert all(parameter.grad is not None for parameter in adapter.module.parameters())


def test_an_image_counts_as_much_as_another_however_few_of_its_pixels_are_labelled(build: Any) -> None:
    adapter, _ = build(LRASPP)
    adapter.module.eval()
    images, labels = torch.randn(3, 3, 64, 64), torch.randint(0, 3, (3, 64, 64))
    labels[1, 1:], labels[2] = IGNORE_INDEX, IGNORE_INDEX
    loss = adapter.loss(images, [target_of(each) for each in labels])["loss_cross_entropy"]
    scores = adapter.dense_logits(images)
    alone = [functional.cross_entropy(scores[at, None], labels[at, None], ignore_index=255) for at in range(2)]
    torch.testing.assert_close(loss, (alone[0] + alone[1]) / 3)
    nothing = adapter.loss(images[2:], [target_of(labels[2])])["loss_cross_entropy"]
    assert nothing.item() == 0
    assert nothing.requires_grad


def test_half_precision_counts_in_full(build: Any) -> None:
    adapter, _ = build(LRASPP)
    images, target = torch.randn(2, 3, 64, 64), target_of(torch.randint(0, 3, (64, 64)))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = adapter.loss(images, [target, target])
    assert {loss.dtype for loss in losses.values()} == {torch.float32}


def build_weighted(arch: str, names: Sequence[str], class_weights: dict[str, float]) -> Any:
    torch.manual_seed(0)
    options = TorchvisionOptions(class_weights=class_weights)
    spec = BuildSpec(arch=arch, weights="none", classes=ClassMap.from_names(tuple(names)), options=options)
    return plugin.build(spec)[0]


def test_class_weights() -> None:
    adapter = build_weighted(DEEPLAB, "abc", {"b": 5.0})
    adapter.module.eval()
    images, labels = torch.randn(1, 3, 64, 64), torch.randint(0, 3, (1, 64, 64))
    scores, losses = adapter.module(images), adapter.loss(images, [target_of(labels[0])])
    for name, output, factor in (("loss_cross_entropy", "out", 1.0), ("loss_auxiliary", "aux", 0.5)):
        expected = factor * functional.cross_entropy(scores[output], labels, weight=torch.tensor([1.0, 5.0, 1.0]))
        torch.testing.assert_close(losses[name], expected)


def test_class_weights_that_do_not_fit() -> None:
    with pytest.raises(InputError, match=r"no class 'bee'\. Did you mean 'bees'"):
        build_weighted(LRASPP, ("ant", "bees"), {"bee": 2.0})


def test_every_target_needs_a_label_map(build: Any) -> None:
    adapter, _ = build(LRASPP)
    known = target_of(torch.zeros((32, 32), dtype=torch.int64))
    with pytest.raises(InputError, match="1 of 2 lack it"):
        adapter.loss(torch.zeros(2, 3, 32, 32), [known, target_of(None)])


def test_a_batch_of_one_image(build: Any) -> None:
    """DeepLabV3 normalises over what it has pooled to a pixel; the others are trained."""
    images, target = torch.randn(1, 3, 64, 64), target_of(torch.zeros((64, 64), dtype=torch.int64))
    adapter, _ = build(DEEPLAB)
    for call in (lambda: adapter.loss(images, [target]), lambda: adapter.features(images)):
        with pytest.raises(InputError, match=r"batch of one image.*data\.batch\.labelled to 2 or more"):
            call()
    adapter.module.eval()
    assert adapter.loss(images, [target])["loss_cross_entropy"].isfinite()
    assert build(LRASPP)[0].loss(images, [target])["loss_cross_entropy"].isfinite()


def test_predict_asks_for_eval_mode_and_leaves_the_auxiliary_head_out(build: Any) -> None:
    adapter, _ = build(DEEPLAB)
    with pytest.raises(RuntimeError, match="eval mode"):
        adapter.predict(torch.rand(1, 3, 64, 64))
    adapter.module.eval().aux_classifier.register_forward_hook(lambda *_: pytest.fail("nobody reads its scores"))
    adapter.predict(torch.rand(1, 3, 64, 64))
    adapter.features(torch.rand(1, 3, 64, 64))


@pytest.mark.parametrize("arch", first_fast(SMALL_FIRST, 2))
def test_groups_and_taps(build: Any, arch: str) -> None:
    adapter, _ = build(arch)
    assert adapter.module.training
    groups = map_groups(adapter.module, adapter.groups)
    stages = [f"backbone.stage{at}" for at in range(1, 5)]
    heads = ["head"] if arch == LRASPP else ["head", "auxiliary_head"]
    assert list(groups.names()) == ["stem", *stages, *heads]
    assert set(groups.parameters.values()) == set(range(len(adapter.groups)))
    mobile = "mobilenet" in arch
    read = {group.name: group.reads for group in adapter.groups if group.role == "head"}
    assert read["head"] == (("backbone.stage2", "backbone.stage4") if arch == LRASPP else ("backbone.stage4",))
    assert arch == LRASPP or read["auxiliary_head"] == ("backbone.stage2" if mobile else "backbone.stage3",)

    strides = {"c2": 4, "c3": 8, "c4": 16 if mobile else 8, "c5": 16 if mobile else 8}
    if arch != LRASPP:
        strides["decode"] = strides["c5"]
    assert {tap.name: tap.stride for tap in adapter.taps} == strides
    assert adapter.input_spec.multiple_of == strides["c5"]
    adapter.module.eval()
    side = adapter.input_spec.multiple_of
    features = adapter.features(torch.randn(1, 3, 3 * side, 5 * side))
    for tap in adapter.taps:
        shape = (1, tap.channels, 3 * side // tap.stride, 5 * side // tap.stride)
        assert features[tap.name].shape == shape, tap


def test_no_layer_feeds_an_earlier_group_but_the_auxiliary_head(build: Any) -> None:
    adapter, _ = build(DEEPLAB)
    order: list[str] = []
    for name, module in adapter.module.named_modules():
        if name and next(module.children(), None) is None:
            module.register_forward_hook(lambda *_, name=name: order.append(name))
    adapter.module.eval()(torch.rand(1, 3, 64, 64))
    depths = map_groups(adapter.module, adapter.groups).modules
    passed = [depths[name] for name in order if name in depths]
    assert len(passed) > 100
    assert all(a <= b for a, b in pairwise(passed))


def test_images_arrive_as_upstreams_weights_want_them(build: Any) -> None:
    spec, theirs = build(LRASPP)[0].input_spec, get_model_weights(LRASPP).COCO_WITH_VOC_LABELS_V1.transforms()
    assert (list(spec.mean), list(spec.std)) == (theirs.mean, theirs.std)
    assert (spec.channel_order, spec.value_range, spec.resize, spec.place) == ("rgb", 1.0, "letterbox", "corner")
    padded = [(value / 255 - mean) / std for value, mean, std in zip(spec.pad_value, spec.mean, spec.std, strict=True)]
    assert padded == pytest.approx([0, 0, 0], abs=0.02)


@pytest.mark.parametrize("arch", first_fast((LRASPP, DEEPLAB, FCN)))
def test_coco_rows_go_by_the_names_of_voc(build: Any, hub: Path, arch: str) -> None:
    path, state = coco_file(arch, hub)
    adapter, report = build(arch, CLASSES, "coco")
    assert report.source == "coco"
    assert_covers(report, adapter)
    assert not report.missing
    assert not report.unused
    assert not report.mismatched
    keys = class_keys(adapter.module)
    assert len(keys) == 4
    assert report.remapped == tuple(f"{key}: rows Dog , background of 21; fresh road" for key in sorted(
        keys, key=list(state).index))  # fmt: skip
    for key, tensor in adapter.module.state_dict().items():
        if key not in keys:
            assert tensor.equal(state[key]), key
            continue
        assert tensor[1].equal(state[key][12]), "dog"
        assert tensor[2].equal(state[key][0]), "__background__"
        assert not any(tensor[0].equal(row) for row in state[key])
    # The file may lie anywhere, by its name.
    moved = path.rename(hub.parent / path.name)
    assert build(arch, CLASSES, moved)[1].remapped == report.remapped


@pytest.mark.slow
def test_a_state_dict_of_another_name_does_not_name_its_classes(build: Any, tmp_path: Path) -> None:
    _, state = coco_file(DEEPLAB, tmp_path)
    state = {key: value for key, value in state.items() if not key.startswith("aux_classifier")}
    torch.save(state, tmp_path / "mine.pt")
    adapter, report = build(DEEPLAB, CLASSES, tmp_path / "mine.pt")
    assert_covers(report, adapter)
    assert [entry.split(":")[0] for entry in report.mismatched] == ["classifier.4.weight", "classifier.4.bias"]
    assert set(report.missing) == {key for key in adapter.module.state_dict() if key.startswith("aux_classifier")}


@pytest.mark.parametrize("arch", first_fast((LRASPP, DEEPLAB)))
def test_our_own_file_keeps_rows_by_class_name(build: Any, tmp_path: Path, arch: str) -> None:
    trained, _ = build(arch, ("road", "Car ", "tree"))
    state = {key: tensor + 1 for key, tensor in trained.module.state_dict().items()}
    path = tmp_path / "model.safetensors"
    save_file(state, path, {"classes": json.dumps(["road", "Car ", "tree"])})
    adapter, report = build(arch, ("car", "sky", "tree"), path)
    assert_covers(report, adapter)
    assert set(report.remapped) == {f"{key}: rows car, tree of 3; fresh sky" for key in class_keys(adapter.module)}
    for key in class_keys(adapter.module):
        found = adapter.module.state_dict()[key]
        assert found[0].equal(state[key][1])
        assert found[2].equal(state[key][2])
        assert not found[1].equal(state[key][0])
    same, again = build(arch, ("road", "Car ", "tree"), path)
    assert len(again.loaded) == len(state)
    assert all(tensor.equal(state[key]) for key, tensor in same.module.state_dict().items())


@pytest.mark.parametrize(
    ("arch", "file"), first_fast([(LRASPP, "mobilenet_v3_large-8738ca79.pth"), (FCN, "resnet50-0676ba61.pth")])
)
def test_imagenet_fills_the_backbone(build: Any, hub: Path, arch: str, file: str) -> None:
    torch.manual_seed(3)
    classifier = get_model(SEGMENTERS[arch].backbone, weights=None).eval()
    # As in the first of torchvision's files.
    torch.save({key: value for key, value in classifier.state_dict().items() if "num_batches" not in key}, hub / file)
    adapter, report = build(arch, CLASSES, "imagenet")
    assert report.source == "imagenet"
    assert_covers(report, adapter)
    body = {key for key in adapter.module.state_dict() if key.startswith("backbone.") and "num_batches" not in key}
    assert set(report.loaded) == body
    assert {key.partition(".")[0] for key in report.unused} == {"fc" if arch == FCN else "classifier"}
    # By value: up to the dilated stages the backbone computes what the classifier's layers do.
    images = torch.rand(1, 3, 64, 64)
    seen: list[Tensor] = []
    path = "layer2" if arch == FCN else "features.6"
    classifier.get_submodule(path).register_forward_hook(lambda *given: seen.append(given[2]))
    adapter.module.eval()
    with torch.no_grad():
        classifier(images)
        torch.testing.assert_close(adapter.features(images)["c3"], seen[0])


@pytest.mark.parametrize(
    ("arch", "made"),
    [(LRASPP, lambda: get_model("mobilenet_v3_small", weights=None)), (DEEPLAB, lambda: upstream(LRASPP, VOC))],
)
def test_weights_of_another_architecture_are_refused(
    build: Any, tmp_path: Path, arch: str, made: Callable[[], Any]
) -> None:
    torch.save(made().state_dict(), tmp_path / "other.pth")
    with pytest.raises(InputError, match=f"is not a checkpoint of '{arch}'"):
        build(arch, CLASSES, tmp_path / "other.pth")


@pytest.mark.parametrize(("weights", "file"), [("coco", "lraspp_mobilenet_v3_large-d234d4ea.pth"),
                                               ("imagenet", "mobilenet_v3_large-8738ca79.pth")])  # fmt: skip
def test_offline_it_says_which_file_and_where_to_put_it(
    build: Any, hub: Path, monkeypatch: pytest.MonkeyPatch, weights: str, file: str
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise URLError("no network")

    monkeypatch.setattr(torch.hub, "download_url_to_file", fail)
    with pytest.raises(InputError, match=f"'{weights}' needs torchvision's file {file}.*{hub}.*weights: path/to/"):
        build(LRASPP, CLASSES, weights)


@pytest.mark.shared
@pytest.mark.slow
def test_the_loss_falls_on_real_streets(few_streets: Any, brief_run: Any) -> None:
    few_streets["image_size"] = 64
    description = {"plugin": "torchvision", "arch": LRASPP, "weights": "none"}
    run = brief_run(description, few_streets, epochs=8, optimizer="adamw", lr=3e-3)
    rows = [json.loads(line) for line in (run / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    losses = [row["loss"] for row in rows if row["kind"] == "step"]
    print(losses)
    assert len(losses) >= 8
    assert losses[-1] < 0.7 * losses[0]


def label_map(net: Any, file: Path, resize: Callable[..., Any], multiple: int) -> Any:
    """Return (H, W), the loop that users of torchvision write: read, resize, normalise, pad, score, cut, argmax."""
    image = cv2.cvtColor(cv2.imread(str(file)), cv2.COLOR_BGR2RGB)
    height, width = image.shape[:2]
    gain = SIZE / max(height, width)
    tall, wide = round(height * gain), round(width * gain)
    values = (resize(image, (wide, tall)) / 255 - np.array(MEAN)) / np.array(STD)
    padded = np.pad(values, ((0, -tall % multiple), (0, -wide % multiple), (0, 0))).astype(np.float32)
    with torch.inference_mode():
        scores = net(torch.from_numpy(padded).permute(2, 0, 1)[None])["out"][..., :tall, :wide]
        return functional.interpolate(scores, size=(height, width), mode="bilinear")[0].argmax(0).numpy()


@pytest.mark.shared
@pytest.mark.slow
def test_label_maps_of_files_are_upstreams(  # noqa: PLR0917
    build: Any, few_streets: Any, brief_run: Any, streets: Sequence[Path], same_resize: Any, pixels_that_differ: Any,
    tmp_path: Path,
) -> None:  # fmt: skip
    start = tmp_path / "start.safetensors"
    save_file(lively(build(LRASPP)[0], torch.randn(4, 3, 96, 96)).module.state_dict(), start)
    description = {"plugin": "torchvision", "arch": LRASPP, "weights": str(start)}
    model = tlvision.load(brief_run(description, few_streets, epochs=2, optimizer="adamw", lr=1e-3))
    # A JPEG that is decoded at half its size has other pixels than one that is shrunk afterwards.
    files = [file for file in streets if file.name != "huge.jpg"]
    net = upstream(LRASPP, len(model.classes))
    net.load_state_dict(load_file(model.folder / "checkpoints" / "best" / "model.safetensors"))
    net.eval()
    theirs = [label_map(net, file, same_resize, 16) for file in files]
    total, different = pixels_that_differ(files, model.predict(files), theirs)
    assert total > 2_500_000
    assert different < 0.002 * total  # of a model that has hardly been trained; the scores of many pixels are close
