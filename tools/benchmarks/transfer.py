"""Transfer methods on few images, next to ultralytics: same images, weights, epochs, image size and batch; one table.

    python tools/bench.py transfer --data ../shared/data/bccd --weights ../shared/weights/yolov8n-coco-from-int8.pt \\
        --out runs/transfer --tune
    python tools/bench.py transfer --data … --weights … --out runs/transfer

DIR of --data holds train.json, val.json and images/. Every tenth training image is trained on. With --tune the
learning rate of each method is chosen on training images that are not among those, with seed 0, ours and upstream's
alike, and written to OUT/tuned.json; the measured runs use it. Where the best rate is at an edge of the grid, the grid
goes on. val.json is looked at once, by the last weights of each run: no checkpoint is selected on it on either side. A
run that OUT/results.json has already is not done again; one that fails does not stop the others. Both sides are scored
by pycocotools. --jobs 2 runs two processes of one thread each, and the table leaves out their times (see `freezing`).
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from pathlib import Path
from typing import Any

from benchmarks import runs as runs_module
from benchmarks.parity.compare import BENCH, spread
from benchmarks.parity.tasks import pycocotools_ap
from benchmarks.runs import Results, Run, check_settings

CONFIG = "configs/detect/yolo_finetune.yaml"
EMA: dict[str, Any] = {"ema": {"decay": 0.99, "warmup": 100}}
OURS: dict[str, list[dict[str, Any]]] = {
    "full": [],
    "frozen backbone": [{"freeze": {"roles": ["stem", "backbone"]}}],
    "linear probe": [{"linear_probe": {}}],
    "gradual unfreezing": [{"gradual_unfreeze": {"every": 4, "rewarm": 1}}],
    "layer-wise lr 0.9": [{"layerwise_lr": {"decay": 0.9}}],
    "layer-wise lr 0.75": [{"layerwise_lr": {"decay": 0.75}}],
    "l2_sp": [{"l2_sp": {}}],
}
"""Name of a method: the hooks that it adds to the config's EMA."""
UPSTREAM: dict[str, dict[str, Any]] = {"ultralytics full": {}, "ultralytics freeze=10": {"freeze": 10}}
RATES = (3e-4, 1e-3, 3e-3, 1e-2)
"""Learning rates tried for each method, both sides with AdamW."""
Job = tuple[str, float | str, int]
"""Method, learning rate, seed."""
AUTO = "auto"
"""Upstream's own choice of optimizer and rate, tried beside them."""


def arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with train.json, val.json and images/")
    parser.add_argument("--weights", required=True)
    parser.add_argument("--arch", default="yolov8n")
    parser.add_argument("--nth", type=int, default=10, help="train on every nth training image")
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--image-size", type=int, default=320)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--methods", nargs="+", default=[*OURS, *UPSTREAM], choices=[*OURS, *UPSTREAM])
    parser.add_argument("--jobs", type=int, default=2, help="processes at once, one thread each")
    parser.add_argument("--tune", action="store_true", help="choose the learning rates, then stop")
    parser.add_argument("--out", type=Path, default=Path("runs/transfer"))
    return parser.parse_args()


def write_subsets(train_json: Path, nth: int, out: Path) -> tuple[Path, Path]:
    """Write few.json, every nth image, and judge.json, every third of the others, and return their paths."""
    document = json.loads(train_json.read_text(encoding="utf-8"))
    images = document["images"]
    few = images[nth - 1 :: nth]
    others = [image for index, image in enumerate(images) if index % nth != nth - 1]
    paths = []
    for name, chosen in (("few", few), ("judge", others[::3])):
        kept = {image["id"] for image in chosen}
        annotations = [row for row in document["annotations"] if row["image_id"] in kept]
        path = out / f"{name}.json"
        path.write_text(json.dumps({**document, "images": chosen, "annotations": annotations}), encoding="utf-8")
        paths.append(path)
    return paths[0], paths[1]


