"""What the runs with upstream's own trainers, for comparison, have in common."""

from __future__ import annotations

import resource
from pathlib import Path

from tlvision.plugin import BuildSpec, Plugin


def memory_peak() -> int:
    """Return the peak memory of this process so far in bytes: allocated on the GPU if it was used, else resident."""
    import torch

    if torch.cuda.is_available() and torch.cuda.max_memory_allocated() > 0:
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def write_start(plugin: Plugin, spec: BuildSpec, path: Path) -> Path:
    """Write the pretrained tensors that `plugin` loads, with upstream's keys, to `path`, and return it.

    What the weights do not fill is left out, so that upstream initialises it.
    """
    import torch

    adapter, report = plugin.build(spec)
    filled = {entry.split(":", 1)[0] for entry in (*report.loaded, *report.remapped)}
    torch.save({key: tensor for key, tensor in adapter.module.state_dict().items() if key in filled}, path)
    return path
