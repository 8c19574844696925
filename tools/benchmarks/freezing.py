"""Measure step time and peak memory with a frozen backbone, next to ultralytics' `freeze`.

    python tools/bench.py freezing --data ../shared/data/bccd --weights ../shared/weights/yolov8n-coco-from-int8.pt

Four sides, each in a process of its own, several times in turn: ours and upstream's, everything trained and with stem
and backbone frozen. Upstream is told to freeze as many layers as our groups of these roles hold (10 for yolov8n, 11 for
yolo11n). All get the same images, whole batches only, the same number of steps and of torch's threads (set by
`torch.set_num_threads` when each trainer has set its own), AdamW with a step for every batch, mosaic, and a moving
average.

A step is timed from the loaded batch to the updated weights and average; images are loaded in the same process,
between the steps, and are not in the time. Peak memory is the process's own (of the GPU, where there is one) at the
last timed step: no evaluation, no checkpoint. "Added by steps" is that less what was held before the first step.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from tlvision.hooks import Context, ObserverHook

CONFIG = "configs/detect/yolo_finetune.yaml"
FROZEN: list[dict[str, Any]] = [{"freeze": {"roles": ["stem", "backbone"]}}]
SIDES = ("ours, full", "ours, frozen", "ultralytics, full", "ultralytics, frozen")
COLUMNS = (
    ("step, ms", "step_seconds", 1e3, 0),
    ("peak memory, MiB", "peak_memory_bytes", 1 / 2**20, 0),
    ("added by steps, MiB", "added_memory_bytes", 1 / 2**20, 0),
)
"""Heading, key in a result, factor, digits."""


class StepClock(ObserverHook):
    """Times each step of our loop; listed last, so that the moving average is inside."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.held = 0
        self._began = 0.0

    def before_step(self, context: Context) -> None:
        """Start the clock; before the first step, note the memory held."""
        from benchmarks.parity.runner import current_memory
        from benchmarks.step_clock import wait_for_device

        if not self.seconds:
            self.held = current_memory()
        wait_for_device()
        self._began = time.perf_counter()

    def after_step(self, context: Context) -> None:
        """Stop the clock."""
        from benchmarks.step_clock import wait_for_device

        wait_for_device()
        self.seconds.append(time.perf_counter() - self._began)


def arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with train.json and images/")
    parser.add_argument("--weights", required=True)
    parser.add_argument("--arch", default="yolov8n")
    parser.add_argument("--image-size", type=int, default=320)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--batches", type=int, default=4, help="take so many batches of images from train.json")
    parser.add_argument("--steps", type=int, default=20, help="timed steps")
    parser.add_argument("--warmup", type=int, default=5, help="steps before those")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("runs/freezing"))
    parser.add_argument("--side", choices=SIDES[:2], help=argparse.SUPPRESS)
    return parser.parse_args()


def time_ours(options: argparse.Namespace) -> dict[str, Any]:
    """Time our training steps in this process: the loop itself, without its evaluations and checkpoints."""
    import torch
    from benchmarks.parity.runner import peak_memory

    from tlvision.config.load import load_config
    from tlvision.engine.build import build_run
    from tlvision.engine.session import build_session
    from tlvision.training.fabric import make_fabric
    from tlvision.training.loop import train_epoch

    torch.set_num_threads(options.threads)
    config = load_config(CONFIG, overrides(options))
    fabric = make_fabric(config.train)
    clock = StepClock()
    parts = build_run(config)
    parts = replace(parts, hooks=[*parts.hooks, clock])
    run = options.out / "ours"
    run.mkdir(parents=True, exist_ok=True)
    session = build_session(parts, run, fabric)
    session.call("before_fit")
    batches = session.batches(0, session.context.duration.total_steps)
    while len(clock.seconds) < options.warmup + options.steps:
        train_epoch(session, batches)
        session.closed_epochs += 1
    session.call_close()
    peak = peak_memory()
    return {
        "step_seconds": statistics.median(clock.seconds[options.warmup : options.warmup + options.steps]),
        "peak_memory_bytes": peak,
        "added_memory_bytes": peak - clock.held,
        "trained": sum(p.numel() for p in parts.adapter.module.parameters() if p.requires_grad),
        "threads": torch.get_num_threads(),
    }


def overrides(options: argparse.Namespace) -> list[str]:
    """Return what our config needs to do the same work as upstream."""
    images = options.data / "images"
    hooks = [{"ema": {}}, *(FROZEN if options.side == "ours, frozen" else [])]
    hooks += [{"log": {"progress": "none", "tensorboard": "off"}}]
    return [
        *(f"model.arch={options.arch}", f"model.weights={options.weights}", f"hooks={json.dumps(hooks)}"),
        *(f"data.train.json={subset_path(options)}", f"data.train.images={images}"),
        *(f"data.val.json={subset_path(options)}", f"data.val.images={images}"),
        *(f"data.image_size={options.image_size}", f"data.batch.labelled={options.batch}", "data.workers=0"),
        *(
            "data.augment.mosaic_off=0",
            f"train.epochs={options.warmup + options.steps}",
            "train.lr=1e-3",
            f"run.out={options.out}",
        ),
    ]


def subset_path(options: argparse.Namespace) -> Path:
    """Return the json with the images that all sides train on."""
    return Path(options.out) / "images.json"


