"""Train with mmengine's Runner: the parts that `mmdet` and `mmseg` share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.parity.runner import Clock

from tlvision.plugin import BuildSpec, Plugin


def run_training(config: Any, clock: Clock) -> None:
    """Train with mmengine's Runner, with the evaluations that its config has."""
    from mmengine.runner import Runner

    runner = Runner.from_cfg(config)
    with clock.training():
        runner.train()


def write_start(plugin: Plugin, spec: BuildSpec, path: Path) -> Path:
    """Write the pretrained tensors that `plugin` loads, with upstream's keys, to `path`, and return it.

    Tensors that the weights do not fill are left out, so that upstream initialises them.
    """
    import torch

    adapter, report = plugin.build(spec)
    filled = {entry.split(":", 1)[0] for entry in (*report.loaded, *report.remapped)}
    torch.save({key: tensor for key, tensor in adapter.module.state_dict().items() if key in filled}, path)
    return path
