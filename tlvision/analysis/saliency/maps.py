"""Class activation maps: from the features of a tap, and the gradient of a score at them, to one heat map.

Every function takes features (C, h, w) and their gradient of the same shape, and returns (h, w) float32, at least 0.
The formulas are a line or two each. pytorch-grad-cam 1.5.7 and captum 0.9.0 have them too; on a small network all
three agree to 1e-6. Those libraries call a module themselves, which an adapter's predictions are not, collect gradients
of all parameters or of one layer a call, and enlarge the map over the padding of the network input.
"""

from __future__ import annotations

import torch
from torch import Tensor


def eigen_cam(features: Tensor, gradient: Tensor | None = None) -> Tensor:
    """Project the features on their first principal component (Muhammad and Yeasin 2020); no gradient is used.

    A component has no sign of its own. It is turned so that its largest value is positive (Chung and Ying 2025).

    >>> eigen_cam(torch.tensor([[[0.0, 0.0, 6.0]], [[0.0, 0.0, -8.0]]])).tolist()
    [[0.0, 0.0, 6.666666507720947]]
    """
    points = features.detach().float().flatten(1).T  # (h * w, C)
    points = points - points.mean(dim=0)
    left, values, _ = torch.linalg.svd(points.double(), full_matrices=False)
    projection: Tensor = left[:, 0] * values[0]  # points @ first right vector
    if -projection.min() > projection.max():
        projection = -projection
    return projection.float().reshape(features.shape[1:]).clamp(min=0)


def grad_cam(features: Tensor, gradient: Tensor) -> Tensor:
    """Weight each channel by the mean of its gradient over the map (Selvaraju et al. 2017).

    >>> grad_cam(torch.tensor([[[1.0, 2.0]]]), torch.tensor([[[4.0, 0.0]]])).tolist()
    [[2.0, 4.0]]
    """
    weights = gradient.float().mean(dim=(1, 2), keepdim=True)
    return (weights * features.detach().float()).sum(dim=0).clamp(min=0)


def hires_cam(features: Tensor, gradient: Tensor) -> Tensor:
    """Weight each feature by its own gradient, place by place (HiResCAM, Draelos and Carin 2020).

    With the score of one detection this is ODAM (Zhao and Chan 2023) without its smoothing: other objects of the class
    stay cold, because the score does not depend on the features at their places.

    >>> hires_cam(torch.tensor([[[1.0, 2.0]]]), torch.tensor([[[4.0, 0.0]]])).tolist()
    [[4.0, 0.0]]
    """
    return (gradient.float() * features.detach().float()).sum(dim=0).clamp(min=0)


CAMS = {"eigen_cam": eigen_cam, "grad_cam": grad_cam, "hires_cam": hires_cam}
"""Name of the method -> function."""
