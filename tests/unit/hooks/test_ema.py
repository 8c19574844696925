from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import torch
from torch import nn

from tlvision.hooks.observers.ema import Ema


def make_context() -> Any:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    return SimpleNamespace(adapter=SimpleNamespace(module=module), wants_teacher=False)


def change(module: nn.Module) -> None:
    module(torch.randn(8, 3))  # moves the running statistics and counts a batch
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn_like(parameter))


def test_it_averages_parameters_and_buffers_as_the_equation_says() -> None:
    context = make_context()
    hook = Ema(decay=0.9, warmup=4)
    hook.before_fit(context)
    expected = {name: tensor.clone() for name, tensor in context.adapter.module.state_dict().items()}
    for update in range(1, 6):
        change(context.adapter.module)
        hook.after_step(context)
        keep = 0.9 * (1 - math.exp(-update / 4))
        for name, value in context.adapter.module.state_dict().items():
            expected[name] = keep * expected[name] + (1 - keep) * value if value.is_floating_point() else value.clone()
    weights = hook.evaluation_weights()
    assert weights is not None
    assert set(weights) == set(expected)
    assert {"1.running_mean", "1.num_batches_tracked"} <= set(expected)
    for name, value in expected.items():
        torch.testing.assert_close(weights[name], value)


def test_what_does_not_move_stays_bit_equal() -> None:
    context = make_context()
    hook = Ema(decay=0.9, warmup=0)
    hook.before_fit(context)
    for _ in range(5):
        hook.after_step(context)
    weights = hook.evaluation_weights()
    assert weights is not None
    for name, value in context.adapter.module.state_dict().items():
        assert torch.equal(weights[name], value)


def test_numbers_of_a_buffer_that_are_not_finite_are_copied() -> None:
    """A causal mask holds -inf from the start; a running maximum is -inf until its first batch, and inf for good."""
    context = make_context()
    module = context.adapter.module
    module.register_buffer("mask", torch.tensor([0.0, float("-inf")]))
    module.register_buffer("highest", torch.tensor([float("-inf"), 1.0]))
    module.register_buffer("low", torch.tensor([float("-inf"), 1.0], dtype=torch.float16))
    hook = Ema(decay=0.5, warmup=0)
    hook.before_fit(context)
    hook.after_step(context)
    module.highest.copy_(torch.tensor([2.0, float("inf")]))
    module.low.copy_(torch.tensor([float("-inf"), 2.0]))
    hook.after_step(context)
    weights = hook.evaluation_weights()
    assert weights is not None
    assert weights["mask"].tolist() == [0.0, float("-inf")]
    assert weights["highest"].tolist() == [2.0, float("inf")]
    assert weights["low"].tolist() == [float("-inf"), 1.5]
    module.highest.copy_(torch.tensor([4.0, 3.0]))
    hook.after_step(context)
    assert weights["highest"].tolist() == [3.0, 3.0]


def test_a_restored_average_goes_on_bit_for_bit() -> None:
    straight, resumed = make_context(), make_context()
    first, second = Ema(decay=0.99, warmup=10), Ema(decay=0.99, warmup=10)
    first.before_fit(straight)
    second.before_fit(resumed)
    for step in range(6):
        torch.manual_seed(step)
        change(straight.adapter.module)
        first.after_step(straight)
        if step == 3:
            state = second.state_dict()
            second = Ema(decay=0.99, warmup=10)
            second.load_state_dict(state)
            second.before_fit(resumed)
        torch.manual_seed(step)
        change(resumed.adapter.module)
        second.after_step(resumed)
    left, right = first.evaluation_weights(), second.evaluation_weights()
    assert left is not None
    assert right is not None
    assert all(torch.equal(left[name], right[name]) for name in left)
