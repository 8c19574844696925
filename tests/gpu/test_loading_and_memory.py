"""What only shows where a device has its own memory: pinned batches, workers beside it, its use, its end."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tlvision.config.load import load_config
from tlvision.engine.build import build_run
from tlvision.engine.session import build_session
from tlvision.engine.train import train
from tlvision.training.fabric import make_fabric
from tlvision.training.loop import train_step
from tlvision.training.phases import find_phases

MakeConfig = Callable[..., dict[str, Any]]
QUIET = {"log": {"progress": "none", "tensorboard": "off", "every": 1}}


def test_workers_and_pinned_memory_change_nothing(
    gpu_config: MakeConfig, logged: Callable[[Path], list[dict[str, Any]]], device: str
) -> None:
    losses = []
    for workers in (0, 2):
        config = gpu_config("toy", device, f"workers{workers}", epochs=2)
        config["data"]["workers"] = workers
        config["hooks"] = [QUIET]
        losses.append([row["loss"] for row in logged(train(config).run)])
    assert losses[1] == pytest.approx(losses[0], rel=0 if device == "cpu" else 1e-3)


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_are_pinned_for_a_gpu(gpu_config: MakeConfig, tmp_path: Path, device: str, workers: int) -> None:
    config = gpu_config("toy", device)
    config["data"]["workers"] = workers
    loaded = load_config(config)
    session = build_session(build_run(loaded), tmp_path / "run", make_fabric(loaded.train))
    for batch in session.batches(0, 2):
        assert batch.images.is_pinned() is (device == "cuda")
        assert batch.to(device).images.device.type == device


@pytest.mark.parametrize("family", ["toy", "yolo", "smp", "torchvision two-stage"])
def test_the_memory_of_a_phase_is_about_what_a_step_takes(
    gpu_config: MakeConfig, tmp_path: Path, device: str, family: str
) -> None:
    config = gpu_config(family, device)
    config["data"]["image_size"] = 256
    config["hooks"] = [QUIET]
    loaded = load_config(config)
    parts = build_run(loaded)
    session = build_session(parts, tmp_path / "run", make_fabric(loaded.train))
    session.call("before_fit")
    batches = [*session.batches(0, 3)]
    first = batches[0].to(device)
    (phase,) = find_phases(parts.adapter, session.context.plan, session.settings, first, len(first))
    assert min(phase.weights, phase.gradients, phase.optimizer, phase.activations) > 0
    if device == "cpu":
        return
    train_step(session, [batches[1]])  # the optimizer's state comes into being
    torch.cuda.reset_peak_memory_stats()
    train_step(session, [batches[2]])
    assert 0.5 < torch.cuda.max_memory_allocated() / phase.memory < 2.5


def test_out_of_memory_says_what_to_lower(gpu_config: MakeConfig, tmp_path: Path, device: str) -> None:
    import yaml

    config = gpu_config("toy", device)
    config["data"] |= {"image_size": 4096, "workers": 0, "batch": {"labelled": 12}}
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    limit = {
        "cpu": "import resource; resource.setrlimit(resource.RLIMIT_DATA, (3 * 2**30, 3 * 2**30))",
        "cuda": "torch.cuda.set_per_process_memory_fraction(0.01)",
    }[device]
    code = (
        f"import sys, torch; torch.set_num_threads(1); {limit}\n"
        f"from tlvision.cli.main import main\nsys.exit(main(['train', {str(path)!r}]))"
    )
    command, environment = [sys.executable, "-c", code], os.environ | {"TLVISION_DEBUG": "0"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr[-2000:]
    assert "Traceback" not in done.stderr
    for part in ("memory", "data.batch.labelled", "data.image_size"):
        assert part in done.stderr
    assert ("on the GPU" in done.stderr) is (device == "cuda")
