"""Device, precision and processes, through Lightning Fabric."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Literal

import torch
from lightning_fabric import Fabric

from tlvision.types import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tlvision.training.settings import TrainSettings


def make_fabric(settings: TrainSettings) -> Fabric:
    """Return a launched Fabric for this process; several processes are those that `torchrun` started.

    Raises InputError where `train.device` or `train.precision` asks for what the machine does not have.
    """
    use_cuda = _use_cuda(settings)
    world = int(os.environ.get("WORLD_SIZE", "1"))
    local = int(os.environ.get("LOCAL_WORLD_SIZE", str(world)))
    fabric = Fabric(
        accelerator="cuda" if use_cuda else "cpu",
        devices=local,
        num_nodes=max(world // local, 1),
        strategy="ddp" if world > 1 else "auto",
        precision="bf16-mixed" if choose_precision(settings) == "bf16" else "32-true",
    )
    fabric.launch()
    return fabric


def choose_precision(settings: TrainSettings) -> Literal["fp32", "bf16"]:
    """Return what "auto" means on this machine: bf16 (mixed) where the GPU has it, else fp32.

    Raises InputError where bf16 is asked for of a GPU that does not have it.
    """
    if settings.precision == "fp32":
        return "fp32"
    use_cuda = _use_cuda(settings)
    has_bf16 = use_cuda and torch.cuda.is_bf16_supported(including_emulation=False)
    if settings.precision == "auto":
        return "bf16" if has_bf16 else "fp32"
    if use_cuda and not has_bf16:
        raise InputError("train.precision: 'bf16' was asked for, but this GPU has no bf16; use 'auto' or 'fp32'")
    return "bf16"


def _use_cuda(settings: TrainSettings) -> bool:
    has_cuda = torch.cuda.is_available()
    if settings.device == "cuda" and not has_cuda:
        raise InputError("train.device: 'cuda' was asked for, but this machine has no usable GPU; use 'auto' or 'cpu'")
    return has_cuda and settings.device != "cpu"


def place(fabric: Fabric, module: torch.nn.Module) -> None:
    """Move a model to this process's device, its convolutions in the layout that runs fastest there.

    Channels last: a training step of YOLOv8n took 12 % less on a CPU, and GPUs want it for half precision. It changes
    the order in memory, not what a tensor says. Not for bf16 on a CPU: there torch 2.15's gradients of a depthwise
    convolution on maps of one pixel (SSDlite at 96 px) were not finite in one step of ten or so, with any weights.
    """
    fabric.to_device(module)
    with fabric.autocast():
        if fabric.device.type == "cpu" and torch.is_autocast_enabled("cpu"):
            return
    module.to(memory_format=torch.channels_last)


def leave(fabric: Fabric) -> None:
    """Wait for all processes, then end their connection; without this one may exit while others still talk to it."""
    if fabric.world_size > 1:
        fabric.barrier()
        torch.distributed.destroy_process_group()


def average(fabric: Fabric, tensors: Sequence[torch.Tensor]) -> None:
    """Replace each tensor by its mean over all processes, in place, in one message for each dtype.

    This is how gradients are reduced, rather than through DistributedDataParallel: that wrapper decides at
    construction which parameters it reduces, and silently leaves out any that are freed later.
    """
    if fabric.world_size == 1:
        return
    by_dtype: dict[torch.dtype, list[torch.Tensor]] = {}
    for tensor in tensors:
        by_dtype.setdefault(tensor.dtype, []).append(tensor)
    for group in by_dtype.values():
        flat = torch.cat([tensor.reshape(-1) for tensor in group])  # (sum of sizes,)
        torch.distributed.all_reduce(flat)
        mean = flat / fabric.world_size
        parts = torch.split(mean, [tensor.numel() for tensor in group])
        for tensor, part in zip(group, parts, strict=True):
            tensor.copy_(part.view_as(tensor))
