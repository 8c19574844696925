"""The plain loop around a segmenter of transformers: what it trains on, and a run of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tlvision.types import IGNORE_INDEX, InputError

TINY = Path(__file__).parents[2] / "plugins" / "transformers" / "configs" / "segformer.json"


@pytest.fixture
def upstream(parity: Callable[[str], Any]) -> Any:
    pytest.importorskip("transformers")
    return parity("transformers")


def test_crops_are_cut_from_stretched_images_and_their_label_maps(
    upstream: Any, parity: Callable[[str], Any], dataset: Path
) -> None:
    model = upstream.build(str(TINY), "none", ("dark", "bright"), 64)
    assert model.training
    pairs = parity("crops").find_pairs(dataset / "images", dataset / "masks")
    crops = upstream.Crops(pairs, upstream.make_processor(model, 64), 32)
    assert len(crops) == 8
    torch.manual_seed(0)
    agreed = []
    for _ in range(4):
        for at in range(len(crops)):
            pixels, labels = crops[at]
            assert pixels.shape == (3, 32, 32)
            assert (labels.shape, labels.dtype) == ((32, 32), torch.int64)
            known = labels != IGNORE_INDEX
            agreed.append(float(((pixels[0] > 0).long() == labels)[known].float().mean()))
    assert np.mean(agreed) > 0.95, "the edge itself may lie a pixel off after the resizing"


def test_norms_and_biases_have_no_weight_decay(upstream: Any) -> None:
    model = upstream.build(str(TINY), "none", ("a", "b"), 64)
    groups = upstream.make_optimizer(model, 0.1).param_groups
    assert [(group["weight_decay"], {each.ndim > 1 for each in group["params"]}) for group in groups] == [
        (upstream.WEIGHT_DECAY, {True}),
        (0.0, {False}),
    ]
    assert sum(len(group["params"]) for group in groups) == len(list(model.parameters()))


def test_models_that_do_not_score_pixels_are_refused(upstream: Any) -> None:
    with pytest.raises(InputError, match="'rtdetr_v2_r18' does not score pixels"):
        upstream.build("rtdetr_v2_r18", "none", ("a",), 64)


@pytest.mark.slow  # of a benchmark
def test_the_run_is_the_recipe(
    upstream: Any,
    parity: Callable[[str], Any],
    job: Callable[..., Any],
    dataset: Path,
    *,
    monkeypatch: pytest.MonkeyPatch,
    adamw_rates: list[float],
) -> None:
    monkeypatch.setattr(upstream, "WORKERS", 1)
    images, masks = dataset / "images", dataset / "masks"
    files = parity("tasks").Files(images, masks, images, masks, dataset / "classes.txt")
    wanted = job("transformers", files, arch=str(TINY), epochs=10, image_size=64, crop=32)
    result = parity("runner").run(wanted)
    assert len(adamw_rates) == 20, "two steps an epoch"
    assert max(adamw_rates) == pytest.approx(upstream.LR)
    assert adamw_rates[0] == 0 < adamw_rates[-1] < 1e-4
    folder = Path(result["predictions"])
    assert sorted(path.name for path in folder.iterdir()) == [f"{number}.png" for number in range(8)]
    assert np.asarray(Image.open(folder / "0.png")).shape == (40, 60)
