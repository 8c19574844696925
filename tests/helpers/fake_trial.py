"""A stand-in for `tlvision train`: what a runner of experiments sees of it, in a tenth of a second.

python fake_trial.py train CONFIG.yaml | train --resume RUN
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import yaml


def main() -> None:
    """Make the folder of a run, work in ten steps that survive a kill, and finish it."""
    if sys.argv[2] == "--resume":
        run = Path(sys.argv[3])
        config = yaml.safe_load((run / "config.yaml").read_text())
    else:
        config = yaml.safe_load(Path(sys.argv[2]).read_text())
        run = Path(config["run"]["out"])
        run.mkdir(parents=True, exist_ok=True)
        (run / "config.yaml").write_text(Path(sys.argv[2]).read_text())
    seed = config["train"]["seed"]
    if seed == 13:
        print("error: the seed brings bad luck", file=sys.stderr)
        sys.exit(2)
    done = run / "steps"
    for step in range(len(done.read_text()) if done.exists() else 0, 10):
        time.sleep(0.005)
        with done.open("a") as file:
            file.write(str(step))
    metrics = {"task": "detect", "bbox": {"AP": config["train"]["lr"] + seed / 1000}, "counts": {"predictions": 5}}
    (run / "metrics.json").write_text(json.dumps(metrics))
    (run / "finished.json").write_text("{}")


if __name__ == "__main__":
    main()
