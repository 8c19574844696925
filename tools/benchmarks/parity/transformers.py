"""Train a job with a plain loop around a segmenter of transformers, and predict label maps with its last weights.

    python tools/bench.py parity --side upstream --plugin transformers --data DIR --weights none --arch segformer_b0 \\
        --epochs 20 --image-size 256 --crop 128 --batch 8 --seed 0 --out DIR

The parts are those of transformers' example of semantic segmentation without its Trainer: upstream's image processor,
random crops and horizontal flips, the loss that the model itself returns, AdamW without weight decay of norms and
biases, upstream's cosine schedule with warm-up over the whole run, and its own post-processing of whole images. Two
things are ours: the model is built with our classes and weights, so that both sides begin with the same tensors, and
the rate is that of a run from random weights.
"""

from __future__ import annotations

import os
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from benchmarks.parity.crops import Pair, find_pairs, random_window
from benchmarks.parity.runner import Clock, Job, Outcome, device_name
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from tlvision.plugin import BuildSpec
from tlvision.types import ClassMap, InputError
from tlvision_transformers.plugin import plugin
from tlvision_transformers.upstream import image_processor_class
from tlvision_transformers.zoo import SEGMENTER_TYPES, find_architecture

SETTINGS = frozenset({"crop", "lr", "precision"})
LR, WEIGHT_DECAY = 1e-3, 1e-2
WARMUP = 0.1
CLIP = 1.0
"""Maximum norm of the gradient, the default of upstream's Trainer."""
CROP = 256
WORKERS = 4


def train(job: Job, clock: Clock) -> Outcome:
    """Train with the recipe and predict the val images with the last weights.

    image_size: side of the square to which images are stretched, as upstream's image processor does it.
    crop:       side of the square that is trained on.
    """
    files = job.files
    train_pairs = find_pairs(files.train_images, files.train_labels)
    val_pairs = find_pairs(files.val_images, files.val_labels)
    if len(train_pairs) < job.batch:
        raise InputError(f"parity: {len(train_pairs)} training images are fewer than one batch of {job.batch}")
    random.seed(job.seed)
    np.random.seed(job.seed)
    torch.manual_seed(job.seed)
    model = build(job.arch, job.weights, files.class_names(), job.image_size)
    processor = make_processor(model, job.image_size)
    device, folder = torch.device(device_name()), job.out / "predictions"
    model.to(device)
    with clock.training():
        _train(model, _training_batches(job, train_pairs, processor), device, job)
    predict(model, val_pairs, processor, device, folder)
    clock.read_memory()  # here the peak includes the predictions
    return Outcome(predictions=folder, images=job.epochs * len(train_pairs), upstream=transformers.__version__)


def build(arch: str, weights: str, classes: tuple[str, ...], image_size: int) -> Any:
    """Return upstream's model in train mode. Raises InputError if it does not score pixels."""
    if find_architecture(arch).model_type not in SEGMENTER_TYPES:
        raise InputError(f"parity: '{arch}' does not score pixels. Use one of {', '.join(SEGMENTER_TYPES)}.")
    spec = BuildSpec(arch=arch, weights=weights, classes=ClassMap.from_names(classes), image_size=image_size)
    return plugin.build(spec)[0].module


def make_processor(model: Any, image_size: int) -> Any:
    """Return upstream's image processor, which stretches images to a square."""
    return image_processor_class(model.config)(size={"height": image_size, "width": image_size})


def _training_batches(job: Job, pairs: Sequence[Pair], processor: Any) -> DataLoader[Any]:
    return DataLoader(
        Crops(pairs, processor, job.crop or CROP),
        job.batch,
        shuffle=True,
        drop_last=True,
        num_workers=min(WORKERS, os.cpu_count() or 1),
        persistent_workers=True,
    )


class Crops(Dataset[tuple[Tensor, Tensor]]):
    """A random square of each image, mirrored at random, and of its label map."""

    def __init__(self, pairs: Sequence[Pair], processor: Any, crop: int) -> None:
        self.pairs, self.processor, self.crop = pairs, processor, crop

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """Return (3, crop, crop) float32 and (crop, crop) int64."""
        pair = self.pairs[index]
        with Image.open(pair.image) as image, Image.open(pair.mask) as mask:
            found = self.processor(image.convert("RGB"), segmentation_maps=mask, return_tensors="pt")
        return random_window(found["pixel_values"][0], found["labels"][0].long(), self.crop)


def make_optimizer(model: Any, lr: float) -> torch.optim.Optimizer:
    """Return AdamW; norms and biases have no weight decay, as in upstream's Trainer."""
    vectors = [parameter for parameter in model.parameters() if parameter.ndim <= 1]
    others = [parameter for parameter in model.parameters() if parameter.ndim > 1]
    groups = [{"params": others, "weight_decay": WEIGHT_DECAY}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=lr)


def _train(model: Any, loader: DataLoader[Any], device: torch.device, job: Job) -> None:
    optimizer, total = make_optimizer(model, LR if job.lr is None else job.lr), job.epochs * len(loader)
    schedule = transformers.get_cosine_schedule_with_warmup(optimizer, round(WARMUP * total), total)
    model.train()
    for _ in range(job.epochs):
        for images, labels in loader:
            with torch.autocast(device.type, torch.bfloat16, enabled=job.precision == "bf16"):
                loss = model(pixel_values=images.to(device), labels=labels.to(device)).loss
            if not bool(torch.isfinite(loss)):
                raise RuntimeError(f"the loss is {float(loss)}")
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
            optimizer.step()
            schedule.step()


@torch.inference_mode()
def predict(model: Any, val: Sequence[Pair], processor: Any, device: torch.device, folder: Path) -> None:
    """Write the label map of each whole image to `folder`, as <stem>.png in the image's own size."""
    folder.mkdir(parents=True, exist_ok=True)
    model.eval()
    for pair in val:
        with Image.open(pair.image) as file:
            image = file.convert("RGB")
        outputs = model(pixel_values=processor(image, return_tensors="pt")["pixel_values"].to(device))
        (found,) = processor.post_process_semantic_segmentation(outputs, target_sizes=[(image.height, image.width)])
        Image.fromarray(found.to(torch.uint8).cpu().numpy()).save(folder / f"{pair.image.stem}.png")
