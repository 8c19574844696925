"""What operations of torch do with channels.

A rule notes what the result carries. It returns False if it cannot follow the operation; the channels of all its
arguments are fixed then.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tlvision.hooks.channels.sets import Ids, moved_axis
from tlvision.hooks.channels.trace import State, Value

Rule = Callable[[State, tuple[Any, ...], Any], bool]
aten: Any = torch.ops.aten


def _convolution(state: State, args: tuple[Any, ...], result: Any) -> bool:
    images, weight, bias, _, _, _, transposed, _, groups = args[:9]
    name = state.names.get(id(weight))
    depthwise = not transposed and groups == weight.shape[0] == images.shape[1]
    if name is None or (groups > 1 and not depthwise):
        return False
    axis = 1 if transposed else 0
    rows = state.slot(name, axis, weight.shape[axis], makes=True)
    if not _add_bias(state, bias, rows):
        return False
    if depthwise and groups > 1:
        read = state.value(images)
        if read is None:
            return False
        state.channels.join(rows, read.ids)
        if not read.vanishes:
            state.channels.fix(rows)
    else:
        _read(state, images, 1, state.slot(name, 1 - axis, weight.shape[1 - axis], makes=False))
    state.values[id(result)] = Value(1, rows)
    return True


def _matrix_product(state: State, args: tuple[Any, ...], result: Any) -> bool:
    """Follow a linear layer: inputs (N, in) times the transposed weight (in, out), and a bias."""
    bias, inputs, weight = args[:3] if len(args) > 2 else (None, *args)
    name = state.transposed.get(id(weight))
    if name is None or inputs.ndim != 2:
        return False
    rows = state.slot(name, 0, weight.shape[1], makes=True)
    if not _add_bias(state, bias, rows):
        return False
    _read(state, inputs, 1, state.slot(name, 1, weight.shape[0], makes=False))
    state.values[id(result)] = Value(1, rows)
    return True


def _add_bias(state: State, bias: Tensor | None, rows: Ids) -> bool:
    """Join the rows of a weight with the elements of its bias; False if the bias is no parameter."""
    if bias is None:
        return True
    name = state.names.get(id(bias))
    if name is not None:
        state.channels.join(state.slot(name, 0, len(bias), makes=True), rows)
    return name is not None


def _read(state: State, tensor: Tensor, axis: int, columns: Ids) -> None:
    """Join the columns of a weight with the channels that they read: these can be left out if they vanish."""
    read = state.value(tensor)
    if read is not None and read.axis == axis and len(read.ids) == len(columns):
        state.channels.join(columns, read.ids)
        if read.vanishes:
            return
    state.fix(tensor)
    state.channels.fix(columns)


def _transpose(state: State, args: tuple[Any, ...], result: Any) -> bool:
    name = state.names.get(id(args[0]))
    if name is None:
        return _permute(state, (args[0], [1, 0]), result)
    state.transposed[id(result)] = name
    return True


def _batch_norm(state: State, args: tuple[Any, ...], result: Any) -> bool:
    images, vectors = args[0], [each for each in args[1:5] if each is not None]
    read = state.value(images)
    carried = [state.value(each) for each in vectors]
    if read is None or read.axis != 1 or None in carried:
        return False
    for each in carried:
        assert each is not None
        state.channels.join(each.ids, read.ids)
    output = result[0] if isinstance(result, tuple | list) else result
    # A norm without scales gives -mean / deviation for a channel of zeros.
    state.values[id(output)] = Value(1, read.ids, vanishes=args[1] is not None)
    return True


def _elementwise(*, product: bool) -> Rule:
    """Return the rule of sums (both must vanish) or of products (one must)."""

    def rule(state: State, args: tuple[Any, ...], result: Any) -> bool:
        tensors = [each for each in args[:2] if isinstance(each, Tensor)]
        carried = [(each, value) for each in tensors if (value := state.value(each)) is not None]
        if not carried:
            return True
        # Axes are counted from the last one, as broadcasting does.
        places = {value.axis - tensor.ndim for tensor, value in carried}
        lengths = {len(value.ids) for _, value in carried}
        others = [each for each in tensors if state.value(each) is None]
        if len(places) > 1 or len(lengths) > 1 or any(_along(each, *places) > 1 for each in others):
            return False
        first = carried[0][1].ids
        for _, value in carried[1:]:
            state.channels.join(first, value.ids)
        numbers = len(args[:2]) - len(carried)
        states = [value.vanishes for _, value in carried]
        vanishes = any(states) if product else all(states) and numbers == 0
        state.values[id(result)] = Value(result.ndim + places.pop(), first, vanishes=vanishes)
        return True

    return rule


def _along(tensor: Tensor, place: int) -> int:
    """Return the length of an axis that is counted from the last one, -1; 1 if there is none."""
    return tensor.shape[place] if -place <= tensor.ndim else 1


def _unary(*, keeps_zero: bool) -> Rule:
    """Return the rule of what is done to every element, or to every map of a channel, for itself."""

    def rule(state: State, args: tuple[Any, ...], result: Any) -> bool:
        value = state.value(args[0])
        output = result[0] if isinstance(result, tuple | list) else result
        if value is not None:
            state.values[id(output)] = Value(value.axis, value.ids, vanishes=value.vanishes and keeps_zero)
        return True

    return rule


def _hardtanh(state: State, args: tuple[Any, ...], result: Any) -> bool:
    low = args[1] if len(args) > 1 else -1.0
    high = args[2] if len(args) > 2 else 1.0
    return _unary(keeps_zero=low <= 0 <= high)(state, args, result)


def _pool(state: State, args: tuple[Any, ...], result: Any) -> bool:
    value = state.value(args[0])
    if value is not None and value.axis != 1:
        return False
    return _unary(keeps_zero=True)(state, args, result)


def _mean(state: State, args: tuple[Any, ...], result: Any) -> bool:
    value = state.value(args[0])
    if value is None:
        return True
    axes = {axis % args[0].ndim for axis in (args[1] or [])} if len(args) > 1 else set()
    kept = len(args) > 2 and args[2]
    if not axes or value.axis in axes:
        return False
    axis = value.axis if kept else value.axis - sum(each < value.axis for each in axes)
    state.values[id(result)] = Value(axis, value.ids, vanishes=value.vanishes)
    return True


def _concatenate(state: State, args: tuple[Any, ...], result: Any) -> bool:
    axis = (args[1] if len(args) > 1 else 0) % result.ndim
    values = [state.value(each) for each in args[0]]
    found = [each for each in values if each is not None]
    if not found:
        return True
    if len(found) < len(values) or any(each.axis != found[0].axis for each in found):
        return False
    if found[0].axis == axis:
        ids = np.concatenate([each.ids for each in found])
    else:
        ids = found[0].ids
        for each in found[1:]:
            if len(each.ids) != len(ids):
                return False
            state.channels.join(ids, each.ids)
    for each in found:
        if not each.vanishes:
            state.channels.fix(each.ids)
    state.values[id(result)] = Value(found[0].axis, ids)
    return True


def _split(state: State, args: tuple[Any, ...], result: Any) -> bool:
    value = state.value(args[0])
    if value is None:
        return True
    axis = (args[2] if len(args) > 2 else 0) % args[0].ndim
    start = 0
    for part in result:
        ids = value.ids
        if value.axis == axis:
            ids = value.ids[start : start + part.shape[axis]]
            start += part.shape[axis]
        state.values[id(part)] = Value(value.axis, ids, vanishes=value.vanishes)
    return True


def _slice(state: State, args: tuple[Any, ...], result: Any) -> bool:
    value = state.value(args[0])
    if value is None:
        return True
    given = dict(zip(("axis", "start", "end", "step"), args[1:], strict=False))
    part = slice(given.get("start"), given.get("end"), given.get("step"))
    ids = value.ids[part] if value.axis == given.get("axis", 0) % args[0].ndim else value.ids
    state.values[id(result)] = Value(value.axis, ids, vanishes=value.vanishes)
    return True


def _permute(state: State, args: tuple[Any, ...], result: Any) -> bool:
    value = state.value(args[0])
    if value is not None:
        axis = [each % args[0].ndim for each in args[1]].index(value.axis)
        state.values[id(result)] = Value(axis, value.ids, vanishes=value.vanishes)
    return True


def _swap(state: State, args: tuple[Any, ...], result: Any) -> bool:
    axes = list(range(args[0].ndim))
    axes[args[1]], axes[args[2]] = axes[args[2]], axes[args[1]]
    return _permute(state, (args[0], axes), result)


def _reshape(state: State, args: tuple[Any, ...], result: Any) -> bool:
    value = state.value(args[0])
    if value is None:
        return True
    axis = moved_axis(value.axis, args[0].shape, result.shape)
    if axis is None:
        return False
    state.values[id(result)] = Value(axis, value.ids, vanishes=value.vanishes)
    return True


def _rules() -> Mapping[Any, Rule]:
    same, other = _unary(keeps_zero=True), _unary(keeps_zero=False)
    added, multiplied = _elementwise(product=False), _elementwise(product=True)
    table: list[tuple[Rule, str]] = [
        (_convolution, "convolution mkldnn_convolution"),
        (_matrix_product, "addmm mm"),
        (_transpose, "t"),
        (_batch_norm, "native_batch_norm _native_batch_norm_legit_no_training cudnn_batch_norm"),
        (added, "add add_ sub sub_"),
        (multiplied, "mul mul_"),
        (same, "relu relu_ silu silu_ gelu hardswish hardswish_ leaky_relu leaky_relu_ mish tanh abs neg clone"),
        (_hardtanh, "hardtanh hardtanh_"),
        (same, "elu elu_ detach alias _to_copy contiguous upsample_nearest2d upsample_bilinear2d"),
        (other, "sigmoid sigmoid_ hardsigmoid hardsigmoid_ exp rsqrt reciprocal sqrt"),
        (_pool, "max_pool2d_with_indices avg_pool2d _adaptive_avg_pool2d adaptive_max_pool2d"),
        (_mean, "mean amax sum"),
        (_concatenate, "cat"),
        (_split, "split split_with_sizes chunk"),
        (_slice, "slice"),
        (_permute, "permute"),
        (_swap, "transpose"),
        (_reshape, "view _unsafe_view reshape unsqueeze squeeze"),
    ]
    return {getattr(aten, name): rule for rule, names in table for name in names.split()}


RULES = _rules()
"""By operation."""
