"""Class weights of mmdet's region heads, and the sentence of those that cannot have them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tlvision.plugin import BuildSpec, get_plugin
from tlvision.types import ClassMap, InputError
from tlvision_openmmlab.common.options import OpenmmlabOptions

CONFIGS = Path(__file__).parent / "configs"


def build(arch: str, plugin: str = "mmdet", **options: Any) -> Any:
    torch.manual_seed(0)
    classes = ClassMap.from_names(("ant", "bee", "cat"))
    given = OpenmmlabOptions(**options)
    return get_plugin(plugin).build(BuildSpec(arch=arch, weights="none", classes=classes, options=given))[0]


@pytest.mark.parametrize(("config", "heads"), [("faster-rcnn_tiny.py", 1), ("cascade-rcnn_tiny.py", 3)])
def test_region_heads_weigh_their_cross_entropy(config: str, heads: int) -> None:
    model = build(str(CONFIGS / config), class_weights={"bee": 4.0}).module
    found = model.roi_head.bbox_head
    losses = [head.loss_cls for head in (found if heads > 1 else [found])]
    assert len(losses) == heads
    logits, labels = torch.randn(9, 4), torch.tensor([0, 1, 2, 3, 3, 1, 1, 0, 2])
    rows = zip(logits, labels, strict=True)
    expected = sum(-(4.0 if label == 1 else 1.0) * row.softmax(0)[label].log() for row, label in rows) / len(labels)
    for loss in losses:
        torch.testing.assert_close(loss(logits, labels, torch.ones(9), avg_factor=9), loss.loss_weight * expected)


def test_weights_of_one_change_nothing() -> None:
    loss = build(str(CONFIGS / "faster-rcnn_tiny.py"), class_weights=[1.0, 1.0, 1.0]).module.roi_head.bbox_head.loss_cls
    assert loss.class_weight is None


@pytest.mark.parametrize(
    ("arch", "plugin", "words"),
    [
        (str(CONFIGS / "retinanet_timm.py"), "mmdet", "has FocalLoss for its classes, not the softmax cross entropy"),
        ("deeplabv3plus_mobilenet-v2-d16", "mmseg", "mmseg's cross entropy cannot have them where pixels are without"),
    ],
)
def test_models_that_cannot_have_them_say_so(arch: str, plugin: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        build(arch, plugin, class_weights={"bee": 2.0})


def test_upstreams_weighted_cross_entropy_still_fails_without_a_label() -> None:
    """Why mmseg refuses class weights; when this passes no longer, it can have them."""
    from mmseg.models.losses import CrossEntropyLoss

    labels = torch.tensor([[[0, 1], [2, 255]]])
    with pytest.raises(IndexError):
        CrossEntropyLoss(class_weight=[1.0, 2.0, 1.0], avg_non_ignore=True)(
            torch.randn(1, 3, 2, 2), labels, ignore_index=255
        )
