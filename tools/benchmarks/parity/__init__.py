"""Train with our loop and with upstream's own trainer on the same data, and compare scores, time and memory.

`compare` runs both sides and prints the table, `runner` does one job of one side in its own process, `tasks` knows the
data and the metrics. `yolo`, `torchvision`, `smp`, `mmdet` and `mmseg` each train one job in upstream's own way.
"""

from benchmarks.parity.compare import main

__all__ = ["main"]
