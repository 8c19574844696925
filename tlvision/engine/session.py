"""Build the session of a run: model on its device, optimizer, images, evaluator."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tlvision.engine.build import Run, seed_everything, training_images, unlabelled_images
from tlvision.engine.evaluators import run_evaluator
from tlvision.hooks import Context

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from tlvision.training.session import Session


def build_session(parts: Run, run: Path, fabric: Fabric) -> Session:
    """Return the session of a run.

    run: the folder that it writes into.
    """
    from tlvision.training.fabric import place
    from tlvision.training.optim import build_optimizer
    from tlvision.training.session import Session
    from tlvision.training.workers import choose_workers

    config, duration = parts.config, parts.plan.duration
    seed_everything(config.train.seed + fabric.global_rank)
    place(fabric, parts.adapter.module)
    for module in parts.hook_modules().values():
        fabric.to_device(module)
    optimizer = build_optimizer(parts.adapter.module, parts.plan, config.train, parts.hook_modules())
    workers = choose_workers(config.data.workers, fabric)
    unlabelled = unlabelled_images(parts)
    context = Context(
        adapter=parts.adapter,
        plan=parts.plan,
        classes=parts.classes,
        weights=parts.report,
        run_dir=run,
        is_main=fabric.is_global_zero,
        duration=duration,
        select=parts.select.name,
        higher_is_better=parts.select.higher_is_better,
    )
    return Session(
        fabric=fabric,
        context=context,
        hooks=parts.hooks,
        settings=config.train,
        optimizer=optimizer,
        images=training_images(parts, unlabelled),
        unlabelled=unlabelled,
        unlabelled_size=config.data.batch.unlabelled,
        evaluator=run_evaluator(parts, unlabelled, out=run, fabric=fabric, workers=workers),
        batch_size=config.data.batch.labelled,
        workers=workers,
        mosaic_until=round((1 - config.data.augment.mosaic_off) * duration.total_steps),
        evaluate_every=config.evaluate.every,
    )
