"""The phases of a run, and the memory that each needs: counted where it can be, measured where it cannot."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from tlvision import terminal
from tlvision.data.batches import normalise
from tlvision.training.fabric import choose_precision
from tlvision.training.modes import set_modes
from tlvision.types import counted, listing

if TYPE_CHECKING:
    from rich.console import Console
    from torch import Tensor, nn

    from tlvision.data.batches import Batch
    from tlvision.hooks import Plan
    from tlvision.plugin import Adapter
    from tlvision.training.settings import TrainSettings

STATES_OF = {"adamw": 2, "sgd": 1}
"""Tensors that an optimizer keeps for each parameter."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """A stretch of a run in which the same parameters are trained.

    first, last: its first and its last step, counted from 0.
    freed:       the layer groups of which something is trained from `first` on.
    trained:     how many numbers are trained, of `total`.
    weights, gradients, optimizer, activations: bytes of the model's state, of the gradients, of the optimizer's state,
                 and of what one micro-batch keeps from the forward pass for the backward pass. Without the copies that
                 hooks keep, the images themselves, and what lives only within an operation.
    """

    first: int
    last: int
    freed: tuple[str, ...]
    trained: int
    total: int
    weights: int
    gradients: int
    optimizer: int
    activations: int

    @property
    def memory(self) -> int:
        """Return the sum of the four kinds, in bytes."""
        return self.weights + self.gradients + self.optimizer + self.activations


def find_phases(adapter: Adapter, plan: Plan, settings: TrainSettings, batch: Batch, batch_size: int) -> list[Phase]:
    """Return the phases of `plan`, with the memory of each.

    batch:      some training images on the model's device, two or more. The model runs on them once for each phase;
                its state and the random generators are as before afterwards.
    batch_size: images in a micro-batch of the run, to which the activations are scaled.
    """
    parameters = dict(adapter.module.named_parameters())
    ends = [*plan.boundaries()[1:], plan.duration.total_steps]
    weights = sum(_bytes(tensor) for tensor in [*parameters.values(), *adapter.module.buffers()])
    phases = []
    for first, end in zip(plan.boundaries(), ends, strict=True):
        trained = [parameters[name] for name, row in plan.parameters.items() if row.trainable_at(first)]
        gradients = sum(_bytes(parameter) for parameter in trained)
        activations = activation_bytes(adapter, plan, settings, first, batch)
        phases.append(
            Phase(
                first=first,
                last=end - 1,
                freed=_freed_at(plan, first),
                trained=sum(parameter.numel() for parameter in trained),
                total=sum(parameter.numel() for parameter in parameters.values()),
                weights=weights,
                gradients=gradients,
                optimizer=gradients * STATES_OF[settings.optimizer],
                activations=activations * batch_size // len(batch),
            )
        )
    return phases


def activation_bytes(adapter: Adapter, plan: Plan, settings: TrainSettings, step: int, batch: Batch) -> int:
    """Return the bytes that the losses of `batch` keep for the backward pass, in the modes of `step`."""
    own = {tensor.untyped_storage().data_ptr() for tensor in adapter.module.state_dict().values()}
    kept: dict[int, torch.UntypedStorage] = {}  # held until the end, so that no address is given out twice

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage
        return tensor

    bf16 = choose_precision(settings) == "bf16"
    autocast = torch.autocast(batch.images.device.type, torch.bfloat16) if bf16 else nullcontext()
    with _unchanged(adapter.module), autocast, torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        set_modes(adapter.module, plan, step)
        adapter.loss(normalise(batch.images, adapter.input_spec), batch.targets)
    return sum(storage.nbytes() for storage in kept.values())


@contextmanager
def _unchanged(module: nn.Module) -> Iterator[None]:
    """Put the buffers of `module` and the random generators back at the end."""
    buffers = {name: buffer.clone() for name, buffer in module.named_buffers()}
    devices = [tensor.device for tensor in module.buffers() if tensor.device.type == "cuda"][:1]
    with torch.random.fork_rng(devices), torch.enable_grad():
        try:
            yield
        finally:
            with torch.no_grad():
                for name, buffer in module.named_buffers():
                    buffer.copy_(buffers[name])


def print_phases(console: Console, phases: list[Phase], steps_per_epoch: int, batch_size: int) -> None:
    """Print one line for each phase: unfrozen groups, number of trained parameters, and memory."""
    title = f"phases; memory in MiB, for {counted(batch_size, 'image')} at once"
    numbers = ("parameters trained", "weights", "gradients", "optimizer", "activations", "sum")
    table = terminal.table("from step", "epoch", "freed", *numbers, title=title, right=numbers)
    for phase in phases:
        sizes = (phase.weights, phase.gradients, phase.optimizer, phase.activations, phase.memory)
        table.add_row(
            str(phase.first),
            f"{phase.first / steps_per_epoch:.4g}",
            listing(phase.freed, 4) if phase.first else "",
            f"{phase.trained:,} ({100 * phase.trained / phase.total:.1f} %)",
            *(f"{size / 2**20:.1f}" for size in sizes),
        )
    console.print(table)


def _freed_at(plan: Plan, step: int) -> tuple[str, ...]:
    depths = {row.depth for row in plan.parameters.values() if row.trainable_from == step}
    return tuple(plan.groups.groups[depth].name for depth in sorted(depths, reverse=True))


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()
