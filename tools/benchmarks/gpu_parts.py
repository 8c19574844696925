"""The parts of `bench.py gpu`, each run in a process of its own; every function returns what JSON can hold.

The models, and what trains each upstream: ultralytics' trainer, torchvision's reference recipe, mmengine's runner, a
plain loop for smp, which has no trainer.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from benchmarks.parity.compare import CONFIGS, measure, overrides
from benchmarks.parity.runner import Job, run
from benchmarks.parity.tasks import TASKS
from benchmarks.step_clock import StepClock, wait_for_device

QUIET = 'hooks=[{"ema": {"decay": 0.99}}, {"log": {"progress": "none", "tensorboard": "off"}}]'


@dataclass(frozen=True)
class Model:
    """One row of the step table. small: the replacement of `arch` in a rehearsal."""

    plugin: str
    arch: str
    small: str
    data: str = "bccd"
    weights: str = "none"
    batch: int = 16


LIGHT = "fasterrcnn_mobilenet_v2_fpn_light"
MODELS = {
    "yolov8n": Model("yolo", "yolov8n", "yolov8n", weights="yolov8n-coco-from-int8.pt"),
    "yolov8m": Model("yolo", "yolov8m", "yolov8s"),
    "torchvision Faster R-CNN R50": Model("torchvision", "fasterrcnn_resnet50_fpn", LIGHT, batch=8),
    "mmdet Faster R-CNN R50": Model("mmdet", "faster-rcnn_r50_fpn_1x_coco", "faster-rcnn_mobilenet-v2_fpn", batch=8),
    "smp U-Net R34": Model("smp", "unet/resnet34", "unet/resnet18", data="crackforest"),
}


@dataclass(frozen=True)
class Sizes:
    """Amount of measurement. crop: of label maps; images of `crackforest` are 480 px wide, so they are enlarged."""

    image_size: int = 640
    crop: int = 512
    warmup: int = 8
    steps: int = 24
    loading_seconds: float = 1.5
    workers: tuple[int, ...] = (1, 2, 4, 8, 16)
    profiled: int = 8
    epochs: int = 15
    epochs_size: int = 640
    small: bool = False


FULL = Sizes()
SMALL = Sizes(128, 96, 1, 2, 0.5, (1, 2), 2, 1, 96, small=True)


def options_of(name: str, sizes: Sizes, shared: Path, epochs: int = 100) -> SimpleNamespace:
    """Return what `compare.overrides` takes, for one model."""
    model = MODELS[name]
    weights = model.weights if model.weights == "none" else str(shared / "weights" / model.weights)
    return SimpleNamespace(
        plugin=model.plugin,
        arch=model.small if sizes.small else model.arch,
        data=str(shared / "data" / model.data),
        weights=weights,
        image_size=sizes.image_size,
        crop=sizes.crop if model.plugin == "smp" else 0,
        batch=2 if sizes.small else model.batch,
        epochs=epochs,
        seed=0,
        set=["train.lr=1e-3"] if model.plugin == "yolo" else [],  # no probes before the steps that are timed
    )


def steps_ours(name: str, precision: str, sizes: Sizes, shared: Path, out: Path) -> dict[str, Any]:
    """Time our loop, then the bare model: loss and backward of one batch that is on the device already."""
    from tlvision.training.loop import train_epoch

    options = options_of(name, sizes, shared)
    session = make_session(options, precision, out)
    clock = StepClock(sizes.warmup, sizes.steps)
    with clock:
        batches = session.batches(0, session.context.duration.total_steps)
        batches = clock.loading(batches) if session.workers == 0 else batches
        while True:
            train_epoch(session, batches)
            session.closed_epochs += 1
    session.call_close()
    bare = bare_seconds(session, sizes)
    return {**step_row(clock, options.batch), "bare_share": bare / clock.seconds, "workers": session.workers}


def make_session(options: SimpleNamespace, precision: str, out: Path) -> Any:
    """Return a run that is ready for its first step."""
    from tlvision.config.load import load_config
    from tlvision.engine.build import build_run
    from tlvision.engine.session import build_session
    from tlvision.training.fabric import make_fabric

    out.mkdir(parents=True)
    given = [*overrides(options, out / "run"), f"train.precision={precision}", "train.verify=off"]
    kept = [QUIET] if options.plugin != "mmdet" else []  # mmdet's config holds the norms' statistics by a hook
    config = load_config(CONFIGS[options.plugin], [*given, *kept])
    session = build_session(build_run(config), out, make_fabric(config.train))
    session.call("before_fit")
    return session


def bare_seconds(session: Any, sizes: Sizes) -> float:
    """Return the time of loss and backward only."""
    from tlvision.data.batches import normalise

    adapter, fabric = session.context.adapter, session.fabric
    batch = next(session.batches(0, 1)).to(fabric.device)
    images, targets = normalise(batch.images, adapter.input_spec), batch.targets
    session.modes().apply()
    for number in range(sizes.warmup + sizes.steps):
        if number == sizes.warmup:
            wait_for_device()
            began = time.perf_counter()
        adapter.module.zero_grad(set_to_none=True)
        with fabric.autocast():
            losses = adapter.loss(images, targets)
        torch.stack([loss.float() for loss in losses.values()]).sum().backward()
    wait_for_device()
    return (time.perf_counter() - began) / sizes.steps


def steps_upstream(name: str, precision: str, sizes: Sizes, shared: Path, out: Path) -> dict[str, Any]:
    """Time upstream's trainer on the same images with the same batch."""
    options = options_of(name, sizes, shared)
    job = Job(
        plugin=options.plugin,
        files=TASKS[options.plugin].files(Path(options.data)),
        weights=options.weights,
        arch=options.arch,
        epochs=options.epochs,
        image_size=options.image_size,
        batch=options.batch,
        seed=0,
        out=out.resolve(),
        crop=options.crop or None,
        precision=precision,
    )
    clock = StepClock(sizes.warmup, sizes.steps)
    with clock:
        run(job)
    return step_row(clock, options.batch)


