"""Default recipes that generalise: a resumable table of data sets, recipes and seeds, with upstream's trainer in it.

    python tools/bench.py recipes run --data ../shared/data --weights ../shared/weights/yolov8n-coco-from-int8.pt \\
        --recipes base lr3e-4 upstream --seeds 0 --jobs 2 --out runs/recipes
    python tools/bench.py recipes table --out runs/recipes …       # what is done so far
    python tools/bench.py recipes choose --recipes base lr3e-4 --seeds 0 1 2 --out runs/recipes …
    python tools/bench.py recipes probe --out runs/recipes …       # does a short run tell which rate is better?

`run` trains each recipe on each cell (see recipe_suite.py) in a process of its own and scores it on held-out training
images; a run that OUT/results.json has is not done again, one that failed is. `choose` takes the recipe that is best
on all sources but one, scores it on val of that one and prints it next to upstream and the unchanged config; val is
scored for nothing else. Both sides are scored by pycocotools and predict with their last weights. Use --budget quick to
rehearse. Runs of one OUT share the budget, the weights and the architecture.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.parity.compare import BENCH, CONFIGS, spread
from benchmarks.parity.tasks import pycocotools_ap
from benchmarks.recipe_choice import CRITERIA, follow_rule, leave_one_out
from benchmarks.recipe_suite import BUDGETS, SIZES, SUITE, Cell, make_cell, split_predictions
from benchmarks.runs import Results, Run, check_settings, run_all

EMA: dict[str, Any] = {"ema": {"decay": 0.99, "warmup": 100}}
UPSTREAM = "upstream"


@dataclass(frozen=True, slots=True)
class Recipe:
    """Changes to the plugin's config.

    settings: overrides such as "train.lr=3e-4".
    hooks:    the hooks in place of the config's.
    share:    fraction of the epochs that are trained, with a schedule of that length; below 1 it is a probe.
    """

    settings: tuple[str, ...] = ()
    hooks: tuple[dict[str, Any], ...] = (EMA,)
    share: float = 1.0


RATES = ("1e-3", "3e-4", "1e-4")
SHARES = (0.1, 0.2, 0.3)
RECIPES: dict[str, Recipe] = {
    "base": Recipe(("train.lr=1e-3",)),
    "lr3e-4": Recipe(("train.lr=3e-4",)),
    "lr1e-4": Recipe(("train.lr=1e-4",)),
    "pretrained/3": Recipe(
        ("train.lr=1e-3",),
        hooks=(EMA, {"lr_groups": {"roles": {role: {"lr": 3e-4} for role in ("stem", "backbone", "neck")}}}),
    ),
    "layerwise0.8": Recipe(("train.lr=1e-3",), hooks=(EMA, {"layerwise_lr": {"decay": 0.8}})),
    "mosaic_off0.2": Recipe(("train.lr=1e-3", "data.augment.mosaic_off=0.2")),
    "accumulate4": Recipe(("train.accumulate=4", "train.lr=2e-3")),
    "auto": Recipe(("train.lr=auto",)),
    **{f"probe{share} {rate}": Recipe((f"train.lr={rate}",), share=share) for share in SHARES for rate in RATES},
}
"""Name -> changes; "probe0.1 3e-4" is a tenth of the run at that rate."""
FULL_RUNS = {"1e-3": "base", "3e-4": "lr3e-4", "1e-4": "lr1e-4"}
"""Rate -> the recipe that trains the whole run at that rate."""


Rule = Callable[[Results, Cell, int], str]
"""Names the recipe of a cell and seed by what is known before the run: the number of images, or short runs."""


def by_probe(share: float) -> Rule:
    """Return the rule that takes the rate whose short run has the best AP on held-out images."""

    def rule(results: Results, cell: Cell, seed: int) -> str:
        aps = aps_of(results, cell, seed, {rate: f"probe{share} {rate}" for rate in RATES[:2]})
        if aps is None:
            raise ValueError(f"{cell.name}: no probes of {share} with seed {seed}; run them first")
        return FULL_RUNS[max(aps, key=aps.__getitem__)]

    return rule


RULES: dict[str, Rule] = {
    **{f"by probe{share}": by_probe(share) for share in SHARES},
    "3e-4 below 60 images": lambda results, cell, seed: "lr3e-4" if cell.count < 60 else "base",
}
"""Candidates of `choose` that cost no runs of their own."""


def arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=["run", "table", "choose", "probe"])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder of the data sets")
    parser.add_argument("--weights", default="../shared/weights/yolov8n-coco-from-int8.pt")
    parser.add_argument("--arch", default="yolov8n")
    parser.add_argument("--budget", choices=list(BUDGETS), default="medium")
    parser.add_argument("--sets", nargs="+", default=[data.name for data in SUITE])
    parser.add_argument("--sizes", type=int, nargs="+", default=list(SIZES), help="training images; 0: all")
    parser.add_argument("--recipes", nargs="+", default=["base", "lr3e-4", UPSTREAM], choices=[*RECIPES, UPSTREAM])
    parser.add_argument("--rules", nargs="+", default=[], choices=RULES, help="more candidates of `choose`")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--rates", nargs="+", default=list(RATES[:2]), choices=RATES, help="of `probe`")
    parser.add_argument("--criterion", choices=CRITERIA, default="relative")
    parser.add_argument("--jobs", type=int, default=2, help="processes at once, one thread each")
    parser.add_argument("--out", type=Path, default=Path("runs/recipes"))
    return parser.parse_args()


def cells_of(options: argparse.Namespace) -> list[Cell]:
    """Write and return the cells of --sets and --sizes that have enough images."""
    chosen = [data for data in SUITE if data.name in options.sets]
    made = [make_cell(data, size, options.data, options.out / "cells") for data in chosen for size in options.sizes]
    return [cell for cell in made if cell is not None]


def key_of(cell: str, recipe: str, seed: int) -> str:
    """Return the name of a run in the results file."""
    return f"{cell} | {recipe} | {seed}"


def run_of(options: argparse.Namespace, cell: Cell, recipe: str, seed: int) -> Run:
    """Return the run that trains one recipe on one cell and leaves predictions for both.json."""
    folder = options.out / "runs" / f"{cell.name}-{recipe.replace('/', '_').replace(' ', '_')}-{seed}"
    return Run(key_of(cell.name, recipe, seed), tuple(command_for(options, cell, recipe, seed, folder)), folder)


def command_for(options: argparse.Namespace, cell: Cell, recipe: str, seed: int, folder: Path) -> list[str]:
    """Return the command of one run."""
    budget = BUDGETS[options.budget]
    epochs = budget.epochs(cell.count)
    fit, both = cell.folder / "fit.json", cell.folder / "both.json"
    if recipe == UPSTREAM:
        return [
            *(sys.executable, str(BENCH), "parity", "--side", "upstream", "--plugin", "yolo", "--last"),
            *("--train-json", str(fit), "--train-images", str(cell.images)),
            *("--val-json", str(both), "--val-images", str(cell.images)),
            *("--weights", options.weights, "--arch", options.arch, "--epochs", str(epochs)),
            *("--image-size", str(budget.image_size), "--batch", str(budget.batch)),
            *("--seed", str(seed), "--out", str(folder)),
        ]
    changes = RECIPES[recipe]
    epochs = max(1, round(changes.share * epochs))
    hooks = json.dumps([*changes.hooks, {"log": {"progress": "none", "tensorboard": "off"}}])
    return [
        *(sys.executable, "-m", "tlvision.cli.main", "train", CONFIGS["yolo"], "--set"),
        *(f"model.arch={options.arch}", f"model.weights={options.weights}", f"hooks={hooks}"),
        *(f"data.train.json={fit}", f"data.train.images={cell.images}"),
        *(f"data.val.json={both}", f"data.val.images={cell.images}"),
        *(f"data.image_size={budget.image_size}", f"data.batch.labelled={budget.batch}"),
        *(f"train.epochs={epochs}", f"evaluate.every={epochs}", f"train.seed={seed}"),
        *(*changes.settings, f"run.out={folder}"),
    ]


def score_held(cell: Cell, folder: Path) -> dict[str, Any]:
    """Score the predictions on the held-out images, keep those for val aside, and remove the weights."""
    held, val = split_predictions(json.loads((folder / "predictions.json").read_text(encoding="utf-8")))
    for name, rows in (("held", held), ("val", val)):
        (folder / f"predictions.{name}.json").write_text(json.dumps(rows), encoding="utf-8")
    for name in ("checkpoints", "data", "train", "pictures"):  # a gigabyte for every twenty runs
        shutil.rmtree(folder / name, ignore_errors=True)
    ap, ap50 = pycocotools_ap(cell.folder / "held.json", folder / "predictions.held.json")
    return {"ap": ap, "ap50": ap50}


def score_val(results: Results, options: argparse.Namespace, cell: Cell, recipe: str, seed: int) -> float | None:
    """Return the AP of a run on val, scored once and then kept in the results; None if it is not done."""
    run = run_of(options, cell, recipe, seed)
    if not results.has(run.key):
        return None
    row = results.rows[run.key]
    if "val_ap" not in row:
        row["val_ap"], row["val_ap50"] = pycocotools_ap(cell.val, run.folder / "predictions.val.json")
        results.add(run.key, row)
    return float(row["val_ap"])


def held_scores(
    results: Results, recipes: Sequence[str], cells: Sequence[Cell], seeds: Sequence[int]
) -> dict[str, Any]:
    """Return recipe -> cell -> AP of each seed on held-out images; a failed run has AP 0, a missing one no entry."""
    found: dict[str, dict[str, list[float]]] = {}
    for recipe in recipes:
        rows = {cell.name: [results.rows.get(key_of(cell.name, recipe, seed)) for seed in seeds] for cell in cells}
        found[recipe] = {name: [row.get("ap", 0.0) for row in seen if row] for name, seen in rows.items() if all(seen)}
    return found


def table(results: Results, options: argparse.Namespace, cells: Sequence[Cell]) -> str:
    """Return the markdown table of finished runs: AP on held-out images, mean (min to max) over the seeds."""
    known = {tuple(key.split(" | ")) for key in results.rows}
    recipes = [name for name in [*RECIPES, UPSTREAM] if any(name == recipe for _, recipe, _ in known)]
    lines = [f"| cell | {' | '.join(recipes)} |", "|---" * (len(recipes) + 1) + "|"]
    for cell in cells:
        keys = [[key_of(cell.name, recipe, seed) for seed in options.seeds] for recipe in recipes]
        aps = [[results.rows[key]["ap"] for key in row if results.has(key)] for row in keys]
        lines.append(f"| {cell.name} | {' | '.join(spread(row) if row else '' for row in aps)} |")
    return "\n".join(lines)


def choose(results: Results, options: argparse.Namespace, cells: Sequence[Cell]) -> str:
    """Return the markdown table: for each source left out, the recipe chosen on the others, and its AP on val."""
    candidates = [recipe for recipe in options.recipes if recipe != UPSTREAM]
    wanted = [*candidates, *(name for name in FULL_RUNS.values() if options.rules and name not in candidates)]
    scores = held_scores(results, wanted, cells, options.seeds)
    names = {cell.name: cell for cell in cells}
    rules = {name: resolver(RULES[name], results, names) for name in options.rules}
    ruled = {name: follow_rule(rule, scores, list(names), options.seeds) for name, rule in rules.items()}
    scores = {recipe: scores[recipe] for recipe in candidates} | ruled
    choices = leave_one_out(scores, {cell.name: cell.data.source for cell in cells}, options.criterion)
    lines = ["| cell left out | chosen on the others | AP on val | config unchanged | upstream |", "|---" * 5 + "|"]
    for choice in choices:
        for cell in (cell for cell in cells if cell.data.source == choice.left_out):
            sides = []
            for recipe in (choice.recipe, "base", UPSTREAM):
                rule = rules.get(recipe, lambda cell, seed, name=recipe: name)
                aps = [score_val(results, options, cell, rule(cell.name, seed), seed) for seed in options.seeds]
                sides.append(spread(done) if (done := [ap for ap in aps if ap is not None]) else "not run")
            lines.append(f"| {cell.name} | {choice.recipe} | {' | '.join(sides)} |")
    means = "\n".join(
        f"without {choice.left_out}: " + ", ".join(f"{name} {mean:.3f}" for name, mean in choice.means.items())
        for choice in choices
    )
    return "\n".join(lines) + f"\n\nMean {options.criterion} score on held-out images:\n{means}"


def resolver(rule: Rule, results: Results, cells: dict[str, Cell]) -> Callable[[str, int], str]:
    """Return the rule as a function of the cell's name and the seed."""
    return lambda cell, seed: rule(results, cells[cell], seed)


