"""One plugin and one of its architectures under test, and what checks ask for all the time."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch

import tlvision.plugin as contract
from tlvision.conformance.mini_trainer import MiniTrainer
from tlvision.data.batches import normalise
from tlvision.data.dataset import fit_image
from tlvision.data.geometry import Matrix, paint_mask, warp_boxes, warp_mask
from tlvision.engine.build import seed_everything
from tlvision.hooks import Plan
from tlvision.hooks.plan import Duration, initial_plan
from tlvision.plugin import BuildSpec, GroupMap, PredictSpec, map_groups
from tlvision.synthetic.shapes import Drawing, Shape, draw
from tlvision.tasks import get_task
from tlvision.training.settings import TrainSettings
from tlvision.types import IGNORE_INDEX, ClassMap, Pixels, Target

if TYPE_CHECKING:
    from torch import Tensor

    from tlvision.plugin import Adapter, Plugin, WeightReport
    from tlvision.tasks import Task

BatchName = Literal["square", "wide", "mixed_empty", "all_empty", "one_object_each"]

SQUARE, WIDE = (120, 120), (72, 120)
"""Height and width of the drawn images, before they are brought to network size."""


class Case:
    """One architecture of one plugin under test; every check of the kit takes it.

    plugin:     the plugin's light object.
    origin:     the entry point's value, such as "tlvision_toy.plugin:plugin"; empty if it is not known.
    arch:       the architecture.
    weights:    as `BuildSpec.weights`.
    image_size: long side of the network input in pixels.
    classes:    the classes it is built for, unless a check asks for others.
    task:       the task of the architecture.
    trained:    the model after `tlvision.conformance.overfit.overfitted` has trained it, or None.
    """

    trained: Adapter | None = None

    def __init__(
        self,
        plugin: Plugin,
        arch: str,
        *,
        origin: str = "",
        weights: str = "none",
        image_size: int = 96,
        classes: ClassMap | None = None,
    ) -> None:
        self.plugin, self.arch, self.origin = plugin, arch, origin
        self.weights, self.image_size = weights, image_size
        self.classes = classes or ClassMap.from_names(("ant", "bee", "cat"))
        self.task: Task = get_task(plugin.task_of(arch))

    def build(
        self,
        *,
        classes: ClassMap | None = None,
        weights: str | None = None,
        seed: int = 0,
        predict: PredictSpec | None = None,
    ) -> tuple[Adapter, WeightReport]:
        """Seed python, numpy and torch, and build a fresh model, its module in train mode."""
        seed_everything(seed)
        spec = BuildSpec(
            arch=self.arch,
            weights=self.weights if weights is None else weights,
            classes=classes or self.classes,
            image_size=self.image_size,
            predict=predict or PredictSpec(),
        )
        adapter, report = self.plugin.build(spec)
        adapter.module.train()
        return adapter, report

    @cached_property
    def capabilities(self) -> frozenset[str]:
        """The names of the capability Protocols that an adapter of this architecture has."""
        adapter, _ = self.build()
        return frozenset(name for name, protocol in capability_protocols().items() if isinstance(adapter, protocol))

    def batch(self, adapter: Adapter, name: BatchName, seed: int = 0) -> tuple[Tensor, list[Target]]:
        """Return two drawn images as a network input, and their targets.

        name: "square" and "wide" (not square, unless the plugin asks for "stretch") have objects of all classes;
              "mixed_empty" has one image with and one without objects, "all_empty" none at all, "one_object_each" one
              object an image.

        Returns (N, 3, H, W) float32, normalised by the adapter's `input_spec`, and N targets of tensors, boxes in
        network-input pixels, masks for instance segmenters, label maps for semantic ones.
        """
        count = len(self.classes)
        many = [scatter(range(count)), scatter(range(count)[::-1])]
        contents: dict[BatchName, list[list[Shape]]] = {
            "square": many,
            "wide": many,
            "mixed_empty": [many[0], []],
            "all_empty": [[], []],
            "one_object_each": [scatter([0]), scatter([count - 1])],
        }
        size = WIDE if name == "wide" else SQUARE
        drawings = [
            draw(size, shapes, seed=2 * seed + number, background=self._background())
            for number, shapes in enumerate(contents[name])
        ]
        return self.network_batch(adapter, drawings)

    def network_batch(self, adapter: Adapter, drawings: Sequence[Drawing]) -> tuple[Tensor, list[Target]]:
        """Bring drawings of one size to the network's; `batch` describes the result."""
        canvases, targets = [], []
        for drawing in drawings:
            canvas, matrix = fit_image(drawing.image, adapter.input_spec, self.image_size)
            size = canvas.shape[0], canvas.shape[1]
            boxes, keep = warp_boxes(drawing.boxes, matrix, size)
            masks = semantic = None
            if "masks" in self.task.labels:
                masks = torch.from_numpy(warp_masks(drawing.masks[keep], matrix, size))
            if "label_map" in self.task.labels:
                label_map = warp_mask(drawing.semantic, matrix, size, IGNORE_INDEX)
                semantic = torch.from_numpy(label_map.astype(np.int64))
            targets.append(
                Target(
                    boxes=torch.from_numpy(boxes[keep]),
                    labels=torch.from_numpy(drawing.labels[keep]),
                    crowd=torch.zeros(int(keep.sum()), dtype=torch.bool),
                    masks=masks,
                    semantic=semantic,
                )
            )
            canvases.append(torch.from_numpy(canvas))
        images = torch.stack(canvases).permute(0, 3, 1, 2)  # (N, 3, H, W) uint8
        return normalise(images, adapter.input_spec), targets

    def _background(self) -> int:
        names = self.classes.names
        return names.index("background") if "background" in names else IGNORE_INDEX

    def groups(self, adapter: Adapter) -> GroupMap:
        """Sort the adapter's tensors into its layer groups; InputError if they are no partition."""
        return map_groups(adapter.module, adapter.groups)

    def plan(self, adapter: Adapter, *, steps: int = 100) -> Plan:
        """Return the plan that trains everything, one step an epoch."""
        return initial_plan(adapter.module, self.groups(adapter), Duration(epochs=steps, steps_per_epoch=1))

    def prefix_plan(self, adapter: Adapter, depth: int, *, steps: int = 100) -> Plan:
        """Return the plan with the groups 0 .. depth - 1 frozen for good, one step an epoch."""
        plan = self.plan(adapter, steps=steps)
        return plan.train_from(plan.in_groups(range(depth)), None, f"the first {depth} groups")

    def trainer(
        self,
        adapter: Adapter,
        plan: Plan,
        *,
        optimizer: Literal["sgd", "adamw"] = "sgd",
        lr: float = 0.01,
        momentum: float = 0.9,
        weight_decay: float = 0.01,
        schedule: Literal["cosine", "linear", "constant"] = "constant",
        clip: float = 10.0,
    ) -> MiniTrainer:
        """Return what takes training steps on `adapter`, without warm-up."""
        settings = TrainSettings(
            epochs=plan.duration.epochs,
            optimizer=optimizer,
            lr=lr,
            momentum=momentum,
            weight_decay=weight_decay,
            schedule=schedule,
            warmup=0.0,
            clip=clip,
        )
        return MiniTrainer(adapter, plan, settings)


