"""Set the least important channels to zero, and keep them there while the others are trained.

Sources: Li et al., "Pruning Filters for Efficient ConvNets", ICLR 2017 (arXiv 1608.08710): the filters with the
smallest norm of each layer are pruned. Fang et al., "DepGraph: Towards Any Structural Pruning", CVPR 2023 (arXiv
2301.12900): channels that depend on each other are judged and pruned together.
Differences: channels stay in the model with the value 0 until `tlvision export` leaves them out, so that a checkpoint
has the shapes of its architecture. Norms are L2 (L1 in the first paper), divided by their mean in the layer before
those of all weights that make a channel are averaged.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import numpy.typing as npt
from pydantic import Field

from tlvision.hooks.base import Context, SetupHook
from tlvision.hooks.plan import Plan
from tlvision.plugin import map_groups
from tlvision.plugin.export import Exportable
from tlvision.types import InputError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from tlvision.hooks.channels.trace import Network, Slot
    from tlvision.plugin import Adapter, GroupMap

_SIDE = 128
"""Least side of the image of zeros that is sent through the network to see what belongs together."""
_TINY = 1e-12


class Prune(SetupHook):
    """Set channels of the network to zero before training, and keep them at zero.

    ratio:    share of the channels of each layer that is pruned, above 0 and below 1; fewer where the rest would not be
              a multiple of `multiple`.
    groups:   layer groups that are pruned, by name; None for all. Channels that reach into others stay.
    multiple: the channels that stay in a layer are a multiple of this number, and at least as many: hardware computes
              with whole vectors.

    Start from a model that was fine-tuned (`model.weights`: its checkpoint). The metric drops before the first step and
    recovers with training. `tlvision export` leaves the channels out: files get smaller and faster, the training and
    the checkpoint do not.

    InputError if the model family has no export, a group is unknown, or nothing can be pruned.

    >>> Prune(ratio=0.3).key()
    'prune'
    """

    needs = (Exportable,)

    def __init__(
        self,
        *,
        ratio: Annotated[float, Field(gt=0, lt=1)] = 0.3,
        groups: list[str] | None = None,
        multiple: Annotated[int, Field(ge=1)] = 8,
    ) -> None:
        self.ratio, self.groups, self.multiple = ratio, groups, multiple
        self._pruned: dict[str, Tensor] = {}
        self._sentence = ""

    def prepare(self, adapter: Adapter) -> None:
        """Choose the channels, and set them to zero."""
        import torch

        network = _trace(adapter)
        tensors = {**dict(adapter.module.named_parameters()), **dict(adapter.module.named_buffers())}
        allowed = _allowed(map_groups(adapter.module, adapter.groups), self.groups)
        layers = _layers(network, tensors, allowed)
        chosen: dict[Slot, list[int]] = {}
        pruned = total = 0
        for layer in layers:
            count = self._count(len(layer))
            total += len(layer)
            pruned += count
            for number in np.argsort(_importance(layer, tensors), kind="stable")[:count].tolist():
                for slot, index in layer[number]:
                    if slot.makes:
                        chosen.setdefault(slot, []).append(index)
        if not pruned:
            raise InputError(
                f"prune: no layer of the chosen groups can lose {self.ratio:.0%} of its channels and keep a multiple "
                f"of {self.multiple}. Set a higher ratio, a lower multiple, or other groups"
            )
        self._pruned = {f"{slot.name}/{slot.axis}": torch.tensor(sorted(each)) for slot, each in chosen.items()}
        with torch.no_grad():
            for tensor, axis, places in self._places(adapter.module):
                tensor.index_fill_(axis, places, 0)
        self._sentence = f"prune: {pruned:,} of {total:,} channels are 0; `tlvision export` leaves them out"

    def setup(self, plan: Plan) -> Plan:
        """Return the plan as it is."""
        return plan

    def before_fit(self, context: Context) -> None:
        """Say how many channels are pruned."""
        context.notices.append(self._sentence)

    def after_backward(self, context: Context) -> None:
        """Set the gradients of what is zero to zero: no optimizer moves it then, and no average sees it moved."""
        for tensor, axis, places in self._places(context.adapter.module):
            if tensor.grad is not None:
                tensor.grad.index_fill_(axis, places, 0)

    def state_dict(self) -> dict[str, Any]:
        """Return which elements are zero: the name and axis of each tensor with the places along it."""
        return dict(self._pruned)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take the channels that the run has chosen when it started."""
        self._pruned = dict(state)

    def _count(self, channels: int) -> int:
        """Return how many channels of a layer are pruned.

        >>> [Prune(ratio=0.3)._count(channels) for channels in (8, 32, 256, 20)]
        [0, 8, 72, 4]
        """
        kept = -(-channels * (1 - self.ratio) // self.multiple) * self.multiple
        return max(0, channels - int(max(kept, self.multiple)))

    def _places(self, module: nn.Module) -> Iterator[tuple[Tensor, int, Tensor]]:
        """Yield each tensor with pruned channels, their axis, and where they lie along it."""
        tensors = {**dict(module.named_parameters()), **dict(module.named_buffers())}
        for key, places in self._pruned.items():
            name, _, axis = key.rpartition("/")
            yield tensors[name], int(axis), places.to(tensors[name].device)


_Layer = list[list[tuple["Slot", int]]]
"""Channels of the same kind; each as the places that it has in tensors."""


def _trace(adapter: Adapter) -> Network:
    """Return the channels of a model, by a pass with images of zeros through the graphs that an export writes."""
    from tlvision.hooks.channels.trace import trace_channels

    assert isinstance(adapter, Exportable)
    training = adapter.module.training
    adapter.module.eval()
    multiple = adapter.input_spec.multiple_of
    side = -(-_SIDE // multiple) * multiple
    first = next(adapter.module.parameters())
    graphs = adapter.export_graphs(first.new_zeros(2, 3, side, side)).graphs.values()
    network = trace_channels(adapter.module, [(graph.module, list(graph.inputs.values())) for graph in graphs])
    adapter.module.train(training)
    return network


def _allowed(groups: GroupMap, names: Sequence[str] | None) -> set[str]:
    """Return the parameters of the layer groups with these names; InputError with the nearest name."""
    depths = set(range(len(groups.groups))) if names is None else {groups.depth_of(name) for name in names}
    return {name for name, depth in groups.parameters.items() if depth in depths}


def _layers(network: Network, tensors: Mapping[str, Tensor], allowed: set[str]) -> list[_Layer]:
    """Return the channels that can be left out; those with places along the same axes are one layer."""
    members: dict[int, list[tuple[Slot, int]]] = {}
    for slot, ids in network.slots.items():
        free = network.channels.free(ids)
        for index, root in enumerate(network.channels.roots(ids).tolist()):
            if free[index]:
                members.setdefault(root, []).append((slot, index))
    layers: dict[frozenset[Slot], _Layer] = {}
    for member in members.values():
        weights = [slot.name for slot, _ in member if slot.makes and tensors[slot.name].ndim > 1]
        if weights and allowed.issuperset(weights):
            layers.setdefault(frozenset(slot for slot, _ in member), []).append(member)
    return list(layers.values())


def _importance(layer: _Layer, tensors: Mapping[str, Tensor]) -> npt.NDArray[np.float64]:
    """Return (channels,) the mean, over the weights that make a channel, of its norm relative to those of the layer."""
    weights = [[(slot, at) for slot, at in each if slot.makes and slot.name.endswith("weight")] for each in layer]
    slots = {slot for each in weights for slot, _ in each}
    norms = {slot: _norms(tensors[slot.name], slot.axis) for slot in slots}
    means = {slot: np.mean([norms[slot][at] for each in weights for one, at in each if one == slot]) for slot in slots}
    return np.array([np.mean([norms[slot][at] / max(means[slot], _TINY) for slot, at in each]) for each in weights])


def _norms(tensor: Tensor, axis: int) -> npt.NDArray[np.float64]:
    """Return the L2 norm of each part of a tensor along an axis."""
    flat = tensor.detach().transpose(0, axis).reshape(tensor.shape[axis], -1)  # (channels, elements of one)
    return np.asarray(flat.double().norm(dim=1).cpu())
