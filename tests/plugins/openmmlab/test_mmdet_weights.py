"""Pretrained tensors in mmdet models: class rows by name in each kind of head, backbones, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from fast import first_fast
from tlvision.plugin import BuildSpec, WeightReport, get_plugin
from tlvision.plugin.weights.head_rows import ClassRows, Special, load_by_class_name
from tlvision.plugin.weights.tensor_file import TensorFile
from tlvision.types import ClassMap, InputError
from tlvision_openmmlab.common.weights import _layout, class_layouts
from tlvision_openmmlab.mmdet.build import build_model, objectness_keys
from tlvision_openmmlab.mmdet.config import read_config
from tlvision_openmmlab.mmdet.zoo import find_config

TINY = "faster-rcnn_mobilenet-v2_fpn"


def build(arch: str, names: tuple[str, ...], weights: str = "none") -> tuple[Any, WeightReport]:
    spec = BuildSpec(arch=arch, weights=weights, classes=ClassMap.from_names(names))
    return get_plugin("mmdet").build(spec)


@pytest.mark.parametrize(
    ("arch", "key", "expected"),
    first_fast(
        [
            (TINY, "roi_head.bbox_head.fc_cls.weight", ClassRows(after=1)),
            (TINY, "roi_head.bbox_head.fc_reg.weight", ClassRows(per_class=4)),
            ("yolox_nano_8xb8-300e_coco", "bbox_head.multi_level_conv_cls.0.bias", ClassRows()),
            ("yolov3_mobilenetv2_8xb24-320-300e_coco", "bbox_head.convs_pred.0.weight", ClassRows(blocks=3, before=5)),
            ("retinanet_r18_fpn_1x_coco", "bbox_head.retina_cls.weight", ClassRows(blocks=9)),
            ("ssd300_coco", "bbox_head.cls_convs.0.0.weight", ClassRows(blocks=4, after=1)),
            ("deformable-detr_r50_16xb2-50e_coco", "bbox_head.cls_branches.0.weight", ClassRows()),
            ("mask-rcnn_r18_fpn_8xb8-amp-lsj-200e_coco", "roi_head.mask_head.conv_logits.weight", ClassRows()),
        ],
        4,
    ),
)
def test_where_the_classes_lie_is_found_in_each_kind_of_head(arch: str, key: str, expected: ClassRows) -> None:
    config = read_config(find_config(arch).path)
    layouts = class_layouts(build_model(config, 3), build_model(config, 4), 3)
    assert layouts[key] == expected
    assert all("backbone" not in key and "neck" not in key for key in layouts)


@pytest.mark.parametrize(
    ("key", "added", "rest", "dim", "expected"),
    [
        ("roi_head.mask_head.fc_logits.weight", 49, 0, 0, ClassRows(per_class=49)),  # PointRend's coarse masks
        ("roi_head.point_head.fcs.2.conv.weight", 1, 256, 1, ClassRows(before=256, dim=1)),
        ("roi_head.point_head.fc_logits.weight", 1, 0, 0, ClassRows()),
        ("decode_head.1.fc_seg.weight", 1, 256, 1, ClassRows(before=256, dim=1)),
        ("decode_head.cls_emb", 1, 0, 1, ClassRows(dim=1)),  # Segmenter's
        ("bbox_head.loss_cls.cum_samples", 1, 1, 0, ClassRows(after=1)),
        ("bbox_head.mystery.weight", 5, 0, 0, None),  # five anchors, or five numbers of a class?
        ("bbox_head.mystery.weight", 1, 2, 0, None),
        ("bbox_head.mystery.weight", 1, 7, 1, None),
        ("bbox_head.retina_cls.weight", 9, 5, 0, None),
        ("bbox_head.retina_cls.weight", -1, 5, 0, None),
    ],
)
def test_a_layout_is_known_or_none(key: str, added: int, rest: int, dim: int, expected: ClassRows | None) -> None:
    assert _layout(key, added, rest, dim) == expected


def test_a_layout_that_is_not_understood_stays_fresh() -> None:
    class Odd(nn.Module):
        def __init__(self, classes: int) -> None:
            super().__init__()
            self.mystery = nn.Linear(4, 5 * classes)
            self.pairs = nn.Parameter(torch.rand(*(classes,) * classes))  # as many dimensions as classes

    model, source = Odd(3), Odd(3)
    layouts = class_layouts(model, Odd(4), 3)
    assert set(layouts) == {"mystery.weight", "mystery.bias", "pairs"}
    assert set(layouts.values()) == {Special.UNKNOWN}
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    file = TensorFile(Path("old.pth"), dict(source.state_dict()), ("a", "b", "c"))
    report = load_by_class_name(model, file, ("c", "a", "b"), layouts)
    assert all(torch.equal(tensor, before[key]) for key, tensor in model.state_dict().items())
    assert len(report.mismatched) == 3
    assert all("how the classes lie in it is not known; all rows stay fresh" in entry for entry in report.mismatched)


@pytest.mark.slow
@pytest.mark.parametrize(("refine", "two_stage"), [(True, True), (False, True), (True, False)])
def test_objectness_on_the_encoder_stays_in_row_0(tmp_path: Path, refine: bool, two_stage: bool) -> None:
    base = Path(__file__).parent / "configs" / "deformable-detr_tiny.py"
    config = tmp_path / "two_stage.py"
    config.write_text(f"_base_ = {str(base)!r}\nmodel = dict(with_box_refine={refine}, as_two_stage={two_stage})\n")
    source, _ = build(str(config), ("person", "bike", "car"))
    keys = objectness_keys(source.module)
    assert len(keys) == (2 if refine and two_stage else 0)
    with torch.no_grad():
        source.module.bbox_head.cls_branches[-1].bias.copy_(torch.tensor([3.0, -9.0, -8.0]))
    path = tmp_path / "old.pth"
    torch.save({"state_dict": source.module.state_dict(), "meta": {"CLASSES": ("person", "bike", "car")}}, path)
    target, _ = build(str(config), ("car", "person"), str(path))
    found = target.module.bbox_head.cls_branches[-1].bias.tolist()
    assert found == ([3.0, -9.0] if keys else [-8.0, 3.0])


def scores_by_class(adapter: Any, images: torch.Tensor) -> torch.Tensor:
    """Return what the dense head says of each place: (places, classes)."""
    adapter.module.eval()
    with torch.no_grad():
        maps = adapter.module.bbox_head(adapter.module.extract_feat(images))[0]
    count = adapter.module.bbox_head.num_classes
    return torch.cat([each.permute(0, 2, 3, 1).reshape(-1, count) for each in maps])


def test_a_dense_head_gives_the_same_scores_for_the_classes_that_both_have(tmp_path: Path) -> None:
    old, new = ("person", "car", "dog"), ("dog", "kite", "person")
    source, _ = build("retinanet_r18_fpn_1x_coco", old)
    for parameter in source.module.bbox_head.retina_cls.parameters():
        torch.nn.init.normal_(parameter)
    path = tmp_path / "old.pth"
    torch.save({"state_dict": source.module.state_dict(), "meta": {"dataset_meta": {"classes": old}}}, path)
    target, report = build("retinanet_r18_fpn_1x_coco", new, str(path))
    images = torch.randn(1, 3, 64, 64)
    before, after = scores_by_class(source, images), scores_by_class(target, images)
    assert torch.allclose(after[:, [0, 2]], before[:, [2, 0]], atol=1e-5)
    assert not torch.allclose(after[:, 1], before[:, 1], atol=1e-2)
    assert [entry.split(":")[0] for entry in report.remapped] == [
        "bbox_head.retina_cls.weight",
        "bbox_head.retina_cls.bias",
    ]
    assert not report.missing
    assert not report.mismatched


def test_a_two_stage_head_keeps_background_and_boxes_of_its_classes(tmp_path: Path) -> None:
    source, _ = build(TINY, ("person", "car"))
    path = tmp_path / "old.pth"
    torch.save({"state_dict": source.module.state_dict(), "meta": {"CLASSES": ("person", "car")}}, path)
    target, _ = build(TINY, ("kite", "car"), str(path))
    old, new = source.module.roi_head.bbox_head, target.module.roi_head.bbox_head
    assert torch.equal(new.fc_cls.weight[[1, 2]], old.fc_cls.weight[[1, 2]])
    assert not torch.equal(new.fc_cls.weight[0], old.fc_cls.weight[0])
    assert torch.equal(new.fc_reg.weight[4:8], old.fc_reg.weight[4:8])
    assert not torch.equal(new.fc_reg.weight[:4], old.fc_reg.weight[:4])


def test_a_checkpoint_that_names_no_classes_has_those_of_the_config(tmp_path: Path) -> None:
    coco = tuple(read_config(find_config(TINY_YOLOX).path).classes or ())
    assert len(coco) == 80
    source, _ = build(TINY_YOLOX, coco)
    path = tmp_path / "zoo.pth"
    torch.save(source.module.state_dict(), path)
    target, _ = build(TINY_YOLOX, ("dog", "kiwi"), str(path))
    old, new = (each.module.bbox_head.multi_level_conv_cls[0].weight for each in (source, target))
    assert torch.equal(new[0], old[coco.index("dog")])
    assert not torch.equal(new[1], old[1])


TINY_YOLOX = "yolox_nano_8xb8-300e_coco"


def test_imagenet_weights_come_from_torchs_hub_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from torchvision.models import mobilenet_v2

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    theirs = mobilenet_v2()
    torch.save(theirs.state_dict(), folder / "mobilenet_v2-b0353104.pth")
    adapter, report = build(TINY, ("a", "b"), "imagenet")
    ours = adapter.module.backbone
    assert torch.equal(ours.conv1.conv.weight, theirs.features[0][0].weight)
    assert torch.equal(ours.conv2.bn.running_var, theirs.features[18][1].running_var)
    assert torch.equal(ours.layer4[0].depthwise_conv.conv.weight, theirs.features[7].conv[1][0].weight)
    assert not any("backbone" in key for key in report.missing)
    assert report.unused == ("classifier.1.weight", "classifier.1.bias")


@pytest.mark.parametrize(
    ("weights", "said"), [("imagenet", "mobilenet_v2-b0353104.pth"), ("coco", "lists no checkpoint")]
)
def test_without_a_network_it_says_what_to_fetch_and_where_to_put_it(
    weights: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def offline(url: str, path: str) -> None:
        raise OSError("no network")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", offline)
    with pytest.raises(InputError, match=said):
        build(TINY, ("a", "b"), weights)


def test_the_zoos_checkpoint_is_what_coco_means(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def offline(url: str, path: str) -> None:
        asked.append(url)
        raise OSError("no network")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", offline)
    with pytest.raises(InputError, match="could not be downloaded"):
        build("faster-rcnn_r50_fpn_1x_coco", ("a", "b"), "coco")
    assert len(asked) == 1
    assert asked[0].endswith("faster_rcnn_r50_fpn_1x_coco_20200130-047c8118.pth")


@pytest.mark.slow
def test_weights_of_another_architecture_are_refused(tmp_path: Path) -> None:
    other, _ = build("retinanet_r18_fpn_1x_coco", ("a", "b"))
    path = tmp_path / "other.pth"
    torch.save(other.module.state_dict(), path)
    with pytest.raises(InputError, match=r"has only 0 of the 312 tensors of the backbone"):
        build(TINY, ("a", "b"), str(path))
    with pytest.raises(InputError, match="belongs to another architecture"):
        build("retinanet_r50_fpn_1x_coco", ("a", "b"), str(path))


@pytest.mark.shared
def test_the_real_mobilenet_fills_the_whole_backbone(shared: Path) -> None:
    adapter, report = build(TINY, ("a", "b"), str(shared / "weights" / "mobilenet_v2-imagenet-from-int8.pth"))
    assert len(report.loaded) == 312, "another library's names, and as pretrained as any"
    assert not report.remapped
    assert set(report.loaded) == {key for key in adapter.module.state_dict() if key.startswith("backbone.")}
    assert not any("backbone" in key for key in (*report.missing, *report.mismatched))
