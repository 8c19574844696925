"""Choose the peak learning rate by short runs on a part of the training images (`train.lr: auto`).

For each candidate rate the run is started from the same weights with the same seed, shortened to a tenth of its epochs
(with warm-up and decay of that length), on three quarters of the training images, and judged on the other quarter. Only
rates whose loss there is nearly the lowest count: after a tenth of the run, weights that hardly moved have a high score
where they know the classes from their pretraining, and a high loss where the images are new. Of those rates the one
with the best score is taken, of nearly equal scores the lower rate, and the lowest loss where hardly anything is found.
Rates are tried from the highest down, for as long as the last one would be taken. The val images take no part.
Afterwards everything is built anew, so the run is bit-identical to one with the chosen rate given as a number.

Source: successive halving (Jamieson & Talwalkar, "Non-stochastic Best Arm Identification and Hyperparameter
Optimization", AISTATS 2016) with a single rung.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tlvision.engine.build import Run, build_run, training_images
from tlvision.files.json_files import read_object, write_json
from tlvision.types import InputError, RunError, counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lightning_fabric import Fabric

    from tlvision.config.schema import Config
    from tlvision.hooks import Duration
    from tlvision.training.session import Session
    from tlvision.types import Sample

RATES = {"adamw": (1e-3, 3e-4, 1e-4, 3e-5), "sgd": (1e-2, 3e-3, 1e-3, 3e-4)}
"""Candidates of each optimizer, the highest first."""
NEAR = 0.05
"""Scores that differ by less than this part are equal: a lower rate then forgets less (coco128 with 25 images: AP 0.230
and 0.282 after the whole run, where the probes had 0.478 and 0.476)."""
LEAST_FOUND = 0.02
"""A score below it is noise, and the loss decides (KITTI with 25 images: the probes had AP 0.001 and 0.002, the whole
runs 0.150 and 0.095, as their losses said)."""
NEAR_LOSS = 0.1
"""A loss above the lowest by more than this part rules a rate out (KITTI and CARLA with 25 images, seed 1:
the probes of 3e-5 had the best scores and nearly twice the lowest loss; the whole runs had AP 0.039 and 0.085)."""
SHARE = 0.1
"""Epochs of a probe, as a fraction of the run's."""
MIN_STEPS = 12
"""Fewest optimizer steps of a probe. Probes of 6 steps ordered two rates wrongly on one of three data sets, those of 12
on none (docs/benchmarks.md, "Default recipes")."""
HELD_EVERY = 4
"""One of so many training images is held out."""
NOT_IN_A_PROBE = frozenset({"checkpoint", "early_stop", "log", "mlflow", "wandb"})
"""Hooks that write files, send records or end a run."""
FILE = "rate.json"
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """Result of one short run.

    rate:   peak learning rate.
    metric: of `evaluate.select` on the held-out images.
    higher_is_better: its direction.
    loss:   mean training loss on the held-out images without augmentation.
    failed: why there are no numbers; "" if the run went through.
    """

    rate: float
    metric: float = float("-inf")
    higher_is_better: bool = True
    loss: float = float("inf")
    failed: str = ""


def choose_rate(parts: Run, run: Path, fabric: Fabric, say: Say = lambda text: None) -> tuple[Config, str]:
    """Return the config with the learning rate that the probes chose, and a sentence with the reason.

    parts: of the run; they are left as they are.
    run:   its folder; gets rate.json with all scores, the same in every process.
    say:   gets a sentence before each short run.

    A run of less than two probes' length takes the highest rate: it was the better one in every short run measured.

    Raises InputError if the training images cannot be divided, or if the config has unlabelled images (a probe on
    labels of the source would choose a rate for the target); RunError if every rate failed.
    """
    config = parts.config
    if config.data.two_domains:
        raise InputError(
            "train.lr: 'auto' chooses by labelled images of one domain. Set a number for runs with data.target or "
            "data.source_val."
        )
    epochs, rates = probe_epochs(parts.plan.duration), RATES[config.train.optimizer]
    if 2 * epochs > config.train.epochs:
        rate, probes = rates[0], []
        steps = counted(parts.plan.duration.total_steps, "step")
        why = f"train.lr: {rate:g}, the highest candidate, because the run is too short to compare rates ({steps})"
    else:
        probes = run_probes(config, rates, epochs, run / "rate_probe", fabric, say)
        rate = best_of(probes).rate
        why = explain(rate, probes, epochs)
    if fabric.is_global_zero:
        rows = [asdict(row) for row in probes]
        write_json(run / FILE, {"lr": rate, "why": why, "probes": rows}, indent=1, nan="null")
    return with_rate(config, rate, config.train.epochs), why


