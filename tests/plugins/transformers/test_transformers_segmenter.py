"""Segmenters of transformers: losses and label maps are upstream's own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tlvision.plugin import BuildSpec, interpolate
from tlvision.types import IGNORE_INDEX, ClassMap, InputError, Target
from tlvision_transformers.plugin import plugin
from tlvision_transformers.upstream import image_processor_class

Build = Callable[..., Any]
SEGMENTERS = ("segformer", "upernet", "upernet_swin", "dpt")
MASK_TRANSFORMERS = ("mask2former", "maskformer")


def target_of(label_map: Tensor) -> Target:
    none = torch.zeros((0, 4))
    return Target(boxes=none, labels=none[:, 0].long(), crowd=none[:, 0].bool(), semantic=label_map)


def label_maps(side: int = 96) -> Tensor:
    """Two label maps of bands of three classes, (2, side, side)."""
    rows = torch.arange(side)[:, None].expand(side, side) * 3 // side
    return torch.stack([rows, rows.T])


@pytest.mark.parametrize("kind", SEGMENTERS)
def test_losses_add_up_to_upstreams_loss(kind: str, build: Build, images: Tensor) -> None:
    adapter, _ = build(kind)
    labels = label_maps()
    torch.manual_seed(5)
    ours = adapter.loss(images, [target_of(each) for each in labels])
    torch.manual_seed(5)
    theirs = adapter.module(pixel_values=images, labels=labels).loss
    torch.testing.assert_close(sum(ours.values()), theirs, rtol=1e-5, atol=1e-6)
    assert set(ours) == ({"loss_pixel"} if kind == "segformer" else {"loss_pixel", "loss_auxiliary"})


@pytest.mark.parametrize("kind", MASK_TRANSFORMERS)
def test_losses_of_masks_add_up_to_upstreams_loss(kind: str, build: Build, images: Tensor) -> None:
    adapter, _ = build(kind)
    labels = label_maps()
    labels[1][labels[1] == 2] = IGNORE_INDEX  # so that the second image has two classes
    torch.manual_seed(5)
    ours = adapter.loss(images, [target_of(each) for each in labels])
    classes = [torch.arange(3), torch.arange(2)]
    masks = [(each == own[:, None, None]).float() for each, own in zip(labels, classes, strict=True)]
    torch.manual_seed(5)
    theirs = adapter.module(pixel_values=images, mask_labels=masks, class_labels=classes).loss
    torch.testing.assert_close(sum(ours.values()), theirs.reshape(()), rtol=1e-5, atol=1e-5)


def test_each_image_counts_as_much_however_little_of_it_is_labelled(build: Build, images: Tensor) -> None:
    adapter, _ = build("segformer")
    labels = label_maps()
    labels[1, 2:] = IGNORE_INDEX
    adapter.module.eval()
    both = float(adapter.loss(images, [target_of(each) for each in labels])["loss_pixel"].detach())
    alone = [
        float(adapter.loss(images[at : at + 1], [target_of(labels[at])])["loss_pixel"].detach()) for at in range(2)
    ]
    assert both == pytest.approx(sum(alone) / 2, rel=1e-5)


def test_a_target_without_a_label_map_is_named(build: Build, images: Tensor, objects: Any) -> None:
    with pytest.raises(InputError, match="a label map for every image, 2 of 2 lack it"):
        build("segformer")[0].loss(images, objects())


@pytest.mark.parametrize("kind", ["segformer", "upernet"])
def test_a_saved_model_gives_the_same_label_map_in_upstreams_pipeline(
    kind: str, build: Build, upstream_model: Any, tmp_path: Path
) -> None:
    made, _ = build(kind)
    processor = image_processor_class(made.module.config)(size={"height": 96, "width": 96})
    made.module.save_pretrained(tmp_path / "saved")
    processor.save_pretrained(tmp_path / "saved")
    picture = (torch.rand(96, 96, 3, generator=torch.Generator().manual_seed(3)) * 255).byte().numpy()
    inputs = processor(images=picture, return_tensors="pt")
    model = upstream_model(tmp_path / "saved", made.module.config.model_type)
    with torch.no_grad():
        outputs = model(**inputs)
    (theirs,) = processor.post_process_semantic_segmentation(outputs, target_sizes=[(96, 96)])

    folder = str(tmp_path / "saved")
    spec = BuildSpec(arch=folder, weights=folder, classes=ClassMap.from_names(("a", "b", "c")), image_size=96)
    adapter, report = plugin.build(spec)
    assert not report.missing
    adapter.module.eval()
    mean, std = (torch.tensor(each)[:, None, None] for each in (adapter.input_spec.mean, adapter.input_spec.std))
    image = (torch.from_numpy(picture).permute(2, 0, 1).float() / 255 - mean) / std
    with torch.no_grad():
        logits = interpolate(adapter.dense_logits(image[None]), (96, 96))
    torch.testing.assert_close(logits, interpolate(outputs.logits, (96, 96)), rtol=1e-4, atol=1e-4)
    assert len(theirs.unique()) > 1
    assert torch.equal(adapter.predict(image[None])[0].semantic, theirs)


@pytest.mark.parametrize("kind", MASK_TRANSFORMERS)
def test_scores_of_masks_are_those_of_upstreams_post_processing(kind: str, build: Build) -> None:
    """Upstream brings every mask to 384 x 384 first, so that an image of this size shows the same rule."""
    adapter, _ = build(kind)
    adapter.module.eval()
    images = torch.rand(1, 3, 384, 384, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        outputs = adapter.module(pixel_values=images)
        ours = adapter.dense_logits(images)
    processor = image_processor_class(adapter.module.config)()
    (theirs,) = processor.post_process_semantic_segmentation(
        outputs, target_sizes=[(384, 384)], return_segmentation_scores=True
    )
    assert float(ours.max() - ours.min()) > 0.01
    torch.testing.assert_close(interpolate(ours, (384, 384))[0], theirs.segmentation_scores, rtol=1e-4, atol=1e-5)


def test_masks_of_objects_are_probable_pixels(build: Build, images: Tensor) -> None:
    """The score of a mask is P(class) times the mean of P(mask) inside it: computed here pixel by pixel."""
    adapter, _ = build("mask2former#instance")
    adapter.module.eval()
    with torch.no_grad():
        outputs = adapter.module(pixel_values=images)
    found = adapter.predict(images)
    classes = outputs.class_queries_logits.softmax(-1)[..., :-1]
    masks = interpolate(outputs.masks_queries_logits, (96, 96)).sigmoid()
    for number, prediction in enumerate(found):
        assert len(prediction)
        wanted = []
        for query, mask in enumerate(masks[number]):
            inside = mask > 0.5
            if bool(inside.any()):
                wanted += [float(chance * mask[inside].mean()) for chance in classes[number, query]]
        expected = sorted(wanted, reverse=True)[: len(prediction)]
        assert prediction.scores.tolist() == pytest.approx(expected, abs=1e-5)
        for box, mask in zip(prediction.boxes, prediction.masks, strict=True):
            y, x = mask.nonzero().unbind(1)
            assert box.tolist() == [x.min(), y.min(), x.max() + 1, y.max() + 1]
