"""EoMT: losses and label maps are upstream's own, and images may have any size."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tlvision.plugin import interpolate
from tlvision.types import Target
from tlvision_transformers.upstream import CONFIG_MAPPING, auto_model, image_processor_class

Build = Callable[..., Any]
KINDS = ("eomt", "eomt_dinov3")
SIDE = 64
"""`image_size` of the tiny configs."""


@pytest.fixture
def picture() -> Tensor:
    """Two images of noise that upstream's model takes as it is, (2, 3, 64, 64)."""
    return torch.rand(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def upstream(build: Build) -> Callable[..., Any]:
    """Return `make(kind, image_size)`: upstream's model without anything of ours, for that size of image."""

    def make(kind: str, image_size: int = SIDE) -> Any:
        config = build(kind)[0].module.config.to_dict()
        return auto_model(kind).from_config(CONFIG_MAPPING[kind].from_dict({**config, "image_size": image_size}))

    return make


@pytest.fixture
def fixed_points(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sample the loss of masks at the same points in every layer, whatever the order of the layers."""
    rand = torch.rand

    def fixed(*size: int, **options: Any) -> Tensor:
        return rand(*size, generator=torch.Generator().manual_seed(3))

    monkeypatch.setattr(torch, "rand", fixed)


@pytest.mark.usefixtures("fixed_points")
@pytest.mark.parametrize("kind", KINDS)
def test_losses_of_all_layers_add_up_to_upstreams_loss(kind: str, build: Build, upstream: Any, picture: Tensor) -> None:
    adapter, _ = build(kind)
    theirs = upstream(kind)
    theirs.load_state_dict(adapter.module.state_dict())
    bands = torch.arange(SIDE)[:, None].expand(SIDE, SIDE) * 3 // SIDE
    none = torch.zeros((0, 4))
    targets = [
        Target(boxes=none, labels=none[:, 0].long(), crowd=none[:, 0].bool(), semantic=labels)
        for labels in (bands, bands.T)
    ]
    ours = adapter.loss(picture, targets)
    masks = [(each.semantic == torch.arange(3)[:, None, None]).float() for each in targets]
    expected = theirs.train()(pixel_values=picture, mask_labels=masks, class_labels=[torch.arange(3)] * 2).loss
    torch.testing.assert_close(sum(ours.values()), expected.reshape(()), rtol=1e-5, atol=1e-5)
    assert len(ours) == 9, "three losses after each of two layers, and at the end"


@pytest.mark.parametrize("kind", KINDS)
def test_scores_are_those_of_upstreams_post_processing(kind: str, build: Build, upstream: Any, picture: Tensor) -> None:
    adapter, _ = build(kind)
    adapter.module.eval()
    theirs = upstream(kind).eval()
    theirs.load_state_dict(adapter.module.state_dict())
    with torch.no_grad():
        outputs, ours = theirs(pixel_values=picture), adapter.dense_logits(picture)
    processor = image_processor_class(theirs.config)(size={"shortest_edge": SIDE, "longest_edge": SIDE})
    found = processor.post_process_semantic_segmentation(
        outputs, target_sizes=[(SIDE, SIDE)] * 2, return_segmentation_scores=True
    )
    assert float(ours.max() - ours.min()) > 0.01
    for mine, other in zip(ours, found, strict=True):
        torch.testing.assert_close(
            interpolate(mine[None], (SIDE, SIDE))[0], other.segmentation_scores, rtol=1e-4, atol=1e-5
        )


@pytest.mark.parametrize("kind", KINDS)
def test_a_larger_image_gives_what_a_model_of_that_size_gives(kind: str, build: Build, upstream: Any) -> None:
    """Upstream's model of twice the size, with the positions of the small one interpolated."""
    adapter, _ = build(kind)
    adapter.module.eval()
    larger = upstream(kind, 2 * SIDE).eval()
    state = adapter.module.state_dict()
    if "embeddings.position_embeddings.weight" in state:
        grid = state["embeddings.position_embeddings.weight"].T.reshape(1, -1, 4, 4)
        grown = nn.functional.interpolate(grid, (8, 8), mode="bicubic", align_corners=False)
        state["embeddings.position_embeddings.weight"] = grown.reshape(-1, 64).T
    larger.load_state_dict(state)
    images = torch.rand(1, 3, 2 * SIDE, 2 * SIDE, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        ours, theirs = adapter.module(pixel_values=images), larger(pixel_values=images)
    torch.testing.assert_close(ours.masks_queries_logits, theirs.masks_queries_logits, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(ours.class_queries_logits, theirs.class_queries_logits, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_layers_that_see_the_predictions_are_in_a_group_with_the_heads(kind: str, build: Build) -> None:
    groups = {group.name: group.modules for group in build(kind)[0].groups}
    assert list(groups) == ["stem", "backbone.stage1", "backbone.stage2", "head"]
    assert groups["backbone.stage2"] == ("layers.1",)
    assert {"query", "layers.2", "layers.3", "class_predictor", "mask_head"} <= set(groups["head"])
