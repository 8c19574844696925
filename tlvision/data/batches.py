"""Make batches: inputs and targets as tensors, in an order that depends only on the step."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from tlvision.data.dataset import Draw, EvalImages, Meta
from tlvision.data.geometry import invert
from tlvision.data.processes import check_picklable, raise_if_worker_died
from tlvision.data.train_images import TrainImages
from tlvision.data.unlabelled import UnlabelledImages
from tlvision.types import IGNORE_INDEX, InputError, InputSpec, Pixels, Target


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Views:
    """Two views of N unlabelled images with one geometry: the same pixel shows the same point in both.

    weak, strong: (N, 3, H, W) uint8, RGB.
    image_ids:    id of each image.
    valid:        (N, H, W) bool, False in padding; None if the views show the images everywhere.
    """

    weak: Tensor
    strong: Tensor
    image_ids: tuple[int, ...]
    valid: Tensor | None = None

    def __len__(self) -> int:
        return len(self.image_ids)

    def with_images(self, change: Callable[[Tensor], Tensor]) -> Views:
        """Return the views with both images changed, and nothing else."""
        return replace(self, weak=change(self.weak), strong=change(self.strong))

    def map(self, change: Callable[[Tensor], Tensor]) -> Views:
        """Return the views with every tensor changed, to another device for example."""
        views = self.with_images(change)
        return views if self.valid is None else replace(views, valid=change(self.valid))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Batch:
    """N network inputs with M objects between them.

    images:    (N, 3, H, W) uint8, RGB; `normalise` turns them into the model's format.
    boxes:     (M, 4) float32, x0 y0 x1 y1 in pixels of the input, image by image.
    labels:    (M,) int64 class index.
    counts:    the number of objects of each image; they sum to M.
    image_ids: id of each image (of the first of four for a mosaic).
    matrices:  (N, 3, 3) float64, original image -> input pixels; stays on the CPU.
    sizes:     height and width of each original image.
    semantic:  None, or (N, H, W) uint8 label maps.
    masks:     None, or (M, H, W) uint8 instance masks.
    unlabelled: None, or views of unlabelled images, `data.batch.unlabelled` of them.
    """

    images: Tensor
    boxes: Tensor
    labels: Tensor
    counts: tuple[int, ...]
    image_ids: tuple[int, ...]
    matrices: Tensor
    sizes: tuple[tuple[int, int], ...]
    semantic: Tensor | None = None
    masks: Tensor | None = None
    unlabelled: Views | None = None

    def __len__(self) -> int:
        return len(self.counts)

    def has_targets(self) -> bool:
        """Return whether anything is labelled: an object, or a pixel of a label map."""
        if self.semantic is not None and bool((self.semantic != IGNORE_INDEX).any()):
            return True
        return sum(self.counts) > 0

    @property
    def targets(self) -> list[Target]:
        """One target an image: views of the tensors here, on their device (a label map is widened to int64)."""
        counts = list(self.counts)
        boxes, labels = torch.split(self.boxes, counts), torch.split(self.labels, counts)
        crowd = torch.split(torch.zeros_like(self.labels, dtype=torch.bool), counts)
        masks = torch.split(self.masks, counts) if self.masks is not None else [None] * len(self)
        semantic = self.semantic.long() if self.semantic is not None else [None] * len(self)
        return [
            Target(boxes=boxes[i], labels=labels[i], crowd=crowd[i], masks=masks[i], semantic=semantic[i])
            for i in range(len(self))
        ]

    def _map(self, change: Callable[[Tensor], Tensor]) -> Batch:
        return replace(
            self,
            images=change(self.images),
            boxes=change(self.boxes),
            labels=change(self.labels),
            semantic=change(self.semantic) if self.semantic is not None else None,
            masks=change(self.masks) if self.masks is not None else None,
            unlabelled=self.unlabelled.map(change) if self.unlabelled is not None else None,
        )

    def pin_memory(self) -> Batch:
        """Return a copy in page-locked memory, from which a GPU copies while the CPU goes on."""
        return self._map(lambda tensor: tensor.pin_memory())

    def to(self, device: torch.device | str) -> Batch:
        """Return the batch on `device`, itself where it is there already."""
        device = torch.device(device)
        if self.images.device == device:
            return self
        source = self.pin_memory() if device.type == "cuda" and not self.images.is_pinned() else self
        return source._map(lambda tensor: tensor.to(device, non_blocking=True))


def collate(draws: Sequence[Draw]) -> Batch:
    """Join draws of one shape; Raises ValueError if shapes differ."""
    images, targets, metas = zip(*draws, strict=True)
    # (N, H, W, 3) in memory, seen as (N, 3, H, W): the transposing copy is left to the device.
    stacked = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)
    semantic = [target.semantic for target in targets]
    masks = [target.masks for target in targets]
    return Batch(
        images=stacked,
        boxes=torch.from_numpy(np.concatenate([target.boxes for target in targets])),
        labels=torch.from_numpy(np.concatenate([target.labels for target in targets])),
        counts=tuple(len(target) for target in targets),
        image_ids=tuple(meta.image_id for meta in metas),
        matrices=torch.from_numpy(np.stack([meta.matrix for meta in metas])),
        sizes=tuple(meta.size for meta in metas),
        semantic=torch.from_numpy(np.stack(semantic).astype(np.uint8)) if semantic[0] is not None else None,
        masks=torch.from_numpy(np.concatenate(masks)) if masks[0] is not None else None,
    )


def collate_views(draws: Sequence[tuple[Pixels, Pixels, Meta]]) -> Views:
    """Join pairs of views of one shape; Raises ValueError if shapes differ."""
    weak, strong, metas = zip(*draws, strict=True)
    return Views(
        weak=torch.from_numpy(np.stack(weak)).permute(0, 3, 1, 2),
        strong=torch.from_numpy(np.stack(strong)).permute(0, 3, 1, 2),
        image_ids=tuple(meta.image_id for meta in metas),
        valid=torch.from_numpy(np.stack([shown(meta.matrix, meta.size, weak[0].shape) for meta in metas])),
    )


def shown(matrix: npt.NDArray[np.float64], original: Sequence[int], size: Sequence[int]) -> npt.NDArray[np.bool_]:
    """Return where a network input shows its image: (height, width) bool, False in padding.

    matrix: (3, 3), pixels of the original image -> of the network input. original, size: height and width of each.
    A pixel shows the image if its centre lies in it, as for label maps (`tlvision.data.geometry.paint`).

    >>> shown(np.diag([2.0, 1.0, 1.0]), (1, 1), (2, 3)).tolist()
    [[True, True, False], [False, False, False]]
    """
    back = invert(matrix)
    y, x = np.arange(size[0])[:, None] + 0.5, np.arange(size[1])[None] + 0.5
    left, top = (back[axis, 0] * x + back[axis, 1] * y + back[axis, 2] for axis in (0, 1))  # (height, width)
    inside: npt.NDArray[np.bool_] = (left >= 0) & (left < original[1]) & (top >= 0) & (top < original[0])
    return inside


def normalise(images: Tensor, spec: InputSpec) -> Tensor:
    """Return (N, 3, H, W) float32 images normalised for the model, contiguous, on the device of `images`.

    images: (N, 3, H, W) uint8, RGB, 0..255. The result is (x * value_range / 255 - mean) / std in the channel order
    of `spec`.

    >>> normalise(torch.full((1, 3, 1, 1), 255, dtype=torch.uint8), InputSpec()).flatten().tolist()
    [1.0, 1.0, 1.0]
    """
    values = images.to(torch.float32, memory_format=torch.contiguous_format)
    if spec.channel_order == "bgr":
        values = values.flip(1)
    if spec.value_range != 255.0:
        values = values * (spec.value_range / 255.0)
    if any(spec.mean):
        values = values - _per_channel(values, spec.mean)
    if any(std != 1.0 for std in spec.std):
        values = values / _per_channel(values, spec.std)
    return values


def _per_channel(values: Tensor, numbers: Sequence[float]) -> Tensor:
    """Return (1, C, 1, 1) like `values`, filled on its device: for a copy from the CPU's memory a GPU would wait."""
    return torch.cat([values.new_full((1, 1, 1, 1), number) for number in numbers], dim=1)


