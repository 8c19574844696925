"""Measure a step of domain adaptation next to a supervised step on the same labelled images.

    python tools/bench.py step yolo+mean_teacher yolo+domain_adversarial --with data.yaml …

Beside each config stand two supervised steps: "source only" with the same labelled images, and "as many images" with as
many labelled ones as the method has in all. Steps are taken late in the run, when burn-in and ramps are over, on real
images and weights; all variants take turns, so that noise of the machine hits them alike. Loading is timed apart.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tlvision.cli.composition import add_composition

LATE = 0.9


@dataclass(slots=True)
class Variant:
    """One kind of step: a session late in its run, and the seconds of its steps."""

    name: str
    session: Any
    batches: Any
    loading: list[float] = field(default_factory=list)
    steps: list[float] = field(default_factory=list)


def arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("configs", nargs="+", help="methods of one family")
    add_composition(parser)
    parser.add_argument("--repeats", type=int, default=7, help="steps of each kind that are counted")
    return parser.parse_args()


def make_variant(name: str, config: Any, folder: Path) -> Variant:
    """Build a run of `config` and bring it to 90 % of its steps without taking them."""
    from tlvision.engine.build import build_run
    from tlvision.engine.session import build_session
    from tlvision.hooks.registry import ALWAYS
    from tlvision.training.fabric import make_fabric

    train = config.train.model_copy(update={"verify": "off"})
    parts = build_run(config.model_copy(update={"train": train}))
    parts.hooks[:] = [hook for hook in parts.hooks if hook.key() not in ALWAYS]  # those write files
    run = folder / name.replace(" ", "_")
    run.mkdir()
    session = build_session(parts, run, make_fabric(train))
    session.call("before_fit")
    total = session.context.duration.total_steps
    session.context.step = round(LATE * total)
    return Variant(name, session, session.batches(session.context.step, 100 * total))


def take_step(variant: Variant, *, counted: bool) -> None:
    """Load a batch and take a step on it."""
    from tlvision.training.loop import train_step

    step = variant.session.context.step
    before = time.perf_counter()
    batches = [next(variant.batches) for _ in range(variant.session.settings.accumulate)]
    loaded = time.perf_counter()
    train_step(variant.session, batches)
    variant.session.call("after_step")
    _wait(variant.session.fabric.device)
    done = time.perf_counter()
    variant.session.context.step = step  # learning rates and ramps stay where they are
    if counted:
        variant.loading.append(loaded - before)
        variant.steps.append(done - loaded)


def _wait(device: Any) -> None:
    if device.type == "cuda":
        import torch

        torch.cuda.synchronize(device)


def main() -> None:
    """Measure and print a table of medians and their ratios to both supervised steps."""
    from tlvision.config.load import load_config
    from tlvision.experiment.baselines import arm_names, source_only

    options = arguments()
    names = arm_names(options.configs)
    loaded = {n: load_config(c, options.set, options.extra) for n, c in zip(names, options.configs, strict=True)}
    first = next(iter(loaded.values()))
    plain = source_only([first])
    most = max(config.data.batch.labelled + config.data.batch.unlabelled for config in loaded.values())
    batch = plain.data.batch.model_copy(update={"labelled": most})
    larger = plain.model_copy(update={"data": plain.data.model_copy(update={"batch": batch})})
    configs = {"source only": plain, "as many images": larger, **loaded}
    with tempfile.TemporaryDirectory() as folder:
        variants = [make_variant(name, config, Path(folder)) for name, config in configs.items()]
        for turn in range(options.repeats + 2):
            for variant in variants:
                take_step(variant, counted=turn >= 2)
    print_table(variants)


def print_table(variants: list[Variant]) -> None:
    """Print the medians, and what each step costs in steps of the two supervised ones."""
    plain, larger = (statistics.median(variant.steps) for variant in variants[:2])
    print("| step | median, ms | of source only | of as many images | loading, ms |\n|---|---|---|---|---|")
    for variant in variants:
        taken, loading = statistics.median(variant.steps), statistics.median(variant.loading)
        ratios = f"{taken / plain:.2f} | {taken / larger:.2f}"
        print(f"| {variant.name} | {1000 * taken:.0f} | {ratios} | {1000 * loading:.0f} |")


if __name__ == "__main__":
    main()
