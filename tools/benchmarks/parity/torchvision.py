"""Train a job with torchvision's reference recipe, and predict the val images with its last weights.

    python tools/bench.py parity --side upstream --plugin torchvision --data DIR --weights W.pth \\
        --arch fasterrcnn_mobilenet_v2_fpn --epochs 6 --image-size 320 --batch 4 --seed 0 --out DIR

The recipe is that of https://github.com/pytorch/vision/tree/main/references/detection, written from its description for
whatever number of epochs: SGD with momentum 0.9, a rate of 0.02 for 16 images and weight decay 1e-4; in the first epoch
a linear warm-up from a thousandth over 1000 steps or the epoch; a tenth of the rate after 16/26 of the epochs and again
after 22/26; images without objects left out, a horizontal flip, an incomplete last batch dropped; the detector's own
transform, resizing to the image size by the longer side; evaluation by pycocotools after each epoch with upstream's
thresholds. Two things are ours: the model is built with our classes and weights, so that both sides begin with the same
tensors, and no layer of the backbone is frozen, as in our own training. Upstream also puts images of like aspect ratio
into one batch, which is left out.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchvision
from benchmarks.parity.runner import Clock, Job, Outcome, device_name
from PIL import Image, ImageOps
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms.functional import pil_to_tensor

from tlvision.formats.coco.read import CocoData, read_coco
from tlvision.plugin import BuildSpec
from tlvision.types import InputError, Sample
from tlvision_torchvision.architectures import find_architecture
from tlvision_torchvision.build import build_upstream

SETTINGS = frozenset({"last", "lr", "precision"})
LR, LR_BATCH = 0.02, 16
MOMENTUM, WEIGHT_DECAY = 0.9, 1e-4
WARMUP_STEPS, WARMUP_FROM = 1000, 1 / 1000
EPOCHS, MILESTONES, GAMMA = 26, (16, 22), 0.1
FLIP = 0.5
WORKERS = 4


def train(job: Job, clock: Clock) -> Outcome:
    """Train with the recipe, evaluating after every epoch, and predict the val images with the last weights.

    lr: the rate; None takes the recipe's for this batch size.
    precision: "bf16" is mixed precision, as upstream's --amp is with fp16.
    """
    train_data = read_coco(job.files.train_labels, job.files.train_images)
    val_data = read_coco(job.files.val_labels, job.files.val_images, train_data.classes)
    random.seed(job.seed)
    torch.manual_seed(job.seed)
    architecture = find_architecture(job.arch)
    spec = BuildSpec(arch=job.arch, weights=job.weights, classes=train_data.classes, image_size=job.image_size)
    model = build_upstream(architecture, spec)
    _set_size(model, job.image_size)
    model.to(device_name())
    first = int(architecture.has_background)
    with clock.training():
        batches = _training_batches(train_data, job.batch, first, with_masks=architecture.task == "instance")
        results = _train_epochs(job, model, batches, val_data, first)
    return Outcome(
        predictions=job.out / "predictions.json",
        images=job.epochs * len(train_data.samples),
        upstream=torchvision.__version__,
        ap=results,
        skipped=(*train_data.skipped, *val_data.skipped),
    )


def _train_epochs(job: Job, model: Any, batches: DataLoader[Any], val: CocoData, first: int) -> tuple[float, ...]:
    """Train all epochs and return the AP of each evaluation, whose predictions are written to the job's folder."""
    rate = LR * job.batch / LR_BATCH if job.lr is None else job.lr
    optimizer = torch.optim.SGD(model.parameters(), lr=rate, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY)
    milestones = [round(job.epochs * epoch / EPOCHS) for epoch in MILESTONES]
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, milestones, GAMMA)
    truth = _quiet(COCO, str(job.files.val_labels))
    device, results = torch.device(device_name()), []
    predictions = job.out / "predictions.json"
    for epoch in range(job.epochs):
        _train_epoch(model, batches, optimizer, device, warm_up=epoch == 0, amp=job.precision == "bf16")
        schedule.step()
        if not job.last or epoch == job.epochs - 1:
            rows = predict(model, val, device, first)
            predictions.write_text(json.dumps(rows), encoding="utf-8")
            results.append(_average_precision(truth, predictions, empty=not rows))
    return tuple(results)


class Pictures(Dataset[tuple[Tensor, dict[str, Tensor]]]):
    """Images and targets as upstream's models take them, flipped at random if they are for training.

    first:      the label of our class 0.
    with_masks: whether targets have masks.
    """

    def __init__(
        self, samples: Sequence[Sample], *, first: int = 0, flip: bool = False, with_masks: bool = False
    ) -> None:
        self.samples, self.first, self.flip, self.with_masks = samples, first, flip, with_masks

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[Tensor, dict[str, Tensor]]:
        """Return (3, H, W) float32 in 0..1 RGB, and boxes and labels (and masks, uint8) of all objects but crowds."""
        sample = self.samples[index]
        with Image.open(sample.path) as file:
            image = pil_to_tensor((ImageOps.exif_transpose(file) if sample.exif else file).convert("RGB")).float() / 255
        kept = ~sample.target.crowd
        boxes, labels = torch.from_numpy(sample.target.boxes[kept]), torch.from_numpy(sample.target.labels[kept])
        target = {"boxes": boxes, "labels": labels + self.first}
        if self.with_masks:
            drawn = [_draw(sample, int(row)) for row in np.flatnonzero(kept)]
            none = np.zeros((0, *image.shape[1:]), np.uint8)
            target["masks"] = torch.from_numpy(np.stack(drawn) if drawn else none)
        if self.flip and torch.rand(1).item() < FLIP:
            width = image.shape[2]
            image = image.flip(2)
            target["boxes"] = torch.stack([width - boxes[:, 2], boxes[:, 1], width - boxes[:, 0], boxes[:, 3]], 1)
            if self.with_masks:
                target["masks"] = target["masks"].flip(2)
        return image, target