def train_positions(
    step: int, *, batch_size: int, accumulate: int = 1, rank: int = 0, world: int = 1
) -> list[list[int]]:
    """Return the stream positions of each micro-batch that process `rank` of `world` sees in a step.

    All processes together walk the stream without gap or overlap, so every image comes equally often and a batch is
    never partial.

    >>> train_positions(1, batch_size=2, world=2, rank=1)
    [[6, 7]]
    """
    firsts = [((step * accumulate + k) * world + rank) * batch_size for k in range(accumulate)]
    return [list(range(first, first + batch_size)) for first in firsts]


def _always(step: int) -> bool:
    return True


def train_batches(
    dataset: TrainImages,
    *,
    batch_size: int,
    first_step: int,
    last_step: int,
    accumulate: int = 1,
    rank: int = 0,
    world: int = 1,
    mosaic: Callable[[int], bool] = _always,
    unlabelled: UnlabelledImages | None = None,
    unlabelled_size: int = 0,
    workers: int = 0,
    pin: bool = False,
) -> Iterator[Batch]:
    """Yield the micro-batches of the steps first_step .. last_step - 1, `accumulate` for each.

    What comes depends on the dataset's seed and the step alone: not on `workers`, nor on where the iteration began.

    mosaic:  whether mosaics are on in a step.
    unlabelled, unlabelled_size: unlabelled images, of which so many come with each micro-batch.
    workers: processes that prepare batches ahead; 0 prepares each when it is asked for.
    pin:     whether to page-lock the batches, for a GPU.

    Raises InputError if an image cannot be read, also from a worker.
    """
    positions = partial(train_positions, accumulate=accumulate, rank=rank, world=world)
    labelled = partial(positions, batch_size=batch_size)
    others = None if unlabelled is None else _Others(unlabelled, partial(positions, batch_size=unlabelled_size))
    return _batches(_TrainPlans(dataset, first_step, last_step, accumulate, labelled, mosaic, others), workers, pin)


