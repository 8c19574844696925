"""Leave out of an ONNX graph the channels that are 0, whatever the images, such as the hook `prune` makes.

Where a channel is 0, the convolution that reads it adds 0 for it: without it the results are the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper

from tlvision.hooks.channels.sets import Channels, Ids

Flags = npt.NDArray[np.bool_]
Keep = Callable[[Ids], Flags]


@dataclass(frozen=True, slots=True, eq=False)
class Carried:
    """Channels that a tensor of the graph carries.

    axis: along which they lie, from 0, of `axes`. ids: (length of the axis,) their numbers. zero: (length,) which are
    always 0.
    """

    axis: int
    axes: int
    ids: Ids
    zero: Flags


@dataclass(slots=True, eq=False)
class GraphState:
    """What is known of a graph while its nodes are followed.

    constants: values of the initializers by name. slots: channels along the axes of initializers.
    carried:   what the results of nodes carry, by name. edits: what else has to change, given which channels stay.
    rows:      channels of parts of tensors, of which one has to stay, as of each slot: an empty tensor is none.
    """

    graph: Any
    constants: dict[str, npt.NDArray[Any]]
    channels: Channels = field(default_factory=Channels)
    slots: dict[tuple[str, int], Ids] = field(default_factory=dict)
    carried: dict[str, Carried] = field(default_factory=dict)
    edits: list[Callable[[Keep], None]] = field(default_factory=list)
    rows: list[Ids] = field(default_factory=list)

    def slot(self, name: str, axis: int) -> Ids:
        """Return the channels along an axis of an initializer."""
        if (name, axis) not in self.slots:
            self.slots[name, axis] = self.channels.new(self.constants[name].shape[axis])
        return self.slots[name, axis]

    def fix(self, names: Sequence[str]) -> None:
        """Note that the channels of tensors have to stay."""
        for name in names:
            if name in self.carried:
                self.channels.fix(self.carried[name].ids)

    def replace_input(self, node: Any, position: int, value: npt.NDArray[Any]) -> None:
        """Give a node a constant of its own; an input that is not there yet is appended."""
        name = f"{node.output[0]}/input_{position}"
        self.constants[name] = value
        self.graph.initializer.append(numpy_helper.from_array(value, name))
        if position < len(node.input):
            node.input[position] = name
        else:
            node.input.append(name)


def leave_out_zero_channels(path: Path) -> int:
    """Write the graph in `path` again without channels that are always 0; return how many were left out.

    Operations that are not known here keep the channels that go into them, and so do the outputs of the graph.
    """
    from tlvision.export.shrink_rules import RULES

    model = onnx.load(path)
    graph = model.graph
    _own_vectors(graph)
    state = GraphState(graph, {each.name: numpy_helper.to_array(each) for each in graph.initializer})
    for node in graph.node:
        rule = RULES.get(node.op_type)
        if rule is None or not rule(state, node):
            state.fix(node.input)
    state.fix([each.name for each in graph.output])
    removed = _removed(state)
    if not removed:
        return 0

    def kept(ids: Ids) -> Flags:
        return np.array([root not in removed for root in state.channels.roots(ids).tolist()], bool)

    for edit in state.edits:
        edit(kept)
    for (name, axis), ids in state.slots.items():
        state.constants[name] = np.compress(kept(ids), state.constants[name], axis=axis)
    for each in graph.initializer:
        each.CopyFrom(numpy_helper.from_array(np.asarray(state.constants[each.name], order="C"), each.name))
    del graph.value_info[:]  # shapes of results, which are others now
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return len(removed)


def _removed(state: GraphState) -> set[int]:
    """Return the roots of the channels that are left out: those of rows of 0; each axis and part keeps at least one."""
    while True:
        removed = {
            int(root)
            for ids in state.slots.values()
            for root, free in zip(state.channels.roots(ids).tolist(), state.channels.free(ids).tolist(), strict=True)
            if free
        }
        empty = [
            ids
            for ids in (*state.slots.values(), *state.rows)
            if removed.issuperset(state.channels.roots(ids).tolist())
        ]
        if not empty:
            return removed
        for ids in empty:
            state.channels.fix(ids[:1])


def _own_vectors(graph: Any) -> None:
    """Give each use of a vector a copy: equal biases of two layers are one initializer, but not one set of channels."""
    vectors = {each.name: each for each in graph.initializer if len(each.dims) == 1}
    used: set[str] = set()
    for node in graph.node:
        for position, name in enumerate(node.input):
            if name not in vectors:
                continue
            if name in used:
                copy = onnx.TensorProto()
                copy.CopyFrom(vectors[name])
                copy.name = f"{name}/{node.output[0]}_{position}"
                graph.initializer.append(copy)
                node.input[position] = copy.name
            used.add(name)
