"""Run by `test_processes.py`, alone or under torchrun: train, and let every rank write what it holds at the end.

Without a config, check the means over processes.

The model is the toy detector with a parameter that no loss reaches, and with buffers whose values a sum divided by the
number of processes would change.
"""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn

from tlvision.engine import train as runs
from tlvision.hooks import Context, ObserverHook
from tlvision.plugin import BuildSpec, WeightReport
from tlvision.training.fabric import average, average_gradients, average_numbers
from tlvision_toy.plugin import ToyPlugin


class Dump(ObserverHook):
    def after_fit(self, context: Context) -> None:
        rank = torch.distributed.get_rank() if torch.distributed.is_initialized() else 0
        state = {name: tensor.contiguous() for name, tensor in context.adapter.module.state_dict().items()}
        save_file(state, str(context.run_dir / f"rank{rank}.safetensors"))


def constants() -> torch.Tensor:
    values = torch.rand(1000, generator=torch.Generator().manual_seed(0))
    info = torch.finfo(torch.float32)
    return torch.cat([values, torch.tensor([info.min, info.max, float("-inf"), float("inf")])])


def build(self: ToyPlugin, spec: BuildSpec) -> tuple[Any, WeightReport]:
    adapter, report = upstream(self, spec)
    module: Any = adapter.module
    module.head.unreached = nn.Parameter(torch.ones(3, 3))
    module.head.register_buffer("constants", constants())
    module.backbone.stage1.register_buffer("constants", constants())
    return adapter, report


def with_dump(config: Any, **options: Any) -> Any:
    parts = build_run(config, **options)
    parts.hooks.append(Dump())
    return parts


def check_means() -> None:
    """Check what the processes send each other, without a model."""
    torch.distributed.init_process_group("gloo")
    rank, world = torch.distributed.get_rank(), torch.distributed.get_world_size()
    fabric: Any = SimpleNamespace(world_size=world)
    info = torch.finfo(torch.float32)
    shared = torch.rand(10_000, generator=torch.Generator().manual_seed(0))
    shared[:6] = torch.tensor([info.min, info.max, float("-inf"), float("inf"), float("nan"), -0.0])
    half, low = torch.full((3,), 40_000.0, dtype=torch.float16), torch.tensor([0.1, 0.3], dtype=torch.bfloat16)
    equal = [shared.clone(), half.clone(), low.clone()]
    different = torch.tensor([float(rank), 1.0, float("-inf") if rank else 2.0])
    average(fabric, [*equal, different])
    for here, wanted in zip(equal, (shared, half, low), strict=True):
        assert torch.equal(here.view(torch.uint8), wanted.view(torch.uint8)), "equal values stay equal to the bit"
    assert different.tolist() == [(world - 1) / 2, 1.0, float("-inf")]
    average(fabric, [])

    both, one, none = (torch.nn.Parameter(torch.zeros(2)) for _ in range(3))
    both.grad = torch.full((2,), float(rank))
    one.grad = torch.full((2,), float(world)) if rank == world - 1 else None
    average_gradients(fabric, [both, none, one])
    assert both.grad is not None
    assert both.grad.tolist() == [(world - 1) / 2] * 2
    assert one.grad is not None
    assert one.grad.tolist() == [1.0, 1.0], "zero where a process did not reach it"
    assert none.grad is None, "reached by none"
    average_gradients(fabric, [none])

    rows = {"box": float(rank), **({"mask": float(world)} if rank else {})}
    assert average_numbers(fabric, rows) == {"box": (world - 1) / 2, "mask": float(world - 1)}
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    if not sys.argv[1:]:
        check_means()
        sys.exit()
    upstream, ToyPlugin.build = ToyPlugin.build, build  # type: ignore[method-assign]
    build_run, runs.build_run = runs.build_run, with_dump
    runs.train(sys.argv[1])