def command_for(options: argparse.Namespace, method: str, rate: float | str, seed: int, truth: Path) -> list[str]:
    """Return the command that trains one method and leaves predictions for `truth` in its folder."""
    folder = folder_of(options, method, rate, seed, truth)
    few, images = options.out / "few.json", options.data / "images"
    if method in OURS:
        hooks = json.dumps([EMA, *OURS[method], {"log": {"progress": "none", "tensorboard": "off"}}])
        return [
            *(sys.executable, "-m", "tlvision.cli.main", "train", CONFIG, "--set"),
            *(f"model.arch={options.arch}", f"model.weights={options.weights}", f"hooks={hooks}"),
            *(f"data.train.json={few}", f"data.train.images={images}"),
            *(f"data.val.json={truth}", f"data.val.images={images}"),
            *(f"data.image_size={options.image_size}", f"data.batch.labelled={options.batch}"),
            *(f"train.epochs={options.epochs}", f"evaluate.every={options.epochs}", f"train.seed={seed}"),
            *(f"train.lr={rate}", f"run.out={folder}"),
        ]
    extra = [part for key, value in UPSTREAM[method].items() for part in (f"--{key}", str(value))]
    extra += [] if rate == AUTO else ["--lr", str(rate)]
    return [
        *(sys.executable, str(BENCH), "parity", "--side", "upstream", "--plugin", "yolo", "--last"),
        *("--train-json", str(few), "--train-images", str(images)),
        *("--val-json", str(truth), "--val-images", str(images)),
        *("--weights", options.weights, "--arch", options.arch, "--epochs", str(options.epochs)),
        *("--image-size", str(options.image_size), "--batch", str(options.batch)),
        *("--seed", str(seed), "--out", str(folder), *extra),
    ]


def folder_of(options: argparse.Namespace, method: str, rate: float | str, seed: int, truth: Path) -> Path:
    """Return the folder of one run."""
    name = method.replace(" ", "_").replace("=", "")
    return Path(options.out) / "runs" / f"{name}-{rate}-{seed}-{truth.stem}"


def run_all(options: argparse.Namespace, jobs: list[Job], truth: Path, path: Path) -> Results:
    """Do the runs that are not done yet, some at a time, and score each on `truth`; failures are printed."""

    def score(run: Run) -> dict[str, Any]:
        ap, ap50 = pycocotools_ap(truth, run.folder / "predictions.json")
        return {"trained": trained_numbers(run.folder), "ap": ap, "ap50": ap50}

    results = Results(path)
    runs = [
        Run(key_of(*job), tuple(command_for(options, *job, truth)), folder_of(options, *job, truth)) for job in jobs
    ]
    runs_module.run_all(runs, results, options.jobs, score)
    return results


def key_of(method: str, rate: float | str, seed: int) -> str:
    """Return the name of a run in the results file."""
    return f"{method} | {rate} | {seed}"


def trained_numbers(folder: Path) -> float | None:
    """Return which share of the parameters is trained at some time, from the ledger; None for upstream."""
    path = folder / "ledger.json"
    if not path.exists():
        return None
    sizes: dict[bool, int] = {True: 0, False: 0}
    for row in json.loads(path.read_text(encoding="utf-8"))["rows"]:
        size = 1
        for side in row["shape"]:
            size *= side
        sizes[row["trainable_from"] is not None] += size
    return sizes[True] / (sizes[True] + sizes[False])


def tune(options: argparse.Namespace, judge: Path) -> None:
    """Choose the rate of each method on `judge` and write OUT/tuned.json, keeping the entries of other methods."""
    tried: dict[str, list[float | str]] = {
        method: [*RATES, *([AUTO] if method in UPSTREAM else [])] for method in options.methods
    }
    fresh = dict(tried)
    while any(fresh.values()):
        jobs: list[Job] = [(method, rate, 0) for method, rates in tried.items() for rate in rates]
        results = run_all(options, jobs, judge, options.out / "tuning.json")
        found = {method: found_of(results, method, rates) for method, rates in tried.items()}
        fresh = {method: beyond(aps) for method, aps in found.items()}
        fresh = {method: [rate for rate in rates if rate not in tried[method]] for method, rates in fresh.items()}
        tried = {method: [*rates, *fresh[method]] for method, rates in tried.items()}
    path = options.out / "tuned.json"
    tuned = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    for method, aps in found.items():
        if not aps:
            raise SystemExit(f"{method}: no rate could be tried; see the logs in {options.out / 'runs'}")
        tuned[method] = max(aps, key=lambda rate: aps[rate])
        print(f"{method:<24} {tuned[method]}   " + "  ".join(f"{rate}: {ap:.4f}" for rate, ap in aps.items()))
    path.write_text(json.dumps(tuned, indent=1), encoding="utf-8")


