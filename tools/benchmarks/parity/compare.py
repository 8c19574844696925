"""Our loop against the upstream trainer: same weights, data, epochs, image size and batch; one table.

    python tools/bench.py parity --plugin yolo --data ../shared/data/bccd --arch yolov8n \\
        --weights ../shared/weights/yolov8n-coco-from-int8.pt --epochs 15 --image-size 320 --batch 16

DIR of --data holds train.json, val.json and images/, or for segmenters classes.txt, images/{train,val} and
masks/{train,val}. For each seed, ours and upstream run one after the other, each in a process of its own; both
predictions are scored by the same code, which is not ours (pycocotools) or is plain numpy (label maps). Training time
is that of the call that trains, evaluation after each epoch included; peak memory is the process's own at the end of
that call (of the GPU, where there is one).
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.parity import runner
from benchmarks.parity.tasks import TASKS

BENCH = Path(__file__).parents[2] / "bench.py"
CONFIGS = {
    "mmdet": "configs/detect/mmdet_faster_rcnn.yaml",
    "mmseg": "configs/segment/mmseg_deeplabv3plus.yaml",
    "smp": "configs/segment/smp_unet.yaml",
    "torchvision": "configs/detect/torchvision_faster_rcnn.yaml",
    "transformers": "configs/segment/transformers_segformer.yaml",
    "yolo": "configs/detect/yolo_finetune.yaml",
}


def overrides(options: argparse.Namespace, out: Path) -> list[str]:
    """Return what our config needs to do the same work."""
    return [
        f"model.arch={options.arch}",
        f"model.weights={options.weights}",
        *TASKS[options.plugin].overrides(Path(options.data)),
        *([f"data.augment.crop={options.crop}"] if options.crop else []),
        f"data.image_size={options.image_size}",
        f"data.batch.labelled={options.batch}",
        f"train.epochs={options.epochs}",
        f"train.seed={options.seed}",
        f"run.out={out}",
        *options.set,
    ]


def train_ours(options: argparse.Namespace) -> None:
    """Train with our loop in this process and print time and memory as JSON on the last line."""
    from tlvision.engine.train import train

    clock = runner.Clock()
    with clock.training():
        result = train(options.config or CONFIGS[options.plugin], overrides(options, Path(options.out)))
    folder = result.run / "predictions"
    report = {
        "predictions": str(folder if folder.is_dir() else result.run / "predictions.json"),
        "train_seconds": clock.train_seconds,
        "peak_memory_bytes": clock.peak_memory,
    }
    print(json.dumps(report))


def run_side(command: list[str], log: Path) -> dict[str, Any]:
    """Run one side in its own process and return the JSON of its last line, with the wall time of the process."""
    log.parent.mkdir(parents=True, exist_ok=True)
    before = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    wall = time.perf_counter() - before
    log.write_text(done.stdout + done.stderr, encoding="utf-8")
    if done.returncode != 0:
        raise SystemExit(f"failed: {' '.join(command)}\n{done.stderr[-2000:]}\nlog: {log}")
    return {**json.loads(done.stdout.strip().splitlines()[-1]), "wall_seconds": wall}


def measure(options: argparse.Namespace, side: str, seed: int) -> dict[str, Any]:
    """Run one side with one seed and score it."""
    out, data = Path(options.out), Path(options.data)
    command = [sys.executable, str(BENCH), "parity", "--side", side, "--plugin", options.plugin, "--data", options.data]
    if side == "ours":
        command += ["--config", options.config] if options.config else []
        command += ["--set", *options.set] if options.set else []
    command += ["--weights", options.weights, "--arch", options.arch, "--epochs", str(options.epochs)]
    command += ["--image-size", str(options.image_size), "--batch", str(options.batch)]
    command += ["--crop", str(options.crop)] if options.crop else []
    command += ["--seed", str(seed), "--out", str(out / f"{side}-{seed}")]
    result = run_side(command, out / "logs" / f"{side}-{seed}.log")
    task = TASKS[options.plugin]
    result["scores"] = task.score(data, Path(result["predictions"]))
    result["images_per_second"] = options.epochs * task.images(data) / result["train_seconds"]
    print(
        f"seed {seed} {side:<8} {task.metrics[0]} {result['scores'][0]:.4f}  {result['train_seconds']:.0f} s",
        flush=True,
    )
    return result


def table(rows: dict[str, list[dict[str, Any]]], metrics: tuple[str, ...]) -> str:
    """Return the markdown table: mean and spread of the metrics, medians of the rest, and the ratio pair by pair."""
    lines = ["| | ours | upstream | ours / upstream |", "|---|---|---|---|"]
    for position, name in enumerate(metrics):
        ours, theirs = ([row["scores"][position] for row in rows[side]] for side in ("ours", "upstream"))
        difference = statistics.mean(ours) - statistics.mean(theirs)
        lines.append(f"| {name}, mean (min to max) | {spread(ours)} | {spread(theirs)} | {difference:+.4f} |")
    for name, key, scale, digits in (
        ("training time, s", "train_seconds", 1.0, 0),
        ("whole process, s", "wall_seconds", 1.0, 0),
        ("images per second", "images_per_second", 1.0, 1),
        ("peak memory, MiB", "peak_memory_bytes", 1 / 2**20, 0),
    ):
        ours, theirs = ([row[key] * scale for row in rows[side]] for side in ("ours", "upstream"))
        ratio = statistics.median(a / b for a, b in zip(ours, theirs, strict=True))
        lines.append(
            f"| {name}, median | {statistics.median(ours):.{digits}f} | {statistics.median(theirs):.{digits}f} "
            f"| {ratio:.2f} |"
        )
    return "\n".join(lines)


def spread(values: list[float]) -> str:
    """Return mean, minimum and maximum."""
    return f"{statistics.mean(values):.4f} ({min(values):.4f} to {max(values):.4f})"


def main() -> None:
    """Run both sides for every seed and print the table, or run one side."""
    options = runner.arguments(__doc__)
    if options.side:
        {"ours": train_ours, "upstream": runner.train_upstream}[options.side](options)
        return
    rows: dict[str, list[dict[str, Any]]] = {"ours": [], "upstream": []}
    for position, seed in enumerate(options.seeds):
        sides = ["ours", "upstream"] if position % 2 == 0 else ["upstream", "ours"]  # neither is always first
        for side in sides:
            rows[side].append(measure(options, side, seed))
    result = Path(options.out) / "parity.json"
    result.write_text(json.dumps(rows, indent=1), encoding="utf-8")
    work = f"{len(options.seeds)} seeds, {options.epochs} epochs, {options.image_size} px, batch {options.batch}"
    print(f"\n{table(rows, TASKS[options.plugin].metrics)}\n")
    print(f"{work}; {platform.machine()}, Python {platform.python_version()}; {result}")
