"""Nothing in a step waits for the device, but for what is listed here with its reason."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from syncs import Waits, find_waits
from tlvision.config.load import load_config
from tlvision.engine.build import build_run
from tlvision.engine.session import build_session
from tlvision.hooks import ObjectiveHook
from tlvision.hooks.registry import BUILT_IN, hook_class
from tlvision.training.fabric import make_fabric
from tlvision.training.loop import train_step

MakeConfig = Callable[..., dict[str, Any]]
ALLOWED = {
    "tlvision/training/loop.py:train_step": "the losses as numbers, once a step: they are logged and must be finite",
    "plugins/tlvision_toy/detector.py:select": "the teacher finds as many objects as there are",
    "plugins/tlvision_transformers/masks.py:loss": "as many masks as an image has classes; upstream matches on the CPU",
    "tlvision/data/padding.py:without_padding": "of these as many are kept as lie on the image",
    "tlvision/hooks/pseudo_labels/labels.py:_target": "and as many as are sure; an image without any has no loss",
    "tlvision/hooks/pseudo_labels/teacher.py:best_score": "an image in which nothing is likely is one without objects",
    "tlvision/hooks/pseudo_labels/labels.py:labelled_maps": "the student sees the images that have a pseudo-label",
    "tlvision/hooks/pseudo_labels/labels.py:_count_pixels": "how much has a label is the weight of the loss",
    "tlvision/hooks/pseudo_labels/thresholds.py:_confidence": "adaptive thresholds follow how sure the teacher is",
    "tlvision/hooks/pseudo_labels/count_limit.py:learn": "the limit counts objects, in numbers on the CPU",
    "tlvision/hooks/pseudo_labels/count_limit.py:values": "of these, which wait for nothing",
    "tlvision/hooks/objectives/class_mix.py:_half_of_the_classes": "half of the classes that an image has, drawn",
}
"""Place -> why it waits."""


def waits_of_a_step(config: dict[str, Any], run: Path, device: str) -> Waits:
    loaded = load_config(config)
    session = build_session(build_run(loaded), run, make_fabric(loaded.train))
    session.call("before_fit")
    total = session.context.duration.total_steps
    session.context.step = total - 3  # burn-in and ramps are over
    batches = session.batches(session.context.step, total)
    train_step(session, [next(batches)])  # what is made once is made
    session.call("after_step")
    batch = next(batches)
    with find_waits(device) as waits:
        train_step(session, [batch])
        session.call("after_step")
    session.call_close()
    return waits


def test_no_step_waits(gpu_config: MakeConfig, tmp_path: Path, family: str, device: str) -> None:
    config = gpu_config(family, device, verify="off")
    config["hooks"] = [{"ema": {}}, *config["hooks"]]
    waits = waits_of_a_step(config, tmp_path / "run", device)
    print(family, dict(waits.ours), dict(waits.upstream))
    assert set(waits.ours) <= set(ALLOWED)


OBJECTIVES = [name for name in BUILT_IN if issubclass(hook_class(name), ObjectiveHook)]
LABELS = {"mean_teacher": {"adaptive": True, "max_pseudo_label_ratio": 2}, "class_mix": {}, "masked_consistency": {}}
"""Objectives that learn from pseudo-labels, with settings of `pseudo_labels`."""


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_no_objective_waits(objective_config: MakeConfig, device: str, objective: str, tmp_path: Path) -> None:
    config = objective_config(objective, device, verify="off")
    for item in config["hooks"]:
        if objective in LABELS and "pseudo_labels" in item:
            item["pseudo_labels"] = {"threshold": 0.01, **LABELS[objective]}
    waits = waits_of_a_step(config, tmp_path / "run", device)
    print(objective, dict(waits.ours), dict(waits.upstream))
    assert set(waits.ours) <= set(ALLOWED)
    if objective in LABELS:
        assert "tlvision/hooks/pseudo_labels/labels.py:_target" in waits.ours, "no pseudo-label was made"


def test_an_adversary_of_boxes_does_not_wait(
    gpu_config: MakeConfig, target_images: Path, device: str, tmp_path: Path
) -> None:
    config = gpu_config("torchvision two-stage", device, verify="off")
    config["data"]["target"] = {"images": str(target_images)}
    config["data"]["batch"]["unlabelled"] = 2
    config["hooks"] = [{"domain_adversarial": {"instance": "on"}}, *config["hooks"]]
    waits = waits_of_a_step(config, tmp_path / "run", device)
    print(dict(waits.ours), dict(waits.upstream))
    assert set(waits.ours) <= set(ALLOWED)


def test_the_watch_sees_what_it_is_to_see(device: str) -> None:
    with find_waits(device) as waits:
        values = torch.ones(3, device=device)
        values.sum().item()
        bool(values.any())
        values[values > 0].sum()
        values.nonzero()
        values.cpu()
        values.tolist()
    assert sum(waits.upstream.values()) >= 6, waits.upstream
