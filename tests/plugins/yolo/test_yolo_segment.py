"""Instance segmenters against upstream's own: its dataset's batch, its losses, its masks; and a detector's weights."""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from ultralytics.data.augment import Format
from ultralytics.data.dataset import YOLODataset
from ultralytics.models.yolo.segment import SegmentationValidator
from ultralytics.utils.instance import Instances
from ultralytics.utils.ops import process_mask_native

from fast import first_fast
from tlvision.plugin import HasTrainingProgress, map_groups
from tlvision.plugin.weights.files import read_tensors
from tlvision.types import InputError, Target
from tlvision_yolo.segment import shrink_masks
from tlvision_yolo.upstream import DEFAULT_CFG, SegmentationModel

FAMILIES = ("yolov8n-seg", "yolo26n-seg", "yolo11n-seg")
HEIGHT, WIDTH = 64, 96
Polygon = Sequence[tuple[int, int]]

# A large object, a small one on it, one beside them, one so small that next to nothing of it is left at a quarter.
CROWDED: list[tuple[int, Polygon]] = [
    (1, [(4, 4), (60, 6), (58, 52), (8, 58)]),
    (2, [(20, 16), (44, 18), (40, 40), (18, 36)]),
    (0, [(66, 10), (90, 12), (84, 60)]),
    (2, [(70, 3), (73, 3), (73, 6), (70, 6)]),
]
IMAGES = (CROWDED, [], CROWDED[2:3])


def target_of(objects: Sequence[tuple[int, Polygon]]) -> Target:
    """Return what our core gives: masks of full size, and boxes around the polygons."""
    masks = np.zeros((len(objects), HEIGHT, WIDTH), np.uint8)
    for mask, (_, polygon) in zip(masks, objects, strict=True):
        cv2.fillPoly(mask, [np.array(polygon, np.int32)], 1)
    corners = [np.array(polygon, np.float32) for _, polygon in objects]
    boxes = np.array([[*each.min(axis=0), *each.max(axis=0)] for each in corners], np.float32).reshape(-1, 4)
    return Target(
        boxes=torch.from_numpy(boxes),
        labels=torch.tensor([label for label, _ in objects], dtype=torch.int64),
        crowd=torch.zeros(len(objects), dtype=torch.bool),
        masks=torch.from_numpy(masks),
    )


def upstream_batch(images: Tensor, contents: Sequence[Sequence[tuple[int, Polygon]]]) -> dict[str, Any]:
    """Return the batch that upstream's dataset and loader make of the same polygons, by its default settings."""
    make = Format(bbox_format="xywh", normalize=True, return_mask=True, batch_idx=True,
                  mask_ratio=DEFAULT_CFG.mask_ratio, mask_overlap=DEFAULT_CFG.overlap_mask)  # fmt: skip
    rows = []
    for objects in contents:
        # Upstream gives all polygons of an image the same number of points.
        segments = [np.array([*each, *[each[-1]] * (5 - len(each))], np.float32) for _, each in objects]
        instances = Instances(
            bboxes=target_of(objects).boxes.numpy(),
            segments=np.array(segments, np.float32).reshape(-1, 5, 2),
            bbox_format="xyxy",
            normalized=False,
        )
        classes = np.array([[label] for label, _ in objects], np.float32).reshape(-1, 1)
        blank = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
        rows.append(make({"img": blank, "cls": classes, "instances": instances}))
    return YOLODataset.collate_fn(rows) | {"img": images}


def upstream_loss(adapter: Any, arch: str, images: Tensor, contents: Any, epoch: int = 0) -> Tensor:
    model = SegmentationModel(f"{arch}.yaml", nc=3, verbose=False)
    model.load_state_dict(adapter.module.state_dict())
    model.args = copy.copy(DEFAULT_CFG)
    model.args.epochs = 5
    model.criterion = model.init_criterion()
    for _ in range(epoch):
        model.criterion.update()
    return model.loss(upstream_batch(images, contents))[0]