def run_probes(  # noqa: PLR0917
    config: Config,
    rates: Sequence[float],
    epochs: int,
    folder: Path,
    fabric: Fabric,
    say: Say = lambda text: None,
) -> list[Probe]:
    """Return the probes of the rates that were tried, the same in every process; `folder` is removed afterwards."""
    probes: list[Probe] = []
    try:
        for rate in rates:
            say(f"train.lr: trying {rate:g} for {counted(epochs, 'epoch')}")
            found = probe(config, rate, epochs, folder, fabric)
            probes.append(fabric.broadcast(found, src=0))  # rank 0 decides: sums differ in their last bits
            if not lower_may_be_better(probes):
                break
    finally:
        if fabric.is_global_zero:
            shutil.rmtree(folder, ignore_errors=True)
    return probes


def lower_may_be_better(probes: Sequence[Probe]) -> bool:
    """Return whether to probe the next lower rate: always after a single probe, later only if the last one gained.

    >>> first, second = Probe(rate=1e-3, metric=0.4, loss=3.0), Probe(rate=3e-4, metric=0.3, loss=3.0)
    >>> lower_may_be_better([first]), lower_may_be_better([first, second]), lower_may_be_better([second, first])
    (True, False, True)
    """
    last = probes[-1]
    return len(probes) == 1 or bool(last.failed) or best_of(probes) is last


def probe_epochs(duration: Duration) -> int:
    """Return the length of a probe in epochs: a tenth of the run, but at least `MIN_STEPS` steps.

    >>> from tlvision.hooks import Duration
    >>> probe_epochs(Duration(epochs=40, steps_per_epoch=7)), probe_epochs(Duration(epochs=10, steps_per_epoch=6))
    (4, 2)
    """
    return max(round(SHARE * duration.epochs), math.ceil(MIN_STEPS / duration.steps_per_epoch))


def best_of(probes: Sequence[Probe]) -> Probe:
    """Return the probe with the best metric of those with nearly the lowest loss, of nearly equal ones the lowest rate.

    See `NEAR_LOSS`, `NEAR` and `LEAST_FOUND`.

    >>> best_of([Probe(rate=1e-3, metric=0.2, loss=3.0), Probe(rate=3e-4, metric=0.4, loss=3.2)]).rate
    0.0003
    >>> best_of([Probe(rate=1e-3, metric=0.2, loss=3.0), Probe(rate=3e-4, metric=0.4, loss=4.0)]).rate
    0.001
    >>> best_of([Probe(rate=1e-3, metric=0.001, loss=3.0), Probe(rate=3e-4, metric=0.002, loss=3.2)]).rate
    0.001

    Raises RunError if all failed.
    """
    usable = [probe for probe in probes if not probe.failed]
    if not usable:
        raise RunError(f"train.lr: no candidate rate can be used: {probes[0].failed}. Set a number.")
    lowest = min(probe.loss for probe in usable)
    usable = [probe for probe in usable if probe.loss - lowest <= NEAR_LOSS * abs(lowest)]
    values = [probe.metric if probe.higher_is_better else -probe.metric for probe in usable]
    best = max(values)
    if usable[0].higher_is_better and best < LEAST_FOUND:
        return min(usable, key=lambda probe: probe.loss)
    near = [probe for probe, value in zip(usable, values, strict=True) if best - value <= NEAR * abs(best)]
    return min(near, key=lambda probe: probe.rate)


