"""Time and memory of ultralytics' own training steps, to compare ours with.

    python -m tlvision_yolo.step_time --train-json T --train-images D --weights W.pt --arch yolov8n --image-size 320 \\
        --batch 16 --steps 20 --threads 1 --freeze 10 --out DIR

prints what `time_upstream` returns as JSON on its last line; meant to run in a process of its own, as `parity` is.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import time
from pathlib import Path
from typing import Any

from tlvision.formats.coco.read import read_coco
from tlvision_yolo.parity import memory_peak, start_of, write_dataset


class _MeasuredError(Exception):
    """Leaves upstream's trainer when enough steps are timed."""


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
    the same process, between the steps. The rest is as in `train_upstream`.

    Returns "step_seconds" (the median), "peak_memory_bytes" (of the GPU, or resident), "added_memory_bytes" (the peak
    less what was held right before the first step), "trained" (numbers with a gradient), "threads".
    """
    import torch
    from ultralytics.models import YOLO

    out = out.resolve()
    train = read_coco(train_json, train_images)
    data_yaml = write_dataset(train, train, out / "data")
    marks: list[float] = []
    seconds: list[float] = []
    held = trained = 0

    def begin(trainer: Any) -> None:
        nonlocal held, trained
        if not seconds:
            torch.set_num_threads(threads)
            held = memory_held()
            trained = sum(p.numel() for p in trainer.model.parameters() if p.requires_grad)
        wait_for_device()
        marks.append(time.perf_counter())

    def end(trainer: Any) -> None:
        wait_for_device()
        seconds.append(time.perf_counter() - marks[-1])
        if len(seconds) == warmup + steps:
            raise _MeasuredError

    model = YOLO(start_of(weights, arch))
    model.add_callback("on_train_batch_start", begin)
    model.add_callback("on_train_batch_end", end)
    try:
        model.train(
            data=str(data_yaml),
            epochs=warmup + steps,
            imgsz=image_size,
            batch=batch,
            nbs=batch,
            workers=0,
            close_mosaic=0,
            device="cuda:0" if torch.cuda.is_available() else "cpu",
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
        peak = memory_peak()
        return {
            "step_seconds": statistics.median(seconds[warmup:]),
            "peak_memory_bytes": peak,
            "added_memory_bytes": peak - held,
            "trained": trained,
            "threads": torch.get_num_threads(),
        }
    raise RuntimeError(f"upstream's trainer ended after {len(seconds)} steps, {warmup + steps} were asked for")


def wait_for_device() -> None:
    """Let the GPU finish, where there is one, so that a clock reads what the work took."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()


def memory_held() -> int:
    """Return the memory of this process now, of the same kind as `memory_peak`; without /proc, its peak so far."""
    import torch

    if torch.cuda.is_available() and torch.cuda.max_memory_allocated() > 0:
        return torch.cuda.memory_allocated()
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except OSError:
        return memory_peak()
    return pages * resource.getpagesize()


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


if __name__ == "__main__":
    main()
