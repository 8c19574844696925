"""The sanity check of Adebayo et al. 2018: a map that is the same for random weights does not show the model."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch

from tlvision.engine.model import load

if TYPE_CHECKING:
    from torch import Tensor, nn

    from tlvision.analysis.saliency.methods import Heat, Method
    from tlvision.analysis.saliency.subject import Subject, View
    from tlvision.plugin import Adapter

SHUFFLES = 5
"""Times that the weights are shuffled for one map; d_rise, which takes long, gets one, for the first image only."""
BOUND = 0.5
"""Rank correlation with the map of random weights above which a map is doubtful."""
_MAX_SIDE = 256


def shuffled_weights(module: nn.Module, seed: int) -> dict[str, Tensor]:
    """Return the state of a module in which the values of each parameter are in random order; buffers are unchanged.

    The values keep their mean and spread, so activations neither vanish nor explode, as they may with a fresh
    initialisation between trained batch-norm statistics. `module` is not changed.

    >>> from torch import nn
    >>> shuffled_weights(nn.Linear(3, 1, bias=False), 0)["weight"].shape
    torch.Size([1, 3])
    """
    generator = torch.Generator().manual_seed(seed)
    names = {name for name, _ in module.named_parameters(remove_duplicate=False)}
    state = {}
    for name, tensor in module.state_dict().items():
        value = tensor.detach().clone()
        if name in names:
            order = torch.randperm(value.numel(), generator=generator).to(value.device)
            value = value.flatten()[order].reshape(value.shape)
        state[name] = value
    return state


class RandomTwin:
    """The model of a run with random weights, built when it is first used.

    It has no score floor: a model with random weights is rarely sure, and a detection without a counterpart would
    make the comparison empty.
    """

    def __init__(self, run: Path, device: str | None, seed: int) -> None:
        self._run, self._device, self._seed = run, device, seed

    @cached_property
    def _adapter(self) -> Adapter:
        return load(self._run, device=self._device, score_floor=0.0).adapter

    @cached_property
    def _trained(self) -> dict[str, Tensor]:
        return {name: tensor.detach().clone() for name, tensor in self._adapter.module.state_dict().items()}

    def correlation(self, heat: Heat, method: Method, view: View, subject: Subject) -> float | None:
        """Return the mean rank correlation of a map with those of random weights; None if none of these has heat."""
        module, found = self._adapter.module, []
        for number in range(1 if method.name == "d_rise" else SHUFFLES):
            module.load_state_dict(self._trained)
            module.load_state_dict(shuffled_weights(module, self._seed + number))
            other, _ = method.heat(self._adapter, view, subject)
            if other is not None and np.isfinite(other).all():
                found.append(rank_correlation(heat, other))
        measured = [value for value in found if value is not None]
        return round(fmean(measured), 6) if measured else None


def rank_correlation(first: npt.NDArray[np.floating], second: npt.NDArray[np.floating]) -> float | None:
    """Return Spearman's rank correlation of two maps, equal values with their mean rank; None if one is constant.

    Maps with a side of more than 256 pixels are thinned out first.

    >>> rank_correlation(np.array([[1.0, 2.0, 3.0]]), np.array([[10.0, 30.0, 20.0]]))
    0.5
    """
    step = max(1, -(-max(first.shape) // _MAX_SIDE))
    ranks = [_ranks(values[::step, ::step].ravel()) for values in (first, second)]
    if any(bool((values == values[0]).all()) for values in ranks):
        return None
    return round(float(np.corrcoef(ranks[0], ranks[1])[0, 1]), 6)


def _ranks(values: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks: npt.NDArray[np.float64] = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    return ranks
