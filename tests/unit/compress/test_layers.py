"""The decoding behind the last layers with weights stays in float, whatever the model is."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tlvision.compress.layers import FEWEST, decode_tail, weighted_layers
from tlvision.plugin.export import TAP_PREFIX

openvino = pytest.importorskip("openvino", reason="an extra")
opset = pytest.importorskip("openvino.opset13", reason="an extra")


def convolution(images: Any, channels: int, out: int, side: int, name: str) -> Any:
    weights = opset.constant(np.ones((out, channels, side, side), np.float32))
    edge = side // 2
    node = opset.convolution(images, weights, [1, 1], [edge, edge], [edge, edge], [1, 1])
    node.set_friendly_name(name)
    return node


def named(node: Any, name: str) -> Any:
    node.set_friendly_name(name)
    return node


def detector() -> Any:
    """Return a graph like that of YOLO: two layers, then a small convolution, arithmetic and a sigmoid."""
    images = opset.parameter([1, 3, 8, 8], np.float32, name="images")
    first = convolution(images, 3, 48, 3, "first")
    second = convolution(named(opset.relu(first), "activation"), 48, 16, 3, "second")
    expected = convolution(named(opset.softmax(second, 1), "softmax"), 16, 1, 1, "expectation")
    boxes = named(opset.multiply(expected, opset.constant(np.float32(8))), "stride")
    scores = named(opset.sigmoid(second), "sigmoid")
    model = openvino.Model([boxes, scores, first], [images], "detector")
    for name, output in zip(("boxes", "scores", "level"), model.outputs, strict=True):
        output.set_names({name})
    return model


def test_everything_behind_the_last_layer_with_weights_is_the_tail() -> None:
    model = detector()
    assert 16 < FEWEST <= 3 * 48 * 9
    # "first" is an output too: nothing is behind it on that path, and the layer itself is no tail.
    assert decode_tail(model) == ["expectation", "sigmoid", "softmax", "stride"]


def test_statistics_of_a_tap_stay_in_float_and_change_nothing_else() -> None:
    model = detector()
    activation = next(node for node in model.get_ordered_ops() if node.get_friendly_name() == "activation")
    mean = named(opset.reduce_mean(activation, opset.constant(np.array([2, 3])), False), "tap mean")
    mean.output(0).set_names({f"{TAP_PREFIX}middle"})
    model.add_outputs([mean.output(0)])
    # The activation, from which both go on, is no part of the tail.
    assert decode_tail(model) == ["expectation", "sigmoid", "softmax", "stride", "tap mean"]


def test_layers_with_weights_are_counted_and_none_of_a_float_model_is_quantised() -> None:
    assert list(weighted_layers(detector())) == [("first", False), ("second", False)]


def test_a_layer_with_quantised_weights_is_one_that_computes_with_integers() -> None:
    images = opset.parameter([1, 3, 8, 8], np.float32)
    weights = opset.constant(np.ones((48, 3, 3, 3), np.int8))
    scaled = opset.multiply(opset.convert(weights, np.float32), opset.constant(np.float32(0.1)))
    node = opset.convolution(images, scaled, [1, 1], [1, 1], [1, 1], [1, 1])
    node.set_friendly_name("layer")
    assert list(weighted_layers(openvino.Model([node], [images]))) == [("layer", True)]