def probe(results: Results, options: argparse.Namespace, cells: Sequence[Cell]) -> str:
    """Return the markdown table: the rate that a probe of each length takes, and the AP that this costs."""
    rows = {rate: FULL_RUNS[rate] for rate in options.rates}
    lines = ["| cell | seed | " + " | ".join(f"{rate}, whole run" for rate in rows) + " | best |", ""]
    lines[0] += "".join(f" probe {share}: AP, rate |" for share in SHARES)
    lines[1] = "|---" * (3 + len(rows) + len(SHARES)) + "|"
    lost: dict[float, list[float]] = {share: [] for share in SHARES}
    for cell in cells:
        for seed in options.seeds:
            whole = aps_of(results, cell, seed, rows)
            if whole is None:
                continue
            cells_ = [cell.name, str(seed), *(f"{ap:.4f}" for ap in whole.values()), max(whole, key=whole.__getitem__)]
            for share in SHARES:
                short = aps_of(results, cell, seed, {rate: f"probe{share} {rate}" for rate in rows})
                if short is None:
                    cells_.append("")
                    continue
                rate = max(short, key=short.__getitem__)
                lost[share].append(whole[rate] / max(whole.values()))
                cells_.append(f"{', '.join(f'{ap:.4f}' for ap in short.values())}: {rate}")
            lines.append(f"| {' | '.join(cells_)} |")
    kept = [f"probe {share}: {statistics.mean(values):.3f}" for share, values in lost.items() if values]
    return "\n".join(lines) + f"\n\nMean share of the best rate's AP: {', '.join(kept)}"


