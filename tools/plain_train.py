"""The training of `tlvision train` as a plain script, to read, copy and change: no session, no moments, no run folder.

    python tools/plain_train.py CONFIG WEIGHTS.safetensors [key=value …]

One process, no resume; of the hooks, only those that decide what is trained (freeze, layerwise_lr …) take part. The
weights come out the same to the bit as from the loop without `ema` (a test holds this).
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from tlvision.config.load import load_config
from tlvision.data.batches import normalise, train_batches
from tlvision.data.settings import InputSettings
from tlvision.data.train_images import TrainImages
from tlvision.engine.build import build_run, seed_everything
from tlvision.engine.datasets import label_options
from tlvision.plugin import HasTrainingProgress
from tlvision.training.checkpoint import save_weights
from tlvision.training.fabric import make_fabric, place
from tlvision.training.modes import set_modes
from tlvision.training.optim import build_optimizer, schedule_factor, set_learning_rates


def main(config_path: str, out: str, overrides: list[str]) -> None:
    """Train with a config and write the final weights to `out`."""
    config = load_config(config_path, overrides)
    fabric = make_fabric(config.train)
    parts = build_run(config)
    adapter, plan, settings = parts.adapter, parts.plan, config.train
    seed_everything(settings.seed)
    place(fabric, adapter.module)
    optimizer = build_optimizer(adapter.module, plan, settings, {})
    images = TrainImages(
        parts.train.samples,
        adapter.input_spec,
        InputSettings(config.data.image_size, config.data.augment, seed=settings.seed),
        num_classes=len(parts.classes),
        parts=parts.task.targets(parts.train, label_options(config.data)),
    )
    total, per_epoch = plan.duration.total_steps, plan.duration.steps_per_epoch
    mosaic_until = round((1 - config.data.augment.mosaic_off) * total)
    batches = train_batches(
        images,
        batch_size=config.data.batch.labelled,
        first_step=0,
        last_step=total,
        accumulate=settings.accumulate,
        mosaic=lambda step: step < mosaic_until,
    )
    for step in range(total):
        if step % per_epoch == 0 and isinstance(adapter, HasTrainingProgress):
            adapter.set_progress((step // per_epoch) / max(plan.duration.epochs - 1, 1))
        set_modes(adapter.module, plan, step)
        set_learning_rates(optimizer, schedule_factor(step, plan, settings), step)
        optimizer.zero_grad()
        for _ in range(settings.accumulate):
            batch = next(batches).to(fabric.device)
            with fabric.autocast():
                losses = adapter.loss(normalise(batch.images, adapter.input_spec), batch.targets)
            total_loss = torch.stack([loss.float() for loss in losses.values()]).sum()
            (total_loss / settings.accumulate).backward()
        trained = [p for group in optimizer.param_groups for p in group["params"] if p.requires_grad]
        torch.nn.utils.clip_grad_norm_(trained, settings.clip)
        optimizer.step()
        if (step + 1) % per_epoch == 0:
            shown = f"loss {float(total_loss.detach()):.3f}"
            print(f"epoch {(step + 1) // per_epoch}/{plan.duration.epochs}  {shown}", flush=True)
    save_weights(Path(out), adapter.module.state_dict(), parts.classes)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3:])