def warp_masks(masks: Pixels, matrix: Matrix, size: tuple[int, int]) -> Pixels:
    """Return (M, H, W) masks of a drawing in network-input pixels, of `size`, as the core brings them there."""
    warped = np.zeros((len(masks), *size), np.uint8)
    for canvas, mask in zip(warped, masks, strict=True):
        paint_mask(canvas, mask, matrix)
    return warped


def capability_protocols() -> dict[str, type]:
    """Return the Protocols of `tlvision.plugin` for what an adapter may or may not be able to do, by name."""
    # Two are a plugin's; scores for every pixel are no choice: every semantic model has them, and no other.
    others = {contract.Adapter, contract.Plugin, contract.HasOptions, contract.HasForeignModels}
    others.add(contract.HasDenseLogits)
    # typing has no public name for this question before Python 3.13.
    public = {name: getattr(contract, name) for name in contract.__all__}
    return {
        name: value
        for name, value in public.items()
        if getattr(value, "_is_runtime_protocol", False) and value not in others
    }


def scatter(labels: Sequence[int]) -> list[Shape]:
    """Place one object of each label, row by row on a grid as square as need be, smaller to the right and below."""
    side = max(2, int(np.ceil(np.sqrt(len(labels)))))
    shapes = []
    for place, label in enumerate(labels):
        row, column = divmod(place, side)
        shrink = 0.85 - 0.25 * (row + column) / (2 * side)
        x, y = (column + 0.08) / side, (row + 0.05) / side
        shapes.append(Shape(label, (x, y, x + shrink / side, y + shrink / side)))
    return shapes