def found_of(results: Results, method: str, rates: list[float | str]) -> dict[float | str, float]:
    """Return the AP of each rate that was tried without failure."""
    return {rate: results.rows[key]["ap"] for rate in rates if (key := key_of(method, rate, 0)) in results.rows}


def beyond(aps: dict[float | str, float]) -> list[float | str]:
    """Return three times the best rate where it is the largest so far, a third where it is the smallest, else nothing.

    >>> beyond({3e-4: 0.1, 1e-3: 0.2, 3e-3: 0.3, "auto": 0.5})
    [0.009]
    >>> beyond({3e-4: 0.1, 1e-3: 0.3, 3e-3: 0.2})
    []
    """
    rates = sorted(rate for rate in aps if isinstance(rate, float))
    if not rates:
        return []
    best = max(rates, key=lambda rate: aps[rate])
    return [round(3 * best, 4)] if best == rates[-1] else [round(best / 3, 6)] if best == rates[0] else []


def table(rows: dict[str, list[dict[str, Any]]], rates: dict[str, float | str], *, alone: bool) -> str:
    """Return the markdown table: mean and spread of AP, mean of AP50, share of trained parameters, memory.

    alone: the runs had the machine to themselves, so their time (of the whole process) is worth a column.
    """
    heads = ["method", "lr", "AP, mean (min to max)", "AP50", "trained parameters", "peak memory, MiB"]
    heads += ["time, s"] if alone else []
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for method, runs in rows.items():
        if not runs:
            lines.append(f"| {method} | {rates[method]} | no run finished |" + " |" * (len(heads) - 3))
            continue
        share = "" if runs[0]["trained"] is None else f"{100 * runs[0]['trained']:.1f} %"
        peaks = [run["peak_memory_bytes"] / 2**20 for run in runs if "peak_memory_bytes" in run]
        memory = f"{statistics.median(peaks):.0f}" if peaks else ""
        ap50 = statistics.mean(run["ap50"] for run in runs)
        cells = [method, str(rates[method]), spread([run["ap"] for run in runs]), f"{ap50:.4f}", share, memory]
        cells += [f"{statistics.median(run['seconds'] for run in runs):.0f}"] if alone else []
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Tune, or train every method with every seed and print the table."""
    options = arguments()
    names = ("data", "weights", "arch", "nth", "epochs", "image_size", "batch")
    check_settings(options.out, {name: getattr(options, name) for name in names})
    few, judge = write_subsets(options.data / "train.json", options.nth, options.out)
    count = len(json.loads(few.read_text(encoding="utf-8"))["images"])
    if options.tune:
        tune(options, judge)
        return
    tuned_file = options.out / "tuned.json"
    tuned = json.loads(tuned_file.read_text(encoding="utf-8")) if tuned_file.exists() else {}
    rates = {method: tuned.get(method, 1e-3 if method in OURS else AUTO) for method in options.methods}
    jobs = [(method, rates[method], seed) for seed in options.seeds for method in options.methods]
    results = run_all(options, jobs, options.data / "val.json", options.out / "results.json")
    keys = {method: [key_of(method, rates[method], seed) for seed in options.seeds] for method in options.methods}
    rows = {method: [results.rows[key] for key in keys[method] if key in results.rows] for method in options.methods}
    alone = all(row.get("jobs") == 1 for runs in rows.values() for row in runs)
    print(f"\n{table(rows, rates, alone=alone)}\n\n{count} images, {options.epochs} epochs; {options.out}")
    if not alone:
        print("No times: some of these runs shared the machine with another one.")
    if missing := [key for job in jobs if (key := key_of(*job)) not in results.rows]:
        raise SystemExit(f"these runs failed; the same command does them again: {', '.join(missing)}")


if __name__ == "__main__":
    main()