def _draw(sample: Sample, row: int) -> Any:
    """Return the mask of one object, (H, W) uint8."""
    segment = sample.segments[row]
    if segment is None:
        raise InputError(f"parity: object {row} of image {sample.image_id} has no segmentation, which masks need")
    if isinstance(segment, dict):
        return coco_mask.decode(segment)
    parts = coco_mask.frPyObjects([part.ravel().tolist() for part in segment], sample.height, sample.width)
    return coco_mask.decode(coco_mask.merge(parts))


def _training_batches(train: CocoData, batch: int, first: int, *, with_masks: bool) -> DataLoader[Any]:
    """Return upstream's loader; InputError if there are fewer images with objects than one batch has."""
    samples = [sample for sample in train.samples if not sample.target.crowd.all()]
    if len(samples) < batch:
        raise InputError(f"parity: {len(samples)} training images have objects, fewer than one batch of {batch}")
    pictures = Pictures(samples, first=first, flip=True, with_masks=with_masks)
    workers = min(WORKERS, os.cpu_count() or 1)
    return DataLoader(pictures, batch, shuffle=True, drop_last=True, num_workers=workers, collate_fn=_as_lists)


def _as_lists(pairs: list[tuple[Tensor, dict[str, Tensor]]]) -> tuple[list[Tensor], list[dict[str, Tensor]]]:
    return [image for image, _ in pairs], [target for _, target in pairs]


def _set_size(model: Any, image_size: int) -> None:
    transform = model.transform
    transform.min_size, transform.max_size = (image_size,), image_size
    if transform.fixed_size is not None:
        transform.fixed_size = (image_size, image_size)


def _train_epoch(
    model: Any,
    batches: DataLoader[Any],
    optimizer: torch.optim.Optimizer,
    device: torch.device,
    *,
    warm_up: bool,
    amp: bool,
) -> None:
    model.train()
    steps = min(WARMUP_STEPS, len(batches) - 1)
    warming = None
    if warm_up and steps > 0:
        warming = torch.optim.lr_scheduler.LinearLR(optimizer, start_factor=WARMUP_FROM, total_iters=steps)
    for images, targets in batches:
        moved = [{name: value.to(device) for name, value in target.items()} for target in targets]
        with torch.autocast(device.type, torch.bfloat16, enabled=amp):
            losses = model([image.to(device) for image in images], moved)
        total = sum(losses.values())
        if not bool(torch.isfinite(total)):
            raise RuntimeError(f"the loss is {float(total)}: {losses}")
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        if warming is not None:
            warming.step()


@torch.inference_mode()
def predict(model: Any, val: CocoData, device: torch.device, first: int) -> list[dict[str, Any]]:
    """Return COCO results for the images of `val`, one by one as upstream evaluates; masks as RLE."""
    model.eval()
    pictures = Pictures(val.samples)
    loader = DataLoader(pictures, 1, num_workers=min(WORKERS, os.cpu_count() or 1), collate_fn=_as_lists)
    rows: list[dict[str, Any]] = []
    for sample, (images, _) in zip(val.samples, loader, strict=True):
        (found,) = model([image.to(device) for image in images])
        rows.extend(_results(sample.image_id, found, val.category_ids, first))
    return rows


def _results(
    image_id: int, found: dict[str, Tensor], category_ids: dict[int, int], first: int
) -> Iterator[dict[str, Any]]:
    boxes, scores = found["boxes"].tolist(), found["scores"].tolist()
    labels = (found["labels"] - first).tolist()
    for row, ((x0, y0, x1, y1), score, label) in enumerate(zip(boxes, scores, labels, strict=True)):
        if label not in category_ids:
            continue
        result = {"image_id": image_id, "category_id": category_ids[label], "bbox": [x0, y0, x1 - x0, y1 - y0]}
        if "masks" in found:
            drawn = (found["masks"][row, 0] > 0.5).to(torch.uint8).cpu().numpy()
            rle = coco_mask.encode(np.asfortranarray(drawn))
            result["segmentation"] = {"size": rle["size"], "counts": rle["counts"].decode("ascii")}
        yield {**result, "score": score}


def _average_precision(truth: COCO, predictions: Path, *, empty: bool) -> float:
    """Return the box AP as pycocotools has it; 0 if nothing at all was found, which it cannot read."""
    if empty:
        return 0.0
    evaluation = COCOeval(truth, _quiet(truth.loadRes, str(predictions)), "bbox")
    for step in (evaluation.evaluate, evaluation.accumulate, evaluation.summarize):
        _quiet(step)
    return float(evaluation.stats[0])


def _quiet(act: Any, *given: Any) -> Any:
    with contextlib.redirect_stdout(io.StringIO()):
        return act(*given)
