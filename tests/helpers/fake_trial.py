"""A stand-in for `tlvision train`: what a runner of experiments sees of it, in a tenth of a second.

python fake_trial.py train CONFIG.yaml [--until N] | train --resume RUN [--until N]

A run has ten steps, which survive a kill; each is an epoch with its evaluation. AP is train.lr + seed / 1000, and of a
rate above 1 it is 1 / train.lr.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import yaml

STEPS = 10


def main() -> None:
    """Make the folder of a run, work, and finish it or stop where --until says."""
    words = sys.argv[2:]
    until = int(words[words.index("--until") + 1]) if "--until" in words else STEPS
    if words[0] == "--resume":
        run = Path(words[1])
        config = yaml.safe_load((run / "config.yaml").read_text())
    else:
        config = yaml.safe_load(Path(words[0]).read_text())
        run = Path(config["run"]["out"])
        run.mkdir(parents=True, exist_ok=True)
        (run / "config.yaml").write_text(Path(words[0]).read_text())
    seed, rate = config["train"]["seed"], config["train"]["lr"]
    if seed == 13:
        print("error: the seed brings bad luck", file=sys.stderr)
        sys.exit(2)
    if ".safetensors" in config["model"]["weights"] and not Path(config["model"]["weights"]).exists():
        print("error: the weights are not there", file=sys.stderr)
        sys.exit(2)
    score = (rate if rate <= 1 else 1 / rate) + seed / 1000
    done, last = run / "steps", run / "checkpoints" / "last" / "state.json"
    for step in range(len(done.read_text()) if done.exists() else 0, until):
        time.sleep(0.005)
        with (run / "log.jsonl").open("a") as file:
            value = score * (step + 1) / STEPS
            file.write(json.dumps({"kind": "evaluation", "epoch": step + 1, "metrics": {"bbox/AP": value}}) + "\n")
        last.parent.mkdir(parents=True, exist_ok=True)
        last.write_text(json.dumps({"closed_epochs": step + 1}))
        with done.open("a") as file:
            file.write(str(step))
    if until < STEPS:
        return
    weights = run / "checkpoints" / "best" / "model.safetensors"
    weights.parent.mkdir(parents=True, exist_ok=True)
    weights.write_text("weights")
    metrics = {"task": "detect", "bbox": {"AP": score}, "counts": {"predictions": 5}}
    (run / "metrics.json").write_text(json.dumps(metrics))
    (run / "finished.json").write_text("{}")


if __name__ == "__main__":
    main()