def aps_of(results: Results, cell: Cell, seed: int, recipes: dict[str, str]) -> dict[str, float] | None:
    """Return rate -> AP on held-out images of the recipe for that rate, or None if one is not done."""
    keys = {rate: key_of(cell.name, recipe, seed) for rate, recipe in recipes.items()}
    if not all(results.has(key) for key in keys.values()):
        return None
    return {rate: float(results.rows[key]["ap"]) for rate, key in keys.items()}


def main() -> None:
    """Train the missing runs, or print a table of the finished ones."""
    options = arguments()
    names = ("weights", "arch", "budget")
    check_settings(options.out, {name: getattr(options, name) for name in names})
    cells = cells_of(options)
    results = Results(options.out / "results.json")
    if options.action != "run":
        print({"table": table, "choose": choose, "probe": probe}[options.action](results, options, cells))
        return
    work = [(cell, recipe, seed) for seed in options.seeds for recipe in options.recipes for cell in cells]
    made = {run_of(options, *item).key: item[0] for item in work}
    runs = [run_of(options, *item) for item in work]
    run_all(runs, results, options.jobs, lambda run: score_held(made[run.key], run.folder), record_failures=True)
    failed = [run.key for run in runs if not results.has(run.key)]
    if failed:
        raise SystemExit(f"these runs failed; the same command does them again: {', '.join(failed)}")


if __name__ == "__main__":
    main()
