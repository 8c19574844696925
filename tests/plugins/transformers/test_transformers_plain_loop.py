"""Training is that of a plain loop around upstream's model: equal weights and batches give equal losses."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from transformers import SegformerConfig, SegformerForSemanticSegmentation, get_cosine_schedule_with_warmup

import tlvision
from tiny import QUIET
from tlvision.types import Target
from tlvision_transformers.segmenter import SegmenterAdapter

SIDE, COUNT, BATCH, EPOCHS, SEED = 64, 8, 4, 4, 3
LR, DECAY, CLIP = 1e-3, 0.05, 1.0
NAMES = ("dark", "bright", "other")
STILL = {"mosaic": 0, "scale": 0, "translate": 0, "hue": 0, "saturation": 0, "value": 0, "flip": 0}


@pytest.fixture
def data(tmp_path: Path) -> dict[str, Any]:
    """Eight images of noise in three bands of brightness, fully labelled."""
    random = np.random.default_rng(0)
    side = {name: str(tmp_path / name) for name in ("images", "masks")}
    for path in side.values():
        Path(path).mkdir()
    for number in range(COUNT):
        labels = np.repeat(np.arange(SIDE) // 22, SIDE).reshape(SIDE, SIDE).astype(np.uint8)
        labels = np.roll(labels, 5 * number, axis=0)
        pixels = labels[..., None] * 80 + random.integers(0, 80, (SIDE, SIDE, 3))
        Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / "images" / f"{number}.png")
        Image.fromarray(labels).save(tmp_path / "masks" / f"{number}.png")
    (tmp_path / "classes.txt").write_text("\n".join(NAMES), encoding="utf-8")
    return {"train": side, "val": side, "classes": str(tmp_path / "classes.txt")}


@pytest.mark.slow
def test_losses_are_those_of_a_plain_loop(
    data: dict[str, Any], config_of: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches: list[tuple[Tensor, Tensor]] = []
    ours: list[float] = []
    loss = SegmenterAdapter.loss

    def recorded(self: SegmenterAdapter, images: Tensor, targets: Sequence[Target]) -> Mapping[str, Tensor]:
        found = loss(self, images, targets)
        batches.append((images.detach().clone(), torch.stack([_labels(each) for each in targets])))
        ours.append(float(found["loss_pixel"].detach()))
        return found

    monkeypatch.setattr(SegmenterAdapter, "loss", recorded)
    path = config_of("segformer")
    tlvision.train(
        {
            "model": {"plugin": "transformers", "arch": path, "weights": "none"},
            "data": {**data, "image_size": SIDE, "augment": STILL, "batch": {"labelled": BATCH}},
            "train": {
                **{"epochs": EPOCHS, "optimizer": "adamw", "lr": LR, "weight_decay": DECAY, "clip": CLIP},
                **{"schedule": "cosine", "final_lr": 0, "warmup": 0, "seed": SEED, "device": "cpu"},
            },
            "evaluate": {"every": EPOCHS, "batch": BATCH},
            "hooks": [QUIET],
            "run": {"out": str(tmp_path / "run"), "report": False},
        }
    )
    steps = EPOCHS * COUNT // BATCH
    theirs = plain_losses(path, batches[:steps])
    assert len(theirs) == steps == 8
    assert theirs[-1] < 0.9 * theirs[0], "something is learnt, so that the steps matter"
    assert ours[:steps] == pytest.approx(theirs, rel=1e-5, abs=1e-5)


def plain_losses(path: str, batches: Sequence[tuple[Tensor, Tensor]]) -> list[float]:
    """Return the loss of each step of transformers' own model in a loop of torch and transformers alone."""
    settings = json.loads(Path(path).read_text(encoding="utf-8"))
    torch.manual_seed(SEED)
    model = SegformerForSemanticSegmentation(SegformerConfig(**settings, id2label=dict(enumerate(NAMES)))).train()
    groups = [
        {"params": [each for each in model.parameters() if each.ndim > 1], "weight_decay": DECAY},
        {"params": [each for each in model.parameters() if each.ndim <= 1], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=LR)
    schedule = get_cosine_schedule_with_warmup(optimizer, 0, len(batches))
    losses = []
    for images, labels in batches:
        value = model(pixel_values=images, labels=labels).loss
        losses.append(float(value.detach()))
        optimizer.zero_grad()
        value.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()
        schedule.step()
    return losses


def _labels(target: Target) -> Tensor:
    assert target.semantic is not None
    return target.semantic.detach().clone()
