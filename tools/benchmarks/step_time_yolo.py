"""Time and memory of ultralytics' own training steps, to compare ours with.

    python tools/bench.py step_time_yolo --train-json T --train-images D --weights W.pt --arch yolov8n \\
        --image-size 320 --batch 16 --steps 20 --threads 1 --freeze 10 --out DIR

It prints what `time_upstream` returns as JSON on the last line. `freezing` runs it in a process of its own.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

from benchmarks.parity.runner import current_memory, device_name, peak_memory
from benchmarks.parity.yolo import start_of, write_dataset

from tlvision.formats.coco.read import read_coco


class _MeasuredError(Exception):
    """Leaves upstream's trainer when enough steps are timed."""


class _Timer:
    """Callbacks of upstream's trainer that time its steps, and leave it with `_MeasuredError` after the last.

    count:   number of steps.
    threads: torch's threads, set right before the first step.
    """

    def __init__(self, count: int, threads: int) -> None:
        self.count, self.threads = count, threads
        self.seconds: list[float] = []
        self.memory_before = self.trained = 0
        self._began = 0.0

    def begin(self, trainer: Any) -> None:
        """Start a step."""
        import torch
        from benchmarks.step_clock import wait_for_device

        if not self.seconds:
            torch.set_num_threads(self.threads)
            self.memory_before = current_memory()
            self.trained = sum(p.numel() for p in trainer.model.parameters() if p.requires_grad)
        wait_for_device()
        self._began = time.perf_counter()

    def end(self, trainer: Any) -> None:
        """End a step."""
        from benchmarks.step_clock import wait_for_device

        wait_for_device()
        self.seconds.append(time.perf_counter() - self._began)
        if len(self.seconds) == self.count:
            raise _MeasuredError


def time_upstream(
    train_json: Path,
    train_images: Path,
    *,
    weights: str,
    arch: str,
    image_size: int,
    batch: int,
    steps: int,
    out: Path,
    warmup: int = 5,
    threads: int = 1,
    freeze: int | None = None,
) -> dict[str, Any]:
    """Time upstream's training steps: from the batch, loaded, to the updated weights and their moving average.

    steps, warmup: how many steps are timed, after how many that are not.
    threads:       torch's threads, set when upstream's trainer has set its own number.

    Every batch is a step of AdamW (upstream would collect 64 images first), mosaic stays on, and images are loaded in
    the same process, between the steps. The rest is as in `benchmarks.parity.yolo`.

    Returns "step_seconds" (the median), "peak_memory_bytes" (of the GPU, or resident), "added_memory_bytes" (the peak
    less what was held right before the first step), "trained" (numbers with a gradient), "threads".
    """
    import torch
    from ultralytics.models import YOLO

    out = out.resolve()
    train = read_coco(train_json, train_images)
    data_yaml = write_dataset(train, train, out / "data")
    timer = _Timer(warmup + steps, threads)
    model = YOLO(start_of(weights, arch))
    model.add_callback("on_train_batch_start", timer.begin)
    model.add_callback("on_train_batch_end", timer.end)
    try:
        model.train(
            data=str(data_yaml),
            epochs=warmup + steps,
            imgsz=image_size,
            batch=batch,
            nbs=batch,
            workers=0,
            close_mosaic=0,
            device=device_name(),
            project=str(out),
            name="steps",
            exist_ok=True,
            plots=False,
            val=False,
            freeze=freeze,
            optimizer="AdamW",
            lr0=1e-3,
        )
    except _MeasuredError:
        peak = peak_memory()
        return {
            "step_seconds": statistics.median(timer.seconds[warmup:]),
            "peak_memory_bytes": peak,
            "added_memory_bytes": peak - timer.memory_before,
            "trained": timer.trained,
            "threads": torch.get_num_threads(),
        }
    raise RuntimeError(f"upstream's trainer ended after {len(timer.seconds)} steps, {warmup + steps} were asked for")


def main() -> None:
    """Run `time_upstream` from the command line."""
    parser = argparse.ArgumentParser(description="Time the training steps of ultralytics' own trainer.")
    for name in ("--train-json", "--train-images", "--out"):
        parser.add_argument(name, type=Path, required=True)
    parser.add_argument("--weights", required=True, help="a .pt of ultralytics, 'coco' or 'none'")
    parser.add_argument("--arch", required=True)
    for name, default in (("--image-size", 640), ("--batch", 16), ("--steps", 20), ("--warmup", 5), ("--threads", 1)):
        parser.add_argument(name, type=int, default=default)
    parser.add_argument("--freeze", type=int)
    print(json.dumps(time_upstream(**vars(parser.parse_args()))))
