"""EoMT: images of any size, and the predictions of every layer, neither of which upstream's model gives."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from tlvision.plugin import record

_TYPES = ("eomt", "eomt_dinov3")


def is_eomt(model: Any) -> bool:
    """Return whether `model` is an EoMT, on DINOv2 or DINOv3."""
    return model.config.model_type in _TYPES


def layers_before_queries(model: Any) -> int:
    """Return the number of layers that see only the image; the queries come in before the next."""
    return int(model.config.num_hidden_layers - model.config.num_blocks)


class GridSize:
    """A forward pre-hook on EoMT that sets the size of its grid of patches to that of the images."""

    def __call__(self, module: Any, inputs: tuple[Any, ...], keywords: dict[str, Any]) -> None:
        """Read height and width of the first argument, (N, 3, H, W)."""
        images = inputs[0] if inputs else keywords["pixel_values"]
        patch = module.config.patch_size
        module.grid_size = (images.shape[-2] // patch, images.shape[-1] // patch)


class PositionGrid:
    """A pre-hook and a hook on the learned positions' owner: positions of a square grid for the grid of the images."""

    def __init__(self) -> None:
        self.height = self.width = 0

    def read_size(self, module: nn.Module, inputs: tuple[Any, ...]) -> None:
        """Keep the size of the grid. module: the embedding of patches, before it runs."""
        patch = module.patch_size[0]  # type: ignore[index]
        self.height, self.width = inputs[0].shape[-2] // patch, inputs[0].shape[-1] // patch

    def interpolate(self, module: nn.Module, inputs: object, output: Tensor) -> Tensor:
        """Return positions, (1, H W, C), interpolated from the square grid they were learned on."""
        side = round(output.shape[1] ** 0.5)
        if (self.height, self.width) == (side, side):
            return output
        grid = output.transpose(1, 2).reshape(1, -1, side, side)
        size = (self.height, self.width)
        return nn.functional.interpolate(grid, size, mode="bicubic", align_corners=False).flatten(2).transpose(1, 2)


def allow_any_size(model: Any) -> None:
    """Let EoMT run on images whose sides are multiples of its patches, not only on squares of `image_size`.

    A second call changes nothing.
    """
    if any(isinstance(hook, GridSize) for hook in model._forward_pre_hooks.values()):
        return
    model.register_forward_pre_hook(GridSize(), with_kwargs=True)
    positions = getattr(model.embeddings, "position_embeddings", None)
    if positions is not None:
        grid = PositionGrid()
        model.embeddings.patch_embeddings.register_forward_pre_hook(grid.read_size)
        positions.register_forward_hook(grid.interpolate)


@contextmanager
def record_layers(model: Any) -> Iterator[list[dict[str, Tensor]]]:
    """Collect what EoMT predicts after each of its last layers while it runs inside the with-block.

    Yields a list that is complete after the with-block: mask logits (N, Q, h, w) and class logits (N, Q, C + 1).
    """
    layers: list[dict[str, Tensor]] = []
    with (
        record(model, "mask_head") as queries,
        record(model, "upscale_block") as maps,
        record(model, "class_predictor") as classes,
    ):
        yield layers
    for query, map_, logits in zip(queries, maps, classes, strict=True):
        masks = torch.einsum("bqc,bchw->bqhw", query, map_)
        layers.append({"masks_queries_logits": masks, "class_queries_logits": logits})
