"""Stop at a loss that is not finite: name it and save the batch that caused it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

from tlvision.training.checkpoint import save_tensors
from tlvision.types import RunError, listing

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tlvision.data.batches import Batch
    from tlvision.training.session import Session


def fail_on_bad_loss(session: Session, batch: Batch, losses: Mapping[str, float]) -> NoReturn:
    """Save `batch` as `offending_batch.safetensors` (and .json) in the run's folder, then raise RunError."""
    context = session.context
    suffix = "" if context.is_main else f"_rank{session.fabric.global_rank}"
    path = context.run_dir / f"offending_batch{suffix}.safetensors"
    save_tensors(
        path,
        {
            "images": batch.images,
            "boxes": batch.boxes,
            "labels": batch.labels,
            "matrices": batch.matrices,
            "image_ids": list(batch.image_ids),
            "counts": list(batch.counts),
            **({} if batch.masks is None else {"masks": batch.masks}),
            **({} if batch.semantic is None else {"semantic": batch.semantic}),
            **({} if batch.unlabelled is None else {"weak": batch.unlabelled.weak, "strong": batch.unlabelled.strong}),
            **({} if batch.unlabelled is None else {"unlabelled_image_ids": list(batch.unlabelled.image_ids)}),
            "step": context.step,
            "losses": {name: repr(value) for name, value in losses.items()},
        },
    )
    shown = ", ".join(f"{name} {value:.4g}" for name, value in losses.items())
    raise RunError(
        f"step {context.step}: the loss is not finite ({shown}) on the images {listing(batch.image_ids)}; the batch is "
        f"saved as {path}; try a lower train.lr, a longer train.warmup or a smaller train.clip"
    )
