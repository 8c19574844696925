"""What the operations of an ONNX graph do with channels.

A rule notes what the result carries, and what has to change in the node when channels are left out. It returns False if
it cannot follow the node; the channels of all its inputs stay then.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from onnx import helper

from tlvision.export.shrink import Carried, Flags, GraphState
from tlvision.hooks.channels.sets import Ids

Rule = Callable[[GraphState, Any], bool]


def _attributes(node: Any) -> dict[str, Any]:
    return {each.name: helper.get_attribute_value(each) for each in node.attribute}


def _convolution(state: GraphState, node: Any) -> bool:
    images, weight = node.input[0], node.input[1]
    if weight not in state.constants:
        return False
    groups = _attributes(node).get("group", 1)
    values = state.constants[weight]
    transposed = node.op_type == "ConvTranspose"
    read = state.carried.get(images)
    depthwise = groups > 1 and not transposed and groups == len(values) and values.shape[1] == 1
    if groups > 1 and (not depthwise or read is None):
        return False
    axis = 1 if transposed else 0
    rows = state.slot(weight, axis)
    zero = ~values.any(axis=tuple(each for each in range(values.ndim) if each != axis))
    if depthwise:
        assert read is not None
        state.channels.join(rows, read.ids)
        zero = zero | read.zero
        state.edits.append(lambda kept: _set_group(node, int(kept(rows).sum())))
    else:
        _read(state, images, 1, state.slot(weight, 1 - axis))
    zero = zero & _bias(state, node, rows)
    state.carried[node.output[0]] = Carried(1, values.ndim, rows, zero)
    return True


def _set_group(node: Any, groups: int) -> None:
    for attribute in node.attribute:
        if attribute.name == "group":
            attribute.i = groups


def _bias(state: GraphState, node: Any, rows: Ids) -> Flags:
    """Join the rows of a weight with its bias; return which elements of that are 0."""
    if len(node.input) < 3 or not node.input[2]:
        return np.ones(len(rows), bool)
    name = node.input[2]
    if name not in state.constants or state.constants[name].shape != (len(rows),):
        state.channels.fix(rows)
        return np.zeros(len(rows), bool)
    state.channels.join(state.slot(name, 0), rows)
    return np.asarray(state.constants[name] == 0)


def _read(state: GraphState, tensor: str, axis: int, columns: Ids) -> None:
    """Join the columns of a weight with the channels that they read; those that are not always 0 stay."""
    read = state.carried.get(tensor)
    if read is None or read.axis != axis or len(read.ids) != len(columns):
        state.fix([tensor])
        state.channels.fix(columns)
        return
    state.channels.join(columns, read.ids)
    state.channels.fix(columns[~read.zero])


def _gemm(state: GraphState, node: Any) -> bool:
    attributes = _attributes(node)
    weight = node.input[1]
    if weight not in state.constants or attributes.get("transA", 0):
        return False
    axis = 0 if attributes.get("transB", 0) else 1
    rows = state.slot(weight, axis)
    zero = ~state.constants[weight].any(axis=1 - axis) & _bias(state, node, rows)
    _read(state, node.input[0], 1, state.slot(weight, 1 - axis))
    state.carried[node.output[0]] = Carried(1, 2, rows, zero)
    return True


def _batch_norm(state: GraphState, node: Any) -> bool:
    read = state.carried.get(node.input[0])
    vectors = list(node.input[1:5])
    if read is None or read.axis != 1 or any(each not in state.constants for each in vectors):
        return False
    for each in vectors:
        state.channels.join(state.slot(each, 0), read.ids)
    zero = (state.constants[vectors[0]] == 0) & (state.constants[vectors[1]] == 0)
    state.carried[node.output[0]] = replace(read, zero=np.asarray(zero))
    return True


def _elementwise(*, product: bool) -> Rule:
    """Return the rule of sums (all must be 0) or of products (one must)."""

    def rule(state: GraphState, node: Any) -> bool:
        moving = [state.carried[each] for each in node.input if each in state.carried]
        if not moving:
            return True
        first = moving[0]
        if any((each.axis, each.axes, len(each.ids)) != (first.axis, first.axes, len(first.ids)) for each in moving):
            return False
        zeros = [each.zero for each in moving]
        for name in node.input:
            if name not in state.carried:
                zero = _constant(state, name, first)
                if zero is None:
                    return False
                zeros.append(zero)
        for each in moving[1:]:
            state.channels.join(first.ids, each.ids)
        combine = np.logical_or if product else np.logical_and
        state.carried[node.output[0]] = replace(first, zero=combine.reduce(zeros))
        return True

    return rule


def _constant(state: GraphState, name: str, along: Carried) -> Flags | None:
    """Return where a constant is 0 along the channels of a result; None if it is no number or vector."""
    values = state.constants.get(name)
    if values is None:
        return None
    if values.size == 1:
        return np.full(len(along.ids), bool(values.reshape(-1)[0] == 0))
    axis = along.axis - along.axes + values.ndim
    if axis < 0 or values.size != len(along.ids) or values.shape[axis] != values.size:
        return None
    state.channels.join(state.slot(name, axis), along.ids)
    return np.asarray(values.reshape(-1) == 0)


def _unary(*, keeps_zero: bool) -> Rule:
    """Return the rule of what is done to each element, or to each map of a channel, for itself."""

    def rule(state: GraphState, node: Any) -> bool:
        read = state.carried.get(node.input[0])
        if read is not None:
            zero = read.zero if keeps_zero else np.zeros(len(read.ids), bool)
            state.carried[node.output[0]] = replace(read, zero=zero)
        return True

    return rule


def _clip(state: GraphState, node: Any) -> bool:
    """Follow a clip, which leaves 0 alone if no limit is beyond it."""
    low, high = ([*node.input[1:], "", ""][number] for number in range(2))
    keeps_zero = all(
        not name or (name in state.constants and bool((sign * state.constants[name] >= 0).all()))
        for name, sign in ((low, -1), (high, 1))
    )
    return _unary(keeps_zero=keeps_zero)(state, node)


def _resize(state: GraphState, node: Any) -> bool:
    """Follow a resize of places; a graph of one fixed size names all lengths of the result, the channels too."""
    read = state.carried.get(node.input[0])
    if read is None:
        return True
    sizes = state.constants.get(node.input[3]) if len(node.input) > 3 and node.input[3] else None
    if sizes is not None:
        if len(sizes) != read.axes or sizes[read.axis] != len(read.ids):
            return False

        def edit(kept: Callable[[Ids], Flags]) -> None:
            changed = sizes.copy()
            changed[read.axis] = kept(read.ids).sum()
            state.replace_input(node, 3, changed)

        state.edits.append(edit)
    return _unary(keeps_zero=True)(state, node)


def _quotient(state: GraphState, node: Any) -> bool:
    divisor = state.constants.get(node.input[1])
    if node.input[1] in state.carried or divisor is None or divisor.size != 1:
        return False
    return _unary(keeps_zero=True)(state, node)


def _pool(state: GraphState, node: Any) -> bool:
    read = state.carried.get(node.input[0])
    if read is not None and read.axis != 1:
        return False
    return _unary(keeps_zero=True)(state, node)


def _mean(state: GraphState, node: Any) -> bool:
    read = state.carried.get(node.input[0])
    if read is None:
        return True
    axes = state.constants.get(node.input[1]) if len(node.input) > 1 else None
    if axes is None or read.axis in (axes := axes % read.axes):
        return False
    if not _attributes(node).get("keepdims", 1):
        read = replace(read, axis=read.axis - int((axes < read.axis).sum()), axes=read.axes - len(axes))
    state.carried[node.output[0]] = read
    return True


def _concatenate(state: GraphState, node: Any) -> bool:
    axis = _attributes(node)["axis"]
    read = [state.carried.get(each) for each in node.input]
    found = [each for each in read if each is not None]
    if not found:
        return True
    if len(found) < len(read) or any(each.axis != axis for each in found):
        return False
    ids = np.concatenate([each.ids for each in found])
    zero = np.concatenate([each.zero for each in found])
    state.carried[node.output[0]] = replace(found[0], ids=ids, zero=zero)
    return True


def _split(state: GraphState, node: Any) -> bool:
    read = state.carried.get(node.input[0])
    if read is None:
        return True
    axis = _attributes(node).get("axis", 0)
    if read.axis != axis:
        for name in node.output:
            state.carried[name] = read
        return True
    if len(node.input) > 1:
        if node.input[1] not in state.constants:
            return False
        sizes = state.constants[node.input[1]].tolist()
    else:
        size = -(-len(read.ids) // len(node.output))
        sizes = [min(size, len(read.ids) - size * number) for number in range(len(node.output))]
    ends = np.cumsum(sizes)
    parts = [slice(int(end) - size, int(end)) for end, size in zip(ends, sizes, strict=True)]
    for name, part in zip(node.output, parts, strict=True):
        state.carried[name] = replace(read, ids=read.ids[part], zero=read.zero[part])

    def edit(kept: Callable[[Ids], Flags]) -> None:
        counts = [int(kept(read.ids[part]).sum()) for part in parts]
        state.replace_input(node, 1, np.array(counts, np.int64))
        for attribute in [each for each in node.attribute if each.name == "num_outputs"]:
            node.attribute.remove(attribute)

    state.edits.append(edit)
    state.rows += [read.ids[part] for part in parts]
    return True


def _gather(state: GraphState, node: Any) -> bool:
    read = state.carried.get(node.input[0])
    if read is None:
        return node.input[1] not in state.carried
    places = state.constants.get(node.input[1])
    if places is None or places.ndim != 1 or _attributes(node).get("axis", 0) != read.axis or (places < 0).any():
        return False
    ids = read.ids[places]
    state.channels.fix(ids)  # what asks for channels by number gets them
    state.carried[node.output[0]] = replace(read, ids=ids, zero=read.zero[places])
    state.edits.append(
        lambda kept: state.replace_input(node, 1, (np.cumsum(kept(read.ids)) - 1)[places].astype(places.dtype))
    )
    return True


def _permute(state: GraphState, node: Any) -> bool:
    read = state.carried.get(node.input[0])
    if read is not None:
        axis = list(_attributes(node)["perm"]).index(read.axis)
        state.carried[node.output[0]] = replace(read, axis=axis)
    return True


def _nothing(state: GraphState, node: Any) -> bool:
    """Follow what reads the shape alone, which is known when the graph runs."""
    return True


def _rules() -> Mapping[str, Rule]:
    table: list[tuple[Rule, str]] = [
        (_convolution, "Conv ConvTranspose"),
        (_gemm, "Gemm"),
        (_batch_norm, "BatchNormalization"),
        (_elementwise(product=False), "Add Sub"),
        (_elementwise(product=True), "Mul"),
        (_quotient, "Div"),
        (_unary(keeps_zero=True), "Relu LeakyRelu Elu Tanh Gelu HardSwish Mish Identity Abs Neg Sqrt"),
        (_unary(keeps_zero=False), "Sigmoid HardSigmoid Exp Cast"),
        (_clip, "Clip"),
        (_pool, "MaxPool AveragePool GlobalAveragePool GlobalMaxPool"),
        (_resize, "Resize"),
        (_mean, "ReduceMean"),
        (_concatenate, "Concat"),
        (_split, "Split"),
        (_gather, "Gather"),
        (_permute, "Transpose"),
        (_nothing, "Shape"),
    ]
    return {name: rule for rule, names in table for name in names.split()}


RULES = _rules()
"""By the name of the operation."""
