"""Train a job with a plain loop around a model of smp, and predict label maps of val with its last weights.

    python tools/bench.py parity --side upstream --plugin smp --data DIR --weights W.pth --arch unet/mobilenet_v2 \\
        --epochs 20 --image-size 480 --crop 256 --batch 8 --seed 0 --out DIR

smp has no trainer; its examples show a loop of the user's own. This one has what they have in common: random crops and
horizontal flips, normalisation with smp's values, one of smp's losses on whole batches, all layers trained from the
first step; AdamW at 1e-3 with one cycle over the run; whole images at evaluation, padded to what the model wants. Two
things are ours: the model is built with our classes and weights, so that both sides begin with the same tensors, and
scores are brought to the original size before the argmax.
"""

from __future__ import annotations

import os
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import segmentation_models_pytorch as smp
import torch
from benchmarks.parity.crops import Pair, find_pairs, random_window
from benchmarks.parity.runner import Clock, Job, Outcome, device_name
from PIL import Image
from torch import Tensor
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

from tlvision.plugin import BuildSpec
from tlvision.types import IGNORE_INDEX, ClassMap, InputError, InputSpec, Pixels
from tlvision_smp.architectures import find_architecture
from tlvision_smp.build import build_upstream

SETTINGS = frozenset({"crop", "loss", "lr", "precision"})
LR, WEIGHT_DECAY = 1e-3, 1e-2
CROP = 256
WORKERS = 4
LOSSES = ("cross_entropy", "dice")


def train(job: Job, clock: Clock) -> Outcome:
    """Train with the recipe and predict the val images with the last weights.

    image_size: long side to which images are brought; they keep their size if they have it.
    crop:       side of the square that is trained on.
    loss:       "cross_entropy" or "dice".
    """
    files = job.files
    train_pairs = find_pairs(files.train_images, files.train_labels)
    val_pairs = find_pairs(files.val_images, files.val_labels)
    if len(train_pairs) < job.batch:
        raise InputError(f"parity: {len(train_pairs)} training images are fewer than one batch of {job.batch}")
    classes = ClassMap.from_names(files.class_names())
    random.seed(job.seed)
    np.random.seed(job.seed)
    torch.manual_seed(job.seed)
    spec = BuildSpec(arch=job.arch, weights=job.weights, classes=classes, image_size=job.image_size)
    model, wants = build_upstream(find_architecture(job.arch), spec)
    device, folder = torch.device(device_name()), job.out / "predictions"
    model.to(device)
    with clock.training():
        _train(model, _training_batches(job, train_pairs, wants), device, job)
    predict(model, val_pairs, wants, device, image_size=job.image_size, folder=folder)
    clock.read_memory()  # here the peak includes the predictions
    return Outcome(predictions=folder, images=job.epochs * len(train_pairs), upstream=smp.__version__)


def _training_batches(job: Job, pairs: Sequence[Pair], wants: InputSpec) -> DataLoader[Any]:
    return DataLoader(
        Crops(pairs, wants, job.image_size, job.crop or CROP),
        job.batch,
        shuffle=True,
        drop_last=True,
        num_workers=min(WORKERS, os.cpu_count() or 1),
        persistent_workers=True,
    )


class Crops(Dataset[tuple[Tensor, Tensor]]):
    """A random square of each image, mirrored at random, and of its label map.

    wants: how the model wants its images. image_size: long side of the whole image. crop: side of the square.
    """

    def __init__(self, pairs: Sequence[Pair], wants: InputSpec, image_size: int, crop: int) -> None:
        self.pairs, self.wants, self.image_size, self.crop = pairs, wants, image_size, crop

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """Return (3, crop, crop) float32 and (crop, crop) int64; beyond a smaller image 0 and IGNORE_INDEX."""
        image = read_image(self.pairs[index].image, self.image_size)
        with Image.open(self.pairs[index].mask) as file:
            mask = np.asarray(file.resize(image.shape[1::-1], Image.Resampling.NEAREST))
        pixels, labels = normalise(image, self.wants), torch.from_numpy(mask.astype(np.int64))
        return random_window(pixels, labels, self.crop)


def read_image(path: Path, image_size: int) -> Pixels:
    """Return (H, W, 3) RGB, the long side `image_size`."""
    with Image.open(path) as file:
        image = file.convert("RGB")
    scale = image_size / max(image.size)
    if scale != 1:
        size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
        image = image.resize(size, Image.Resampling.BILINEAR)
    return np.array(image)


def normalise(image: Pixels, wants: InputSpec) -> Tensor:
    """Return (3, H, W) float32."""
    pixels = torch.from_numpy(image).permute(2, 0, 1).float() * (wants.value_range / 255)
    mean, std = torch.tensor(wants.mean), torch.tensor(wants.std)
    return (pixels - mean[:, None, None]) / std[:, None, None]


def make_loss(name: str) -> Any:
    """Return the loss of smp's examples, or torch's cross entropy."""
    if name == "dice":
        return smp.losses.DiceLoss(smp.losses.MULTICLASS_MODE, from_logits=True, ignore_index=IGNORE_INDEX)
    if name == "cross_entropy":
        return torch.nn.CrossEntropyLoss(ignore_index=IGNORE_INDEX)
    raise InputError(f"parity: expected a loss of {', '.join(LOSSES)}, got '{name}'")


def _train(model: Any, loader: DataLoader[Any], device: torch.device, job: Job) -> None:
    loss, rate = make_loss(job.loss or LOSSES[0]), LR if job.lr is None else job.lr
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=rate, total_steps=job.epochs * len(loader))
    model.train()
    for _ in range(job.epochs):
        for images, labels in loader:
            with torch.autocast(device.type, torch.bfloat16, enabled=job.precision == "bf16"):
                value = loss(model(images.to(device)), labels.to(device))
            if not bool(torch.isfinite(value)):
                raise RuntimeError(f"the loss is {float(value)}")
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
            schedule.step()


@torch.inference_mode()
def predict(
    model: Any, val: Sequence[Pair], wants: InputSpec, device: torch.device, *, image_size: int, folder: Path
) -> None:
    """Write the label map of each whole image to `folder`, as <stem>.png in the image's own size."""
    folder.mkdir(parents=True, exist_ok=True)
    model.eval()
    for pair in val:
        with Image.open(pair.image) as file:
            own = (file.height, file.width)
        pixels = normalise(read_image(pair.image, image_size), wants)[None].to(device)
        height, width = pixels.shape[2:]
        right, below = -width % wants.multiple_of, -height % wants.multiple_of
        scores = model(functional.pad(pixels, (0, right, 0, below)))[:, :, :height, :width]
        if own != (height, width):
            scores = functional.interpolate(scores, size=own, mode="bilinear", align_corners=False)
        label_map = scores[0].argmax(0).to(torch.uint8).cpu().numpy()
        Image.fromarray(label_map).save(folder / f"{pair.image.stem}.png")
