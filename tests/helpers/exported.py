"""Models and their graphs for tests of exports."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tlvision.conformance.case import Case
from tlvision.plugin import get_plugin
from tlvision.plugin.export import ExportGraphs

TRANSFORMERS = Path(__file__).parents[1] / "plugins/transformers/configs"
OPENMMLAB = Path(__file__).parents[1] / "plugins/openmmlab/configs"


def varied_adapter(plugin: str, arch: str, *, side: int = 128, one_to_one: bool = False) -> tuple[Any, Case]:
    """Return a fresh adapter, in eval mode, whose scores differ from place to place, and the case that draws for it.

    So no choice of the best hangs on rounding. one_to_one: of YOLO, that branch of the head.
    """
    case = Case(get_plugin(plugin), arch, image_size=side)
    adapter, _ = case.build()
    if one_to_one:
        adapter.module.end2end = True  # type: ignore[assignment]
    torch.manual_seed(1)
    heads = tuple(path for group in adapter.groups if group.role == "head" for path in group.modules)
    with torch.no_grad():
        for name, parameter in adapter.module.named_parameters():
            if name.startswith(heads) and parameter.ndim > 1:
                parameter.add_(torch.randn_like(parameter) * (0.02 + 0.3 * parameter.std()))
            elif name.startswith(heads) and name.endswith("bias"):
                parameter.clamp_(min=-3.0)  # priors of rare objects would leave hardly a score above the floor
        for norm in adapter.module.modules():
            if isinstance(norm, torch.nn.BatchNorm2d):
                norm.momentum = 1.0  # statistics of the next pass, so that no value explodes
        adapter.module.train()
        images, targets = case.batch(adapter, "square")
        kinds = (images, images.flip(3), torch.randn_like(images), 0.3 * torch.randn_like(images))
        adapter.loss(torch.cat(kinds), [*targets] * len(kinds))
    adapter.module.eval()
    return adapter, case


def export_graphs(adapter: Any, images: Tensor) -> ExportGraphs:
    """Return the graphs of an adapter, without gradients."""
    with torch.no_grad():
        graphs: ExportGraphs = adapter.export_graphs(images)
    return graphs
