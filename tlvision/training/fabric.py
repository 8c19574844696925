"""Device, precision and processes, through Lightning Fabric."""

from __future__ import annotations

import os
import resource
import sys
from typing import TYPE_CHECKING, Literal

import torch
from lightning_fabric import Fabric

from tlvision.types import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tlvision.training.settings import TrainSettings


def make_fabric(settings: TrainSettings) -> Fabric:
    """Return a launched Fabric for this process; several processes are those that `torchrun` started.

    Raises InputError if `train.device` or `train.precision` asks for a device or precision that the machine lacks.
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

    Raises InputError if bf16 is set for a GPU without it.
    """
    if settings.precision == "fp32":
        return "fp32"
    use_cuda = _use_cuda(settings)
    has_bf16 = use_cuda and torch.cuda.is_bf16_supported(including_emulation=False)
    if settings.precision == "auto":
        return "bf16" if has_bf16 else "fp32"
    if use_cuda and not has_bf16:
        raise InputError("train.precision: 'bf16' is set, but this GPU has no bf16. Use 'auto' or 'fp32'.")
    return "bf16"


def _use_cuda(settings: TrainSettings) -> bool:
    has_cuda = torch.cuda.is_available()
    if settings.device == "cuda" and not has_cuda:
        raise InputError("train.device: 'cuda' is set, but this machine has no usable GPU. Use 'auto' or 'cpu'.")
    return has_cuda and settings.device != "cpu"


def place(fabric: Fabric, module: torch.nn.Module) -> None:
    """Move a model to this process's device, its convolutions in the layout that runs fastest there.

    Channels last: a training step of YOLOv8n took 12 % less on a CPU, and GPUs need it for half precision. It changes
    the order in memory, not the values. Not for bf16 on a CPU: there torch 2.15's gradients of a depthwise
    convolution of SSDlite, on maps of a few pixels at 96 px, were at times not finite: in 3 of 4 runs of 8 steps.
    """
    fabric.to_device(module)
    with fabric.autocast():
        if fabric.device.type == "cpu" and torch.is_autocast_enabled("cpu"):
            return
    module.to(memory_format=torch.channels_last)


def peak_memory(device: torch.device) -> int:
    """Return the peak memory of this process so far in bytes: allocated on the GPU that it uses, else resident."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def leave(fabric: Fabric) -> None:
    """Wait for all processes, then end their connection; without this one may exit while others still talk to it."""
    if fabric.world_size > 1:
        fabric.barrier()
        torch.distributed.destroy_process_group()


def average(fabric: Fabric, tensors: Sequence[torch.Tensor]) -> None:
    """Replace each tensor by its mean over all processes, in place; values that all processes share keep their bits.

    tensors: of any floating-point dtype, the same shapes in every process.

    The mean is process 0's value plus the mean difference to it. Where all values are equal the difference is exactly
    zero, while a sum divided by the number of processes is rounded: (a + a + a) / 3 differs from a for one float32 in
    six, and the sum of the smallest numbers is -inf.
    """
    if fabric.world_size == 1:
        return
    for group in _by_dtype(tensors):
        flat = torch.cat([tensor.detach().reshape(-1) for tensor in group])  # (sum of sizes,)
        first = flat.clone()
        torch.distributed.broadcast(first, 0)
        wide = torch.promote_types(flat.dtype, torch.float32)  # a sum of float16 overflows from 65504 on
        base = torch.where(first.isfinite(), first, 0.0).to(wide)
        same = (flat == first) | (flat.isnan() & first.isnan())  # the difference of two infinities is nan
        difference = torch.where(same, 0.0, flat.to(wide) - base)
        torch.distributed.all_reduce(difference)
        mean = (base + difference / fabric.world_size).to(flat.dtype)
        _put_back(torch.where(difference == 0, first, mean), group)


def average_gradients(fabric: Fabric, parameters: Sequence[torch.nn.Parameter]) -> None:
    """Replace the gradients by their means over all processes, in one message for each dtype.

    parameters: the same ones in every process. One that no process's batch has reached keeps `grad` None, so that the
                optimizer passes it over (no weight decay), as it does in a single process; one that some have reached
                counts as zero in the others.

    This is how gradients are reduced, rather than through DistributedDataParallel: that wrapper decides at
    construction which parameters it reduces, and silently leaves out any that are freed later.
    """
    if fabric.world_size == 1 or not parameters:
        return
    reached = torch.tensor([float(each.grad is not None) for each in parameters], device=parameters[0].device)
    torch.distributed.all_reduce(reached)
    gradients = []
    for parameter, count in zip(parameters, reached.tolist(), strict=True):
        if count:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            gradients.append(parameter.grad)
    for group in _by_dtype(gradients):
        flat = torch.cat([gradient.reshape(-1) for gradient in group])  # (sum of sizes,)
        torch.distributed.all_reduce(flat)
        _put_back(flat / fabric.world_size, group)


def average_numbers(fabric: Fabric, values: Mapping[str, float]) -> dict[str, float]:
    """Return the mean of each named number over all processes; a process without a name counts as 0 for it.

    The names may differ between processes: the message is an object, so no process waits for a longer one.

    >>> from types import SimpleNamespace
    >>> average_numbers(SimpleNamespace(world_size=1), {"box": 0.5})
    {'box': 0.5}
    """
    if fabric.world_size == 1:
        return dict(values)
    gathered: list[dict[str, float]] = [{}] * fabric.world_size
    torch.distributed.all_gather_object(gathered, dict(values))
    return mean_by_name(gathered)


def mean_by_name(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return the mean of each name over the rows; one that a row does not have counts as 0 there.

    >>> mean_by_name([{"box": 1.0}, {"box": 0.5, "mask": 0.25}])
    {'box': 0.75, 'mask': 0.125}
    """
    names = dict.fromkeys(name for row in rows for name in row)  # in order of appearance, the same in every process
    return {name: sum(row.get(name, 0.0) for row in rows) / len(rows) for name in names}


def _by_dtype(tensors: Sequence[torch.Tensor]) -> list[list[torch.Tensor]]:
    groups: dict[torch.dtype, list[torch.Tensor]] = {}
    for tensor in tensors:
        groups.setdefault(tensor.dtype, []).append(tensor)
    return list(groups.values())


def _put_back(flat: torch.Tensor, group: Sequence[torch.Tensor]) -> None:
    for tensor, part in zip(group, torch.split(flat, [tensor.numel() for tensor in group]), strict=True):
        tensor.copy_(part.view_as(tensor))