def eval_batches(
    dataset: EvalImages, *, batch_size: int, workers: int = 0, pin: bool = False, rank: int = 0, world: int = 1
) -> Iterator[Batch]:
    """Yield all images of the dataset (or the share of process `rank` of `world`) once, in batches of one shape.

    Raises InputError if an image cannot be read, also from a worker.
    """
    return _batches(_EvalPlans(dataset, dataset.groups(batch_size)[rank::world]), workers, pin)


@dataclass(frozen=True, slots=True)
class _Others:
    """The unlabelled part of each micro-batch."""

    images: UnlabelledImages
    positions: Callable[[int], list[list[int]]]

    def views(self, step: int, k: int) -> Views:
        positions = self.positions(step)[k]
        height, width = map(max, zip(*map(self.images.canvas, positions), strict=True))
        return collate_views([self.images.draw(position, (height, width)) for position in positions])


@dataclass(frozen=True, slots=True)
class _TrainPlans(Dataset[Batch]):
    """Compute batches on demand by number, for a run of any length."""

    images: TrainImages
    first_step: int
    last_step: int
    accumulate: int
    positions: Callable[[int], list[list[int]]]
    mosaic: Callable[[int], bool]
    others: _Others | None = None

    def __len__(self) -> int:
        return (self.last_step - self.first_step) * self.accumulate

    def __getitem__(self, number: int) -> Batch:
        step, k = divmod(number, self.accumulate)
        step += self.first_step
        positions, mosaic = self.positions(step)[k], self.mosaic(step)
        sides = zip(*(self.images.canvas(position, mosaic) for position in positions), strict=True)
        height, width = map(max, sides)  # one shape for all
        batch = collate([self.images.draw(position, mosaic, (height, width)) for position in positions])
        return batch if self.others is None else replace(batch, unlabelled=self.others.views(step, k))


@dataclass(frozen=True, slots=True)
class _EvalPlans(Dataset[Batch]):
    """Batch number -> batch."""

    images: EvalImages
    plans: list[list[int]]

    def __len__(self) -> int:
        return len(self.plans)

    def __getitem__(self, number: int) -> Batch:
        return collate([self.images.draw(index) for index in self.plans[number]])


@dataclass(frozen=True, slots=True)
class _Guarded(Dataset["Batch | InputError"]):
    """Hand an InputError over as a value: raised in a worker, torch would bury its sentence in a traceback."""

    plans: _TrainPlans | _EvalPlans

    def __len__(self) -> int:
        return len(self.plans)

    def __getitem__(self, number: int) -> Batch | InputError:
        try:
            return self.plans[number]
        except InputError as error:
            return error


def _batches(plans: _TrainPlans | _EvalPlans, workers: int, pin: bool) -> Iterator[Batch]:
    if workers == 0 or len(plans) == 0:
        for number in range(len(plans)):
            yield plans[number].pin_memory() if pin else plans[number]
        return
    check_picklable(plans)
    loader: DataLoader[Any] = DataLoader(
        _Guarded(plans),
        batch_size=None,
        num_workers=min(workers, len(plans)),
        worker_init_fn=_one_thread_each,
        pin_memory=pin,
        prefetch_factor=2,
        # Its own, or starting the workers would draw from torch's global generator and a resumed run would differ.
        generator=torch.Generator(),
    )
    try:
        for found in loader:
            if isinstance(found, InputError):
                raise found
            yield found
    except RuntimeError as error:
        raise_if_worker_died(error)
        raise


def _one_thread_each(worker: int) -> None:
    """Workers are parallel to each other; threads inside them would only fight for the same cores."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the main process ends its workers
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
