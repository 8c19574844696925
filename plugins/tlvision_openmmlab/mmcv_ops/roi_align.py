"""RoIAlign by the mean (torchvision's kernel) and by the maximum of the samples (plain torch).

Source: He et al., "Mask R-CNN", ICCV 2017, section 3.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torchvision
from torch import Tensor

from tlvision.plugin import constants
from tlvision_openmmlab.mmcv_ops.kernels import Operators, bilinear, gradients, working

_MAXIMUM = 0


def roi_align_forward(
    features: Tensor,
    rois: Tensor,
    output: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Write the pooled features into `output`: (K, C, aligned_height, aligned_width).

    features:  (N, C, H, W). rois: (K, 5), image index and x0 y0 x1 y1 in pixels of the image.
    argmax_y, argmax_x: as `output` for the maximum, else empty; get the row and the column of the sample that is the
               maximum, counted inside its bin.
    sampling_ratio: samples along each side of a bin; 0 for one a pixel of `features`.
    pool_mode: 0 for the maximum of the samples, 1 for their mean.
    aligned:   whether the centre of the first pixel is at 0.5, not at 0; else a RoI is at least one pixel wide.
    """
    values, size = working(features), (aligned_height, aligned_width)
    if pool_mode != _MAXIMUM:
        boxes = rois.to(values.dtype)
        output.copy_(torchvision.ops.roi_align(values, boxes, size, spatial_scale, sampling_ratio, aligned))
    elif len(rois):
        grid = _grid(rois.to(values.dtype), size, spatial_scale, sampling_ratio, aligned)
        _write_maxima(values, rois[:, 0].long(), grid, output, (argmax_y, argmax_x))


def roi_align_backward(
    grad_output: Tensor,
    rois: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    grad_input: Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Write the gradient of the features into `grad_input`, (N, C, H, W)."""
    grad, size = working(grad_output), (aligned_height, aligned_width)
    boxes = rois.to(grad.dtype)
    if pool_mode != _MAXIMUM:
        found = torch.ops.torchvision._roi_align_backward(
            grad, boxes, spatial_scale, *size, *grad_input.shape, sampling_ratio, aligned
        )
        grad_input.copy_(found)
        return
    grid = _grid(boxes, size, spatial_scale, sampling_ratio, aligned)
    y = grid.places(0, working(argmax_y))  # (K, C, bins_y, bins_x)
    x = grid.places(1, working(argmax_x))
    # Each channel has maxima of its own, so each becomes an image of one channel.
    images, channels, height, width = grad_input.shape
    plane = (rois[:, :1].long() * channels + torch.arange(channels, device=rois.device)).flatten()  # (K * C,)
    y, x = y.flatten(0, 1).flatten(1), x.flatten(0, 1).flatten(1)

    def sample(planes: Tensor) -> Tensor:
        return bilinear(planes, plane, y, x)

    planes = grad_input.view(images * channels, 1, height, width)
    (found,) = gradients(sample, [planes], grad.reshape(len(plane), 1, size[0] * size[1]))
    grad_input.copy_(found.view_as(grad_input))


class _Grid(NamedTuple):
    """The sample positions of RoIs; each field is (K, 2) as y, x, in pixels of the features."""

    start: Tensor
    bin: Tensor
    samples: Tensor

    def places(self, axis: int, index: Tensor) -> Tensor:
        """Return the places along y (0) or x (1) of the samples with `index` in their bins, (K, C, bins_y, bins_x)."""
        start, length, samples = (field[:, axis, None, None, None] for field in self)
        numbers = torch.arange(index.shape[2 + axis], device=index.device, dtype=start.dtype)
        numbers = numbers[:, None] if axis == 0 else numbers
        return start + (numbers + (index + 0.5) / samples) * length


def _grid(rois: Tensor, size: tuple[int, int], scale: float, ratio: int, aligned: bool) -> _Grid:
    start, end = (rois[:, sides] * scale - 0.5 * aligned for sides in ([2, 1], [4, 3]))
    length = end - start if aligned else (end - start).clamp(min=1)
    bins = length / constants(size, length)
    count = torch.full_like(bins, ratio) if ratio > 0 else bins.ceil().clamp(min=1)
    return _Grid(start, bins, count)


def _write_maxima(features: Tensor, batch: Tensor, grid: _Grid, output: Tensor, argmax: tuple[Tensor, Tensor]) -> None:
    best = torch.full_like(output, -torch.inf, dtype=features.dtype)
    rows, columns = grid.samples.amax(dim=0).long().tolist()
    for row in range(rows):
        for column in range(columns):
            having = ((grid.samples[:, 0] > row) & (grid.samples[:, 1] > column)).nonzero()[:, 0]
            part = _Grid(*(field[having] for field in grid))
            shape = (len(having), 1, *output.shape[2:])
            y = part.places(0, features.new_full(shape, row)).flatten(1)
            x = part.places(1, features.new_full(shape, column)).flatten(1)
            found = bilinear(features, batch[having], y, x).view(len(having), *output.shape[1:])
            better = found > best[having]
            best[having] = torch.where(better, found, best[having])
            for places, number in zip(argmax, (row, column), strict=True):
                places[having] = torch.where(better, number, places[having])
    output.copy_(best)


OPERATORS: Operators = {"roi_align_forward": roi_align_forward, "roi_align_backward": roi_align_backward}