def step_row(clock: StepClock, batch: int) -> dict[str, Any]:
    """Return the readings of the clock."""
    return {
        "batch": batch,
        "step_ms": 1000 * clock.seconds,
        "images_per_second": batch / clock.seconds,
        "waiting_share": clock.waiting,
        "peak_memory_mib": clock.peak / 2**20,
    }


def loading(workers: int, sizes: Sizes, shared: Path, out: Path) -> dict[str, Any]:
    """Return images per second of our loader and of ultralytics', mosaics of four, with so many processes."""
    from benchmarks.loading import our_batches, ultralytics_batches

    from tlvision.formats.coco import read_coco

    data = read_coco(shared / "data" / "bccd" / "train.json", shared / "data" / "bccd" / "images")
    batch = 4 if sizes.small else 16
    out.mkdir(parents=True)
    sides = {
        "ours": our_batches(data, sizes.image_size, batch, workers=workers),
        "ultralytics": ultralytics_batches(data, out, sizes.image_size, batch, workers=workers),
    }
    return {side: rate(batches, batch, sizes.loading_seconds) for side, batches in sides.items()}


def rate(batches: Iterator[Any], batch: int, seconds: float) -> float:
    """Return images per second over about so many seconds, after four batches."""
    for _ in range(4):
        next(batches)
    began, count = time.perf_counter(), 0
    while time.perf_counter() - began < seconds:
        next(batches)
        count += batch
    return count / (time.perf_counter() - began)


def profile(precision: str, sizes: Sizes, shared: Path, out: Path) -> dict[str, Any]:
    """Return the ten operators that take the device's time in our steps of yolov8n, and its idle share."""
    from torch.profiler import ProfilerActivity
    from torch.profiler import profile as watch

    from tlvision.training.loop import train_step

    session = make_session(options_of("yolov8n", sizes, shared), precision, out)
    batches = [batch.to(session.fabric.device) for batch in session.batches(0, sizes.warmup + sizes.profiled)]
    cuda = torch.cuda.is_available()
    for batch in batches[: sizes.warmup]:
        train_step(session, [batch])
        session.call("after_step")
    wait_for_device()
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if cuda else [])]
    with watch(activities=activities) as found:
        began = time.perf_counter()
        for batch in batches[sizes.warmup :]:
            train_step(session, [batch])
            session.call("after_step")
        wait_for_device()
        wall = time.perf_counter() - began
    events = found.key_averages()
    key = "self_device_time_total" if cuda else "self_cpu_time_total"
    rows = sorted(events, key=lambda event: -getattr(event, key))
    busy = sum(getattr(event, key) for event in events) / 1e6
    return {
        "step_ms": 1000 * wall / sizes.profiled,
        "idle_share": max(0.0, 1 - busy / wall) if cuda else None,
        "operators": [
            {"name": event.key[:60], "ms": getattr(event, key) / 1000 / sizes.profiled, "calls": event.count}
            for event in rows[:10]
        ],
    }


def epochs(side: str, sizes: Sizes, shared: Path, out: Path) -> dict[str, Any]:
    """Train yolov8n on BCCD for some epochs; AP of pycocotools and seconds of the whole process."""
    options = options_of("yolov8n", sizes, shared, sizes.epochs)
    options.image_size, options.out, options.config = sizes.epochs_size, str(out), None
    result = measure(options, side, 0)
    return {
        "ap": result["scores"][0],
        "ap50": result["scores"][1],
        "train_seconds": result["train_seconds"],
        "wall_seconds": result["wall_seconds"],
        "epochs": sizes.epochs,
        "image_size": sizes.epochs_size,
    }
