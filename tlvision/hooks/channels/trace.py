"""Follow channels through passes of a network, operation by operation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from tlvision.hooks.channels.sets import Channels, Ids


@dataclass(frozen=True, slots=True)
class Slot:
    """An axis of a parameter or buffer whose elements are channels.

    makes: whether the elements make the values of a channel, so that it vanishes where they are 0: rows of weights,
           biases, scales of norms; not the columns that read it, nor running statistics.
    """

    name: str
    axis: int
    makes: bool


@dataclass(frozen=True, slots=True)
class Network:
    """The channels of a network, and their numbers along the axes of parameters and buffers."""

    channels: Channels
    slots: Mapping[Slot, Ids]


def trace_channels(module: nn.Module, passes: Sequence[tuple[nn.Module, Sequence[Tensor]]]) -> Network:
    """Return the channels of a network that can be told apart by what it computes.

    module: has the parameters, by whose names the slots go.
    passes: parts of the network in eval mode, which share the parameters of `module`, with example inputs.

    Channels that go into an operation that is not known here, and the results of the passes, are fixed.
    """
    import torch

    tracer = _Tracer(State.of(module))
    for part, inputs in passes:
        with torch.no_grad(), tracer:
            results = part(*inputs)
        tracer.state.fix(results)
    for slot, ids in tracer.state.slots.items():
        if slot.name in tracer.state.opaque:
            tracer.state.channels.fix(ids)
    return Network(tracer.state.channels, tracer.state.slots)


@dataclass(frozen=True, slots=True, eq=False)
class Value:
    """Channels that a tensor carries.

    axis:     along which they lie, from 0. ids: (length of the axis,) their numbers.
    vanishes: whether a channel is 0 here where all that makes it is 0.
    """

    axis: int
    ids: Ids
    vanishes: bool = True


@dataclass(slots=True, eq=False)
class State:
    """What is known of the tensors of a pass, by their identity.

    transposed: names of matrices by their transposed views. opaque: names of those that something unknown reads.
    kept: all tensors so far; one that is gone could give its identity to another.
    """

    names: Mapping[int, str]
    channels: Channels = field(default_factory=Channels)
    slots: dict[Slot, Ids] = field(default_factory=dict)
    values: dict[int, Value] = field(default_factory=dict)
    transposed: dict[int, str] = field(default_factory=dict)
    opaque: set[str] = field(default_factory=set)
    kept: list[Any] = field(default_factory=list)

    @classmethod
    def of(cls, module: nn.Module) -> State:
        """Return the state before a pass; a tensor with several names goes by the first."""
        names: dict[int, str] = {}
        for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
            names.setdefault(id(tensor), name)
        return cls(names)

    def slot(self, name: str, axis: int, length: int, *, makes: bool) -> Ids:
        """Return the channels of an axis of a parameter."""
        slot = Slot(name, axis, makes)
        if slot not in self.slots:
            self.slots[slot] = self.channels.new(length)
        return self.slots[slot]

    def value(self, tensor: Any) -> Value | None:
        """Return what a tensor carries; a vector among the parameters carries channels from the start."""
        if id(tensor) not in self.values and id(tensor) in self.names and tensor.ndim == 1:
            name = self.names[id(tensor)]
            makes = not name.rpartition(".")[2].startswith("running_")
            ids = self.slot(name, 0, len(tensor), makes=makes)
            self.values[id(tensor)] = Value(0, ids, vanishes=makes)
        return self.values.get(id(tensor))

    def fix(self, *values: Any) -> None:
        """Note that the channels of tensors, in lists and tuples as well, cannot be left out."""
        for each in values:
            if isinstance(each, list | tuple):
                self.fix(*each)
            elif isinstance(each, Tensor) and (found := self.value(each)) is not None:
                self.channels.fix(found.ids)
            elif isinstance(each, Tensor) and id(each) in self.names:
                self.opaque.add(self.names[id(each)])


class _Tracer(TorchDispatchMode):  # type: ignore[no-untyped-call]
    def __init__(self, state: State) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.state = state

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Compute, and follow the channels of the arguments to the result."""
        from tlvision.hooks.channels.rules import RULES

        result = func(*args, **(kwargs or {}))
        self.state.kept.append((args, result))
        rule = RULES.get(func.overloadpacket)
        if rule is None or not rule(self.state, args, result):
            self.state.fix(*args, *(kwargs or {}).values())
        return result