def write_subset(options: argparse.Namespace) -> None:
    """Write the first images of train.json, as many as fill whole batches."""
    document = json.loads((options.data / "train.json").read_text(encoding="utf-8"))
    whole = min(options.batches, len(document["images"]) // options.batch)
    if whole == 0:
        raise SystemExit(f"{options.data / 'train.json'} has fewer images than one batch of {options.batch}")
    images = document["images"][: whole * options.batch]
    kept = {image["id"] for image in images}
    annotations = [row for row in document["annotations"] if row["image_id"] in kept]
    options.out.mkdir(parents=True, exist_ok=True)
    content = json.dumps({**document, "images": images, "annotations": annotations})
    subset_path(options).write_text(content, encoding="utf-8")


def frozen_layers(arch: str) -> int:
    """Return how many of upstream's layers, counted from the input, our stem and backbone are.

    >>> frozen_layers("yolov8n"), frozen_layers("yolo11n")
    (10, 11)
    """
    from tlvision.plugin import BuildSpec, get_plugin
    from tlvision.types import ClassMap

    spec = BuildSpec(arch=arch, weights="none", classes=ClassMap.from_names(("any",)))
    adapter, _ = get_plugin("yolo").build(spec)
    paths = [path for group in adapter.groups if group.role in ("stem", "backbone") for path in group.modules]
    layers = sorted(int(re.fullmatch(r"model\.(\d+)", path)[1]) for path in paths)  # type: ignore[index]
    if layers != list(range(len(layers))):
        raise SystemExit(f"{arch}: stem and backbone are the layers {layers}, which upstream's freeze=N cannot say")
    return len(layers)


def command_for(options: argparse.Namespace, side: str, layers: int) -> list[str]:
    """Return the command that times one side and prints JSON on its last line."""
    values = {"weights": options.weights, "arch": options.arch, "image-size": options.image_size}
    values |= {key: getattr(options, key) for key in ("batch", "steps", "warmup", "threads", "out")}
    bench = str(Path(__file__).parents[1] / "bench.py")
    if side.startswith("ours"):
        command = [sys.executable, bench, "freezing", "--side", side]
        values["data"] = options.data
    else:
        command = [sys.executable, bench, "step_time_yolo"]
        values |= {"train-json": subset_path(options), "train-images": options.data / "images"}
        values |= {"freeze": layers} if side == "ultralytics, frozen" else {}
    return [*command, *(part for key, value in values.items() for part in (f"--{key}", str(value)))]


def measure(options: argparse.Namespace, side: str, layers: int) -> dict[str, Any]:
    """Time one side in a process of its own."""
    command = command_for(options, side, layers)
    environment = {**os.environ, "OMP_NUM_THREADS": str(options.threads)}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode != 0:
        raise SystemExit(f"failed: {' '.join(command)}\n{done.stderr[-2000:]}")
    result: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    if result["threads"] != options.threads:
        raise SystemExit(f"{side}: torch had {result['threads']} threads instead of {options.threads}")
    return result


def table(rows: dict[str, list[dict[str, Any]]]) -> str:
    """Return the markdown table: medians of each side, and their ratios."""
    middle = {
        (side, key): statistics.median(run[key] for run in runs) * factor
        for side, runs in rows.items()
        for _, key, factor, _ in COLUMNS
    }
    lines = [
        f"| | {' | '.join(heading for heading, *_ in COLUMNS)} | parameters with a gradient |",
        "|---" * (len(COLUMNS) + 2) + "|",
    ]
    for side, runs in rows.items():
        cells = [f"{middle[side, key]:.{digits}f}" for _, key, _, digits in COLUMNS]
        lines.append(f"| {side} | {' | '.join(cells)} | {runs[0]['trained']:,} |")
    ours, ours_frozen, theirs, theirs_frozen = SIDES
    for name, top, bottom in (
        ("frozen / full, ours", ours_frozen, ours),
        ("frozen / full, ultralytics", theirs_frozen, theirs),
        ("ours / ultralytics, full", ours, theirs),
        ("ours / ultralytics, frozen", ours_frozen, theirs_frozen),
    ):
        ratios = [f"{middle[top, key] / middle[bottom, key]:.2f}" for _, key, *_ in COLUMNS]
        lines.append(f"| {name} | {' | '.join(ratios)} | |")
    return "\n".join(lines)


def main() -> None:
    """Time the four sides in turn and print the table."""
    options = arguments()
    if options.side:
        print(json.dumps(time_ours(options)))
        return
    write_subset(options)
    layers = frozen_layers(options.arch)
    rows: dict[str, list[dict[str, Any]]] = {side: [] for side in SIDES}
    for repeat in range(options.repeats):
        for side in SIDES if repeat % 2 == 0 else reversed(SIDES):  # none is always first
            result = measure(options, side, layers)
            rows[side].append(result)
            print(f"{side:<20} {1e3 * result['step_seconds']:.0f} ms", flush=True)
    (options.out / "freezing.json").write_text(json.dumps(rows, indent=1), encoding="utf-8")
    work = f"{options.arch}, {options.image_size} px, batch {options.batch}, {options.threads} threads"
    print(f"\n{table(rows)}\n\n{work}; frozen: upstream's layers 0 to {layers - 1}; {options.repeats} repeats")


if __name__ == "__main__":
    main()
