"""One image that every model must be able to overfit, and the training that gets it there."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from lightning_fabric import Fabric

from tlvision.conformance.mini_trainer import MiniTrainer
from tlvision.evaluation import class_iou, coco_map
from tlvision.formats.coco import write_dataset, write_predictions
from tlvision.hooks.plan import Duration, initial_plan
from tlvision.inference.predict import predict_array
from tlvision.synthetic.shapes import Drawing, Shape, draw
from tlvision.training.settings import TrainSettings
from tlvision.types import IGNORE_INDEX, Sample, Target

if TYPE_CHECKING:
    from torch import Tensor

    from tlvision.conformance.case import Case
    from tlvision.plugin import Adapter
    from tlvision.types import ClassMap, Prediction

ENOUGH = 0.9
"""The AP50, or mean class IoU, that counts as overfitted."""
MASK_ENOUGH = 0.7
"""The IoU of a drawn mask with the one that is found for it, in original pixels, that counts as overfitted."""
STEPS, EVERY = 400, 20
"""Largest number of steps, and the steps between evaluations of the image."""
MASK_LOOKS = 8
"""How often boxes are found to be learnt before masks that are not are given up."""
LR = 2e-3

SIZE = (72, 120)
FIRST_BOX, LAST_BOX = (0.05, 0.10, 0.40, 0.45), (0.50, 0.45, 0.75, 0.95)
"""Off the centre, so that boxes turned, mirrored or with x and y exchanged are somewhere else."""


@dataclass(frozen=True, slots=True, eq=False)
class OneImage:
    """A drawn image of `SIZE` with an object of the first and one of the last class.

    drawing: the image with its objects, in its own pixels. For segmenters the pixels around the objects are of a
             class in between, where there is one.
    images:  (1, 3, H, W) float32, the network input.
    targets: its one target of tensors, in pixels of the network input.
    """

    drawing: Drawing
    images: Tensor
    targets: list[Target]


def one_image(case: Case, adapter: Adapter) -> OneImage:
    """Draw the image and bring it to the network's size, as `Case.batch` does."""
    last = len(case.classes) - 1
    between = last // 2 if last > 1 else IGNORE_INDEX
    drawing = draw(SIZE, [Shape(0, FIRST_BOX), Shape(last, LAST_BOX)], seed=7, background=between)
    images, targets = case.network_batch(adapter, [drawing])
    return OneImage(drawing, images, targets)


def overfitted(case: Case) -> Adapter:
    """Return the model of a case after overfitting to `one_image`; shared by the checks, which must not change it."""
    if case.trained is None:
        case.trained = overfit(case)
    return case.trained


def overfit(case: Case) -> Adapter:
    """Train a new model on `one_image` until it overfits, or for `STEPS`, and return it in eval mode.

    Masks are given some time more than boxes.

    A batch holds the image as it is and mirrored: some layers cannot take the statistics of a single one.
    """
    adapter, _ = case.build()
    one = one_image(case, adapter)
    images, targets = mirrored(one.images, one.targets)
    settings = TrainSettings(epochs=STEPS // EVERY, optimizer="adamw", lr=LR, schedule="cosine", warmup=0.05)
    plan = initial_plan(adapter.module, case.groups(adapter), Duration(STEPS // EVERY, EVERY))
    practice = MiniTrainer(adapter, plan, settings)
    looks = MASK_LOOKS
    while practice.step < STEPS:
        practice.take_step(images, targets)
        if practice.step % EVERY == 0 and score(case, adapter, one) >= ENOUGH:
            looks -= 1
            if looks == 0 or "masks" not in case.task.labels or _knows_masks(case, adapter, one):
                break
    adapter.module.eval()
    return adapter


def _knows_masks(case: Case, adapter: Adapter, one: OneImage) -> bool:
    return min(mask_overlaps(find(case, adapter, one), one.drawing)) >= MASK_ENOUGH


def mirrored(images: Tensor, targets: Sequence[Target]) -> tuple[Tensor, list[Target]]:
    """Return a batch of network inputs followed by the same, mirrored left and right."""
    width = images.shape[3]
    return torch.cat([images, images.flip(3)]), [*targets, *(_mirror(target, width) for target in targets)]


def _mirror(target: Target, width: int) -> Target:
    x0, y0, x1, y1 = target.boxes.unbind(1)
    return Target(
        boxes=torch.stack([width - x1, y0, width - x0, y1], 1),
        labels=target.labels.clone(),
        crowd=target.crowd.clone(),
        masks=None if target.masks is None else target.masks.flip(2),
        semantic=None if target.semantic is None else target.semantic.flip(1),
    )


def score(case: Case, adapter: Adapter, one: OneImage) -> float:
    """Return AP50 of the boxes, or the mean class IoU, of the adapter's predictions on the image.

    The module is left in eval mode.
    """
    prediction = find(case, adapter, one)
    if prediction.semantic is not None:
        measured = class_iou([(one.drawing.semantic, prediction.semantic)], case.classes.names)
        return float(measured["semantic"]["mean_class_iou"])
    return _ap50(prediction, one.drawing, case.classes)


def find(case: Case, adapter: Adapter, one: OneImage) -> Prediction:
    """Return the adapter's prediction, as numpy in pixels of the drawn image; the module is left in eval mode."""
    fabric = Fabric(accelerator="cpu", devices=1)
    return predict_array(adapter, one.drawing.image, fabric=fabric, image_size=case.image_size)


def mask_overlaps(prediction: Prediction, drawing: Drawing) -> list[float]:
    """Return for each drawn object, one a class, the IoU of its mask with that of the best object of its class, 0..1.

    prediction: as `find` gives it. 0.0 if no object of the class is found, or it has no mask.
    """
    overlaps = []
    for label, drawn in zip(drawing.labels, drawing.masks, strict=True):
        best = best_of(prediction, int(label))
        if best is None or prediction.masks is None:
            overlaps.append(0.0)
            continue
        found = prediction.masks[best] > 0
        overlaps.append(float((found & (drawn > 0)).sum() / (found | (drawn > 0)).sum()))
    return overlaps


def best_of(prediction: Prediction, label: int) -> int | None:
    """Return the row of the object with the highest score of the class `label`; None if there is none."""
    rows = [row for row, other in enumerate(prediction.labels.tolist()) if other == label]
    return max(rows, key=lambda row: float(prediction.scores[row]), default=None)


def _ap50(prediction: Prediction, drawing: Drawing, classes: ClassMap) -> float:
    """Write truth and prediction to files, as a run does, and return the AP50 of one against the other."""
    count = len(drawing.labels)
    target = Target(boxes=drawing.boxes, labels=drawing.labels, crowd=torch.zeros(count, dtype=torch.bool).numpy())
    height, width = SIZE
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sample = Sample(
            image_id=1,
            path=folder / "one.png",
            width=width,
            height=height,
            target=target,
            segments=(None,) * count,
        )
        write_dataset(folder / "truth.json", [sample], classes, "one image")
        write_predictions(folder / "found.json", [(1, prediction)], dict(enumerate(classes.source_ids)))
        return float(coco_map(folder / "truth.json", folder / "found.json")["bbox"]["AP50"] or 0.0)