def lively(adapter: Any) -> Any:
    """Give a fresh model scores, boxes and masks that vary, in eval mode."""
    head = adapter.module.model[-1]
    for branch, deviation in (("cv3", 3.0), ("cv4", 1.0)):
        for name in (branch, f"one2one_{branch}"):
            for layers in getattr(head, name, None) or ():
                nn.init.normal_(layers[-1].weight, std=deviation)
                nn.init.constant_(layers[-1].bias, -2.0 if branch == "cv3" else 0.0)
    for name in ("cv2", "one2one_cv2"):
        for layers in getattr(head, name, None) or ():
            nn.init.normal_(layers[-1].bias, mean=0.0 if head.reg_max > 1 else 3.0, std=1.0)
    adapter.module.eval()
    return adapter


def test_masks_are_shrunk_as_upstream_shrinks_them() -> None:
    generator = np.random.default_rng(0)
    masks = (generator.random((50, HEIGHT, WIDTH)) > 0.5).astype(np.uint8)
    expected = np.stack([cv2.resize(mask, (WIDTH // 4, HEIGHT // 4)) for mask in masks])
    found = shrink_masks(torch.from_numpy(masks))
    assert found.dtype == torch.uint8
    assert np.array_equal(found.numpy(), expected)
    assert 0.3 < expected.mean() < 0.8


@pytest.mark.parametrize("arch", first_fast(FAMILIES, 2))
def test_the_batch_is_the_one_that_upstreams_dataset_makes(build: Any, arch: str) -> None:
    adapter, _ = build(arch)
    images = torch.rand(3, 3, HEIGHT, WIDTH)
    ours = adapter._upstream_batch(images, [target_of(objects) for objects in IMAGES])
    theirs = upstream_batch(images, IMAGES)
    assert ours["masks"].shape == theirs["masks"].shape == (3, HEIGHT // 4, WIDTH // 4)
    covered = theirs["masks"] > 0
    assert torch.equal(ours["masks"] > 0, covered)
    assert torch.equal(ours["sem_masks"][covered], theirs["sem_masks"][covered])
    # Upstream sorts the objects by area; which of them has a pixel must be the same.
    for image in range(3):
        mine = ours["bboxes"][ours["batch_idx"] == image]
        other = theirs["bboxes"][theirs["batch_idx"] == image]
        assert len(mine) == len(other) == len(IMAGES[image])
        for row, column in covered[image].nonzero().tolist():
            owner, same = int(ours["masks"][image, row, column]) - 1, int(theirs["masks"][image, row, column]) - 1
            torch.testing.assert_close(mine[owner], other[same])
    assert len(ours["masks"][0].unique()) == 1 + 4, "every object of the first image has a pixel"


@pytest.mark.parametrize("arch", first_fast(FAMILIES, 2))
@pytest.mark.parametrize("contents", [IMAGES, ([], [], [])], ids=["crowded", "empty"])
def test_the_loss_is_upstreams_over_the_batch_size(build: Any, arch: str, contents: Any) -> None:
    adapter, _ = build(arch)
    images = torch.rand(3, 3, HEIGHT, WIDTH)
    losses = adapter.loss(images, [target_of(objects) for objects in contents])
    expected = upstream_loss(adapter, arch, images, contents) / len(images)
    if arch == "yolo26n-seg":
        assert list(losses) == ["box", "seg", "cls", "l1", "sem"]
    else:
        assert list(losses) == ["box", "seg", "cls", "dfl"]
        assert expected[4] == 0
        expected = expected[:4]
    assert all(loss.shape == () and loss.dtype == torch.float32 for loss in losses.values())
    torch.testing.assert_close(torch.stack(list(losses.values())), expected, rtol=1e-4, atol=1e-6)
    assert (losses["seg"] > 0) == (contents is IMAGES)
    sum(losses.values()).backward()
    without = [name for name, parameter in adapter.module.named_parameters() if parameter.grad is None]
    assert without == []


def test_the_dual_head_shifts_its_loss_as_upstream_does_over_epochs(build: Any) -> None:
    adapter, _ = build("yolo26n-seg")
    assert isinstance(adapter, HasTrainingProgress)
    images = torch.rand(3, 3, HEIGHT, WIDTH)
    adapter.set_progress(3 / 4)
    found = torch.stack(list(adapter.loss(images, [target_of(objects) for objects in IMAGES]).values()))
    expected = upstream_loss(adapter, "yolo26n-seg", images, IMAGES, epoch=3) / 3
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


def test_objects_without_masks_are_refused(build: Any, make_target: Any) -> None:
    adapter, _ = build("yolov8n-seg")
    with pytest.raises(InputError, match=r"'-seg' model needs a mask for every object.*choose a detector"):
        adapter.loss(torch.rand(1, 3, HEIGHT, WIDTH), [make_target([[3, 4, 40, 50, 1]])])
    adapter.loss(torch.rand(2, 3, HEIGHT, WIDTH), [make_target(), make_target()])


@pytest.mark.parametrize(
    ("arch", "one_to_one"), [("yolov8n-seg", False), ("yolo26n-seg", False), ("yolo26n-seg", True)]
)
def test_predictions_are_those_of_upstreams_validator(build: Any, tmp_path: Path, arch: str, one_to_one: bool) -> None:
    adapter = lively(build(arch)[0])
    adapter.module.end2end = one_to_one
    images = torch.rand(2, 3, HEIGHT, WIDTH)
    validator = SegmentationValidator(save_dir=tmp_path, args={"max_det": 100, "save_json": True, "iou": 0.7})
    validator.nc, validator.end2end, validator.process = 3, one_to_one, process_mask_native
    with torch.no_grad():
        expected = validator.postprocess(adapter.module(images))
    predictions = adapter.predict(images)
    assert len(predictions) == len(expected) == 2
    for theirs, prediction in zip(expected, predictions, strict=True):
        assert len(prediction) > 20
        assert torch.equal(prediction.scores, theirs["conf"])
        assert prediction.labels.tolist() == theirs["cls"].tolist()
        assert torch.equal(prediction.masks, theirs["masks"])
        assert prediction.masks.dtype == torch.uint8
        assert prediction.masks.shape == (len(prediction), HEIGHT, WIDTH)
        limit = torch.tensor([WIDTH, HEIGHT, WIDTH, HEIGHT])
        assert torch.equal(prediction.boxes, theirs["bboxes"].clamp(min=0).minimum(limit))
        for (x0, y0, x1, y1), mask in zip(prediction.boxes, prediction.masks, strict=True):
            rows, columns = mask.nonzero(as_tuple=True)
            assert ((columns >= x0) & (columns < x1) & (rows >= y0) & (rows < y1)).all()
        assert 0.05 < prediction.masks.float().mean() < 0.95


def test_at_most_a_hundred_masks_are_given_and_the_best(build: Any) -> None:
    adapter = lively(build("yolov8n-seg")[0])
    images = torch.rand(1, 3, 128, 160)
    (prediction,) = adapter.predict(images)
    assert len(prediction) == 100
    adapter._most = 300
    with torch.no_grad():
        rows = adapter._suppress(adapter.module(images)[0][0])[0]
    assert len(rows) > 100
    assert torch.equal(prediction.scores, rows[:100, 4])
    assert torch.equal(prediction.scores, prediction.scores.sort(descending=True).values)


def test_an_image_without_a_find_has_an_empty_prediction(build: Any) -> None:
    adapter, _ = build("yolov8n-seg")
    for layers in adapter.module.model[-1].cv3:
        nn.init.constant_(layers[-1].bias, -50.0)
    adapter.module.eval()
    (prediction,) = adapter.predict(torch.rand(1, 3, HEIGHT, WIDTH))
    assert prediction.masks.shape == (0, HEIGHT, WIDTH)


@pytest.mark.parametrize("arch", first_fast(FAMILIES))
def test_groups_and_taps_are_the_detectors(build: Any, arch: str) -> None:
    adapter, detector = build(arch)[0], build(arch.removesuffix("-seg"))[0]
    assert adapter.groups == detector.groups
    assert adapter.taps == detector.taps
    mapped = map_groups(adapter.module, adapter.groups)
    head = mapped.depth_of("head")
    masks = [name for name in mapped.parameters if ".proto." in name or ".cv4." in name]
    assert masks
    assert {mapped.parameters[name] for name in masks} == {head}


@pytest.mark.parametrize("arch", first_fast(FAMILIES, 2))
def test_rows_of_classes_that_share_a_name_are_kept(build: Any, tmp_path: Path, arch: str) -> None:
    source, _ = build(arch, ("a", "b", "c", "d"))
    path = tmp_path / "model.safetensors"
    state = {key: torch.rand_like(tensor) if tensor.is_floating_point() else tensor
             for key, tensor in source.module.state_dict().items()}  # fmt: skip
    save_file({key: tensor.contiguous() for key, tensor in state.items()}, path, {"classes": json.dumps(list("abcd"))})
    adapter, report = build(arch, ("d", "x"), path)
    head = len(adapter.module.model) - 1
    expected = {f"model.{head}.cv3.{level}.2" for level in range(3)}
    if arch == "yolo26n-seg":
        expected |= {f"model.{head}.one2one_cv3.{level}.2" for level in range(3)}
        expected.add(f"model.{head}.proto.semseg.2")
    found = {entry.split(":")[0] for entry in report.remapped}
    assert found == {f"{name}.{kind}" for name in expected for kind in ("weight", "bias")}
    assert not report.missing
    assert not report.mismatched
    for key in found:
        assert adapter.module.state_dict()[key][0].equal(state[key][3])
    # What was built for another number of classes trains and predicts.
    target = target_of([(1, CROWDED[0][1])])
    assert all(loss.isfinite() for loss in adapter.loss(torch.rand(1, 3, HEIGHT, WIDTH), [target]).values())


@pytest.mark.parametrize("arch", first_fast(FAMILIES))
def test_a_detectors_weights_give_a_segmenter_all_but_its_masks(build: Any, tmp_path: Path, arch: str) -> None:
    detector, _ = build(arch.removesuffix("-seg"), ("a", "b"))
    path = tmp_path / "detector.safetensors"
    state = {key: tensor.contiguous() for key, tensor in detector.module.state_dict().items()}
    save_file(state, path, {"classes": json.dumps(["a", "b"])})
    _, report = build(arch, ("a", "b"), path)
    assert set(report.loaded) == set(state)
    assert not report.mismatched
    assert not report.unused
    assert report.missing
    assert all(".proto." in key or "cv4." in key for key in report.missing)
    with pytest.raises(InputError, match=r"belongs to another architecture or size than 'yolov8s-seg'"):
        build("yolov8s-seg", ("a", "b"), path)


@pytest.mark.shared
def test_the_real_yolov8n_starts_a_segmenter(build: Any, shared: Path) -> None:
    path = shared / "weights" / "yolov8n-coco-from-int8.pt"
    file = read_tensors(path)
    adapter, report = build("yolov8n-seg", ("car", "person", "no such thing"), path)
    assert not report.unused
    assert not report.mismatched
    assert {key.split(".")[2] for key in report.missing} == {"proto", "cv4"}
    assert len(report.remapped) == 6
    state = adapter.module.state_dict()
    assert len(report.loaded) == len(file.tensors) - 6
    assert all(state[key].equal(file.tensors[key].to(state[key].dtype)) for key in report.loaded)
