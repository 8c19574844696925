"""Nothing in a step waits for the device, but for what is listed here with its reason."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tlvision.config.assemble import assemble
from tlvision.config.load import load_config
from tlvision.config.run import build_session
from tlvision.hooks import ObjectiveHook
from tlvision.hooks.registry import BUILT_IN, hook_class
from tlvision.training.fabric import make_fabric
from tlvision.training.loop import train_step

MakeConfig = Callable[..., dict[str, Any]]
ALLOWED = {
    "tlvision/training/loop.py:train_step": "the losses as numbers, once a step: they are logged and must be finite",
    "plugins/tlvision_toy/detector.py:select": "the teacher finds as many objects as there are",
    "tlvision/hooks/padding.py:without_padding": "of these as many are kept as lie on the image",
    "tlvision/hooks/pseudo_labels.py:_target": "and as many as are sure; an image without any has no loss",
    "tlvision/hooks/pseudo_labels.py:_best": "an image in which nothing is likely is one without objects",
    "tlvision/hooks/pseudo_labels.py:labelled_maps": "the student sees the images that have a pseudo-label",
    "tlvision/hooks/objectives/class_mix.py:_half_of_the_classes": "half of the classes that an image has, drawn",
}
"""Place -> why it waits."""

_SPEC = importlib.util.spec_from_file_location("syncs", Path(__file__).with_name("syncs.py"))
assert _SPEC is not None
assert _SPEC.loader is not None
syncs = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(syncs)


def waits_of_a_step(config: dict[str, Any], run: Path, device: str) -> Any:
    loaded = load_config(config)
    session = build_session(assemble(loaded), run, make_fabric(loaded.train))
    session.call("before_fit")
    total = session.context.duration.total_steps
    session.context.step = total - 3  # burn-in and ramps are over
    batches = session.batches(session.context.step, total)
    train_step(session, [next(batches)])  # what is made once is made
    session.call("after_step")
    batch = next(batches)
    with syncs.find_waits(device) as waits:
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


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_no_objective_waits(  # noqa: PLR0917
    gpu_config: MakeConfig,
    weights_of: Callable[[str], str],
    target_images: Path,
    device: str,
    objective: str,
    tmp_path: Path,
) -> None:
    family = "toy semantic" if objective in {"class_mix", "entropy", "masked_consistency"} else "toy"
    config = gpu_config(family, device, verify="off")
    config["model"]["weights"] = weights_of(family)
    config["data"]["target"] = {"images": str(target_images)}
    config["data"]["batch"] |= {"unlabelled": 3 if hook_class(objective).uses_unlabelled else 0}
    config["hooks"] = [{objective: {}}, {"ema": {"decay": 0.9}}, *config["hooks"]]
    waits = waits_of_a_step(config, tmp_path / "run", device)
    print(objective, dict(waits.ours), dict(waits.upstream))
    assert set(waits.ours) <= set(ALLOWED)


def test_the_watch_sees_what_it_is_to_see(device: str) -> None:
    with syncs.find_waits(device) as waits:
        values = torch.ones(3, device=device)
        values.sum().item()
        bool(values.any())
        values[values > 0].sum()
        values.nonzero()
        values.cpu()
        values.tolist()
    assert sum(waits.upstream.values()) >= 6, waits.upstream
