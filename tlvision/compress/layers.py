"""Find, in a graph of OpenVINO, the layers that can be quantised and the decoding behind them that cannot.

Integers of 8 bits are good enough for the features of a network, and too coarse for what is computed from its last
layers: coordinates of boxes up to the size of the image, and scores near 0. So everything behind the last layer with
weights, on each path to an output, stays in float. That needs no names, and holds for each model family.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from math import prod
from typing import Any

from tlvision.plugin.export import TAP_PREFIX

_WITH_WEIGHTS = {
    "Convolution",
    "GroupConvolution",
    "ConvolutionBackpropData",
    "GroupConvolutionBackpropData",
    "MatMul",
}
_BETWEEN = {"Convert", "FakeQuantize", "Multiply", "Reshape", "Subtract", "Transpose"}
"""What may stand between a constant and the layer whose weights it holds."""
FEWEST = 1024
"""A layer with fewer weights is a part of the decoding: the expectation over distances of YOLO is one with 16."""


def decode_tail(model: Any) -> list[str]:
    """Return the names of all operations behind the last layers with weights, sorted. model: `openvino.Model`.

    Statistics of taps, which an export adds for `tlvision.monitoring`, stay in float as well; what they are computed
    from is left to the other outputs.
    """
    sources = {result: result.input_value(0) for result in model.get_results()}
    taps = [each.get_node() for each in sources.values() if each.get_any_name().startswith(TAP_PREFIX)]
    outputs = [each.get_node() for each in sources.values() if not each.get_any_name().startswith(TAP_PREFIX)]
    network = _reached(outputs, lambda node: False)
    return sorted(
        _reached(outputs, lambda node: _num_weights(node) >= FEWEST)
        | _reached(taps, lambda node: node.get_friendly_name() in network)
    )


def _reached(nodes: Sequence[Any], ends: Callable[[Any], bool]) -> set[str]:
    """Return the names of operations from which these nodes are computed, up to and without those where it ends."""
    found: set[str] = set()
    waiting = list(nodes)
    while waiting:
        node = waiting.pop()
        name = node.get_friendly_name()
        if name in found or node.get_type_name() in {"Constant", "Parameter"} or ends(node):
            continue
        found.add(name)
        waiting += [value.get_node() for value in node.input_values()]
    return found


def weighted_layers(model: Any) -> Iterator[tuple[str, bool]]:
    """Yield the name of each layer with `FEWEST` weights or more, and whether it computes with integers."""
    for node in model.get_ordered_ops():
        if _num_weights(node) >= FEWEST:
            path = _weight_path(node)
            whole = path[-1].get_element_type().get_type_name() in {"i8", "u8"}
            yield node.get_friendly_name(), whole or any(each.get_type_name() == "FakeQuantize" for each in path)


def _num_weights(node: Any) -> int:
    """Return the number of weights of a layer; 0 for any other operation."""
    if node.get_type_name() not in _WITH_WEIGHTS:
        return 0
    source = _weight_path(node)[-1]
    return prod(source.get_output_shape(0)) if source.get_type_name() == "Constant" else 0


def _weight_path(node: Any) -> list[Any]:
    """Return what leads to the second input of a layer, the constant with its weights last if it has one."""
    path = [node.input_value(1).get_node()]
    while path[-1].get_type_name() in _BETWEEN:
        path.append(path[-1].input_value(0).get_node())
    return path
