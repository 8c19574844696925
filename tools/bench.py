"""Speed and parity, measured against upstream in the same run.

    python tools/bench.py parity --plugin yolo --data DIR --weights W.pt --arch yolov8n --epochs 15 --image-size 320
    python tools/bench.py few_images --data DIR            # the data of experiments/transfer.yaml
    python tools/bench.py recipes run | table | choose | probe …   # which defaults generalise, one data set left out
    python tools/bench.py zero_shot                        # how well the weights fit those data sets untrained
    python tools/bench.py parity --plugin mmdet | torchvision …        # the same, against their own trainers
    python tools/bench.py upstream CONFIG.yaml             # one training with upstream's trainer, for an experiment
    python tools/bench.py parity --side upstream --plugin yolo …       # one side, without the comparison
    python tools/bench.py step yolo+mean_teacher --with data.yaml …       # what a method costs a step
    python tools/bench.py freezing --data DIR --weights W.pt
    python tools/bench.py step_time_yolo …                 # steps of ultralytics' trainer, as `freezing` times them
    python tools/bench.py gpu                              # all of it on a GPU, in four minutes; then: tables gpu.json
    python tools/bench.py export RUN …                     # sizes and latencies of bundles beside torch
    python tools/bench.py int8 RUN                         # INT8 of a YOLO run beside ultralytics' own
    python tools/bench.py serve BUNDLE --images DIR        # latency and throughput of the server, batching on and off
    python tools/bench.py sahi                             # predictions of tiles beside those of sahi
    python tools/bench.py label_noise --json val.json --images DIR --run RUN …   # planted errors that doctor finds
    python tools/bench.py verify | evaluation | label_maps | loading | reading | startup

`parity --side …` and `step_time_yolo` run one side and print JSON on the last line, the others print a table. Nothing
here asserts on seconds.
"""

from __future__ import annotations

import sys
from importlib import import_module

from tlvision.types import InputError, RunError

BENCHMARKS = (
    "evaluation",
    "export",
    "freezing",
    "gpu",
    "int8",
    "label_maps",
    "label_noise",
    "loading",
    "parity",
    "reading",
    "recipes",
    "sahi",
    "serve",
    "startup",
    "step",
    "step_time_yolo",
    "tables",
    "few_images",
    "upstream",
    "verify",
    "zero_shot",
)


def main() -> int:
    """Run the benchmark that the first argument names; the rest is its own."""
    if len(sys.argv) < 2 or sys.argv[1] not in BENCHMARKS:
        print(__doc__)
        return 2
    name = sys.argv.pop(1)
    try:
        return int(import_module(f"benchmarks.{name}").main() or 0)
    except (InputError, RunError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