def explain(rate: float, probes: Sequence[Probe], epochs: int) -> str:
    """Return one sentence: the rate, and the score of each candidate."""
    scores = ", ".join(f"{p.rate:g}: {p.failed or f'{p.metric:.4f} (loss {p.loss:.3f})'}" for p in probes)
    return f"train.lr: {rate:g}, chosen on held-out training images after {counted(epochs, 'epoch')} ({scores})"


def with_rate(config: Config, rate: float, epochs: int) -> Config:
    """Return the config with this peak rate and length."""
    return config.model_copy(update={"train": config.train.model_copy(update={"lr": rate, "epochs": epochs})})


def probe(config: Config, rate: float, epochs: int, folder: Path, fabric: Fabric) -> Probe:
    """Train briefly at one rate and score the weights on the held-out images."""
    from tlvision.engine.session import build_session
    from tlvision.training.loop import fit

    with fabric.rank_zero_first():
        parts = build_run(with_rate(config, rate, epochs))
    if fabric.is_global_zero:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
    fabric.barrier()
    parts, held = hold_out(parts, folder, fabric)
    session = build_session(parts, folder, fabric)
    session.hooks = [hook for hook in session.hooks if hook.key() not in NOT_IN_A_PROBE]
    session.evaluate_every = epochs
    try:
        fit(session)
    except RunError as error:
        if fabric.world_size > 1:
            raise  # the other processes still train
        return Probe(rate=rate, failed=str(error).partition(";")[0])
    context = session.context
    value, loss = context.metrics[context.select], held_loss(session, held)
    return Probe(rate=rate, metric=value, higher_is_better=context.higher_is_better, loss=loss)


def hold_out(parts: Run, folder: Path, fabric: Fabric) -> tuple[Run, Run]:
    """Return the parts with a quarter of the training images as val, and the parts that train on that quarter."""
    samples = parts.train.samples
    groups: dict[Path, list[Sample]] = {}
    for sample in samples:  # tiles of an image share pixels
        groups.setdefault(sample.origin or sample.path, []).append(sample)
    units = list(groups.values())
    order = np.random.default_rng(parts.config.train.seed).permutation(len(units))
    shuffled = sorted((units[i] for i in order), key=lambda unit: not any(len(each.target.boxes) for each in unit))
    held = [sample for unit in shuffled[::HELD_EVERY] for sample in unit]
    fit = [sample for i, unit in enumerate(shuffled) if i % HELD_EVERY for sample in unit]
    if not fit:
        raise InputError(f"train.lr: 'auto' needs two training images or more, there are {len(samples)}. Set a number.")
    judged = parts.task.subset(parts.train, held, folder / "held.json", write=fabric.is_global_zero)
    fabric.barrier()
    trained = parts.task.subset(parts.train, fit)
    return replace(parts, train=trained, val=judged), replace(parts, train=judged)


def held_loss(session: Session, held: Run) -> float:
    """Return the mean loss of the trained weights on the held-out images, without augmentation, in train mode."""
    import torch

    from tlvision.data.batches import normalise, train_batches
    from tlvision.data.settings import AugmentSettings

    plain = AugmentSettings(mosaic=0, scale=0, translate=0, flip=0, hue=0, saturation=0, value=0)
    data = held.config.data.model_copy(update={"augment": plain})
    images = training_images(replace(held, config=held.config.model_copy(update={"data": data})), None)
    steps = max(1, len(held.train.samples) // session.batch_size)
    adapter, losses = session.context.adapter, []
    session.modes().apply()
    with torch.no_grad(), session.fabric.autocast():
        for batch in train_batches(images, batch_size=session.batch_size, first_step=0, last_step=steps):
            moved = batch.to(session.fabric.device)
            parts = adapter.loss(normalise(moved.images, adapter.input_spec), moved.targets)
            losses.append(sum(float(value) for value in parts.values()))
    return float(np.mean(losses))


def record_of(run: Path, config: Config) -> dict[str, Any]:
    """Return rate.json of a run, {} if the rate of the config was given as a number."""
    path = run / FILE
    found = read_object(path, "Remove the file.") if path.is_file() else {}
    return found if found.get("lr") == config.train.lr else {}
