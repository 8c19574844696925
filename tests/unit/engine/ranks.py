"""Run by `test_run.py` under torchrun: train, and let every rank write what it holds at the end."""

from __future__ import annotations

import sys
from typing import Any

from safetensors.torch import save_file

from tlvision.engine import train as runs
from tlvision.hooks import Context, ObserverHook


class Dump(ObserverHook):
    def after_fit(self, context: Context) -> None:
        import torch.distributed as dist

        state = {name: tensor.contiguous() for name, tensor in context.adapter.module.state_dict().items()}
        save_file(state, str(context.run_dir / f"rank{dist.get_rank()}.safetensors"))


def with_dump(config: Any, **options: Any) -> Any:
    parts = build_run(config, **options)
    parts.hooks.append(Dump())
    return parts


if __name__ == "__main__":
    build_run, runs.build_run = runs.build_run, with_dump
    runs.train(sys.argv[1])
