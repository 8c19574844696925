"""The parity number: a plain training loop around a model of smp, and the label maps its last weights give on val.

    python -m tlvision_smp.parity --train-images D --train-masks D --val-images D --val-masks D --classes classes.txt \\
        --weights W.pth --arch unet/mobilenet_v2 --epochs 20 --image-size 480 --crop 256 --batch 8 --seed 0 --out DIR

prints what `train_upstream` returns as JSON on its last line. It is meant to run in a process of its own, so that wall
time and peak memory are upstream's.

smp has no trainer; its examples show a loop of the user's own. This one has what they have in common: random crops and
horizontal flips, normalisation with smp's values, one of smp's losses on whole batches, all layers trained from the
first step; AdamW at 1e-3 with one cycle over the run; whole images at evaluation, padded to what the model wants. Two
things are ours: the model is built with our classes and weights, so that both sides begin with the same tensors, and
scores are brought to the original size before the argmax.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import segmentation_models_pytorch as smp
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

from tlvision.plugin import BuildSpec
from tlvision.types import IGNORE_INDEX, ClassMap, InputError, InputSpec
from tlvision_smp.architectures import find_architecture
from tlvision_smp.build import build_upstream

LR, WEIGHT_DECAY = 1e-3, 1e-2
FLIP = 0.5
WORKERS = 4
LOSSES = ("cross_entropy", "dice")

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Pair:
    """An image file and its label map, if there is one."""

    image: Path
    mask: Path


def train_upstream(
    train_images: Path,
    train_masks: Path,
    val_images: Path,
    val_masks: Path,
    classes: Path,
    *,
    weights: str,
    arch: str,
    epochs: int,
    image_size: int,
    crop: int,
    batch: int,
    seed: int,
    out: Path,
    lr: float = LR,
    loss: str = "cross_entropy",
    precision: str = "fp32",
) -> dict[str, Any]:
    """Train with the recipe and predict the val images with the last weights.

    *_images, *_masks: folders of images and, under the same stems, of PNG label maps.
    classes:    a text file; its line numbers, from 0, are the values in the label maps, and 255 is unknown.
    weights:    as in a tlvision config.
    image_size: long side to which images are brought; they keep their size where they have it.
    crop:       side of the square that is trained on.
    loss:       "cross_entropy" or "dice".
    precision:  "fp32", or "bf16" for mixed precision.
    out:        a folder for the predictions.

    Returns "predictions" (a folder of label maps, <stem>.png in the original size), "train_seconds", "total_seconds",
    "peak_memory_bytes" (of the GPU, or resident), "images_per_second" (training images), "epochs", "device" and
    "upstream" (its version).

    Raises InputError where the images, the architecture or the weights cannot be used.
    """
    started = time.perf_counter()
    train, val = find_pairs(train_images, train_masks), find_pairs(val_images, val_masks)
    if len(train) < batch:
        raise InputError(f"parity: {len(train)} training images are fewer than one batch of {batch}")
    names = [line.strip() for line in classes.read_text(encoding="utf-8").splitlines() if line.strip()]
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    device = torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
    spec = BuildSpec(arch=arch, weights=weights, classes=ClassMap.from_names(names), image_size=image_size)
    model, wants = build_upstream(find_architecture(arch), spec)
    model.to(device)

    before = time.perf_counter()
    loader = DataLoader(
        Crops(train, wants, image_size, crop),
        batch,
        shuffle=True,
        drop_last=True,
        num_workers=min(WORKERS, os.cpu_count() or 1),
        persistent_workers=True,
    )
    _train(model, loader, make_loss(loss), device, epochs=epochs, lr=lr, amp=precision == "bf16")
    train_seconds = time.perf_counter() - before
    folder = out / "predictions"
    predict(model, val, wants, device, image_size=image_size, folder=folder)
    return {
        "predictions": str(folder.resolve()),
        "train_seconds": train_seconds,
        "peak_memory_bytes": memory_peak(),
        "total_seconds": time.perf_counter() - started,
        "images_per_second": epochs * len(train) / train_seconds,
        "epochs": epochs,
        "device": str(device),
        "upstream": smp.__version__,
    }


def memory_peak() -> int:
    """Return the peak memory of this process so far in bytes: allocated on the GPU if it was used, else resident."""
    if torch.cuda.is_available() and torch.cuda.max_memory_allocated() > 0:
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def find_pairs(images: Path, masks: Path) -> list[Pair]:
    """Return images and masks of the same stem, by name; InputError where a mask is not there."""
    pairs = [Pair(path, masks / f"{path.stem}.png") for path in sorted(images.iterdir()) if path.is_file()]
    for pair in pairs:
        if not pair.mask.is_file():
            raise InputError(f"parity: the image '{pair.image}' has no label map '{pair.mask}'")
    if not pairs:
        raise InputError(f"parity: there are no images in '{images}'")
    return pairs


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
        height, width = labels.shape
        right, below = max(0, self.crop - width), max(0, self.crop - height)
        pixels = functional.pad(pixels, (0, right, 0, below))
        labels = functional.pad(labels, (0, right, 0, below), value=IGNORE_INDEX)
        x = int(torch.randint(width + right - self.crop + 1, ()))
        y = int(torch.randint(height + below - self.crop + 1, ()))
        window = slice(y, y + self.crop), slice(x, x + self.crop)
        pixels, labels = pixels[:, *window], labels[window]
        if torch.rand(()).item() < FLIP:
            pixels, labels = pixels.flip(2), labels.flip(1)
        return pixels, labels


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


def _train(
    model: Any, loader: DataLoader[Any], loss: Any, device: torch.device, *, epochs: int, lr: float, amp: bool
) -> None:
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=lr, total_steps=epochs * len(loader))
    model.train()
    for _ in range(epochs):
        for images, labels in loader:
            with torch.autocast(device.type, torch.bfloat16, enabled=amp):
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


def main() -> None:
    """Run `train_upstream` from the command line."""
    parser = argparse.ArgumentParser(description="Train smp's model with a plain loop, for comparison.")
    for name in ("--train-images", "--train-masks", "--val-images", "--val-masks", "--classes", "--out"):
        parser.add_argument(name, type=Path, required=True)
    parser.add_argument("--weights", required=True, help="imagenet, none or a path")
    parser.add_argument("--arch", required=True)
    defaults = {"--epochs": 20, "--image-size": 480, "--crop": 256, "--batch": 8, "--seed": 0}
    for name, default in defaults.items():
        parser.add_argument(name, type=int, default=default)
    parser.add_argument("--lr", type=float, default=LR)
    parser.add_argument("--loss", choices=LOSSES, default="cross_entropy")
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
    print(json.dumps(train_upstream(**vars(parser.parse_args()))))


if __name__ == "__main__":
    main()
