"""Detectors of transformers: losses and boxes are upstream's own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tlvision.plugin import BuildSpec, PredictSpec
from tlvision.types import ClassMap, InputError, Target
from tlvision_transformers.plugin import plugin
from tlvision_transformers.upstream import image_processor_class

DETECTORS = (
    "rt_detr_v2",
    "d_fine",
    "detr",
    "conditional_detr",
    "deformable_detr",
    "deformable_detr_two_stage",
    "rt_detr",
    "deimv2",
    "yolos",
    "rf_detr",
    "dab_detr",
    "lw_detr",
)
Build = Callable[..., Any]


def labels_for_upstream(targets: list[Target], side: int) -> list[dict[str, Tensor]]:
    """Return what upstream's image processor makes of annotations: centre and size, in shares of the image."""
    made = []
    for target in targets:
        corners, size = target.boxes[:, :2], target.boxes[:, 2:] - target.boxes[:, :2]
        made.append({"class_labels": target.labels, "boxes": torch.cat([corners + size / 2, size], 1) / side})
    return made


@pytest.mark.parametrize("kind", DETECTORS)
def test_losses_add_up_to_upstreams_loss(kind: str, build: Build, objects: Any, images: Tensor) -> None:
    adapter, _ = build(kind)
    targets = objects()
    torch.manual_seed(5)
    ours = adapter.loss(images, targets)
    torch.manual_seed(5)
    theirs = adapter.module(pixel_values=images, labels=labels_for_upstream(targets, 96)).loss
    torch.testing.assert_close(sum(ours.values()), theirs.reshape(()), rtol=1e-5, atol=1e-5)
    assert not any("cardinality" in name for name in ours)


@pytest.mark.parametrize("kind", DETECTORS)
def test_boxes_are_those_of_upstreams_post_processing(kind: str, build: Build, images: Tensor) -> None:
    adapter, _ = build(kind)
    adapter.module.eval()
    with torch.no_grad():
        outputs = adapter.module(pixel_values=images)
    processor = image_processor_class(adapter.module.config)()
    theirs = processor.post_process_object_detection(outputs, threshold=0.001, target_sizes=[(96, 96)] * 2)
    ours = adapter.predict(images)
    assert sum(len(each) for each in ours)
    for mine, other in zip(ours, theirs, strict=True):
        order = other["scores"].argsort(descending=True, stable=True)
        torch.testing.assert_close(mine.scores, other["scores"][order])
        torch.testing.assert_close(mine.boxes, other["boxes"][order].clamp(0, 96))
        assert mine.labels.tolist() == other["labels"][order].tolist()


@pytest.mark.parametrize("kind", ["rt_detr_v2", "d_fine", "detr", "yolos"])
def test_a_saved_model_gives_the_same_boxes_in_upstreams_pipeline(
    kind: str, build: Build, upstream_model: Any, as_loaded: Any, tmp_path: Path
) -> None:
    """From `save_pretrained` to boxes in pixels of the image: upstream's model and image processor, and ours."""
    made, _ = build(kind)
    processor = image_processor_class(made.module.config)(size={"height": 96, "width": 96})
    made.module.save_pretrained(tmp_path / "saved")
    processor.save_pretrained(tmp_path / "saved")
    picture = (torch.rand(96, 96, 3, generator=torch.Generator().manual_seed(3)) * 255).byte().numpy()

    model = upstream_model(tmp_path / "saved", made.module.config.model_type)
    inputs = processor(images=picture, return_tensors="pt")
    with torch.no_grad():
        outputs = model(**inputs)
    (theirs,) = processor.post_process_object_detection(outputs, threshold=0.001, target_sizes=[(96, 96)])

    classes = ClassMap.from_names(("a", "b", "c"))
    folder = str(tmp_path / "saved")
    built = plugin.build(BuildSpec(arch=folder, weights=folder, classes=classes, image_size=96))
    assert not built[1].missing
    loaded = as_loaded(built, "transformers", folder, classes, 96)
    (ours,) = loaded.predict([picture], min_score=0)
    order = theirs["scores"].argsort(descending=True, stable=True)
    boxes = theirs["boxes"][order].clamp(0, 96).numpy()
    assert len(ours) == len(boxes) > 0
    assert ours.scores == pytest.approx(theirs["scores"][order].numpy(), abs=1e-4)
    assert abs(ours.boxes - boxes).max() < 1e-4 * 96


def test_a_limit_and_a_floor_are_kept(config_of: Any, images: Tensor) -> None:
    limits = PredictSpec(score_floor=0.3, max_detections=4)
    spec = BuildSpec(arch=config_of("rt_detr_v2"), weights="none", classes=ClassMap.from_names(("a",)), predict=limits)
    torch.manual_seed(0)
    adapter, _ = plugin.build(spec)
    adapter.module.eval()
    for prediction in adapter.predict(images):
        assert len(prediction) <= 4
        assert bool((prediction.scores > 0.3).all())


def test_suppression_is_refused(config_of: Any) -> None:
    spec = BuildSpec(
        arch=config_of("rt_detr_v2"),
        weights="none",
        classes=ClassMap.from_names(("a",)),
        predict=PredictSpec(nms_iou=0.5),
    )
    with pytest.raises(InputError, match="suppresses no boxes"):
        plugin.build(spec)


def test_boxes_that_are_no_numbers_are_a_divergence(build: Build, objects: Any, images: Tensor) -> None:
    adapter, _ = build("rt_detr_v2")
    with pytest.raises(InputError, match=r"training has diverged; lower train\.lr"):
        adapter.loss(images * float("nan"), objects())


def test_images_are_stretched_or_letterboxed_as_upstream_does(build: Build, config_of: Any, tmp_path: Path) -> None:
    spec = build("rt_detr_v2")[0].input_spec
    assert (spec.resize, spec.mean, spec.std) == ("stretch", (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    spec = build("detr")[0].input_spec
    assert (spec.resize, spec.mean) == ("letterbox", (0.485, 0.456, 0.406))
    (tmp_path / "config.json").write_text(Path(config_of("rt_detr_v2")).read_text())
    (tmp_path / "preprocessor_config.json").write_text(
        '{"do_normalize": true, "image_mean": [0.5, 0.5, 0.5], "size": {"shortest_edge": 64}}'
    )
    spec = build(str(tmp_path))[0].input_spec
    assert (spec.resize, spec.mean) == ("letterbox", (0.5, 0.5, 0.5))
